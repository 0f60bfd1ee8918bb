/** One Debian package from a tree of files. */
import { readdirSync, lstatSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { runRequired } from '@lichen/lab'
import { debianArchitecture } from './recipe.js'

export interface DebOptions {
  readonly name: string
  readonly version: string
  readonly depends: string
  readonly description: string
  /** The files as they are installed; `DEBIAN/` may hold scripts. */
  readonly tree: string
  /** The directory that the package goes into, as NAME_VERSION_ARCHITECTURE.deb. */
  readonly directory: string
}

export interface Deb {
  /** Inside the directory. */
  readonly file: string
  /** Its control file, as an index of packages repeats it; without the last line's end. */
  readonly control: string
}

/** Builds the package. Everything in it belongs to root, whoever builds it and under whatever umask. */
export async function buildDeb(options: DebOptions): Promise<Deb> {
  const { name, version, tree } = options
  const architecture = debianArchitecture()
  const control = [
    ...[`Package: ${name}`, `Version: ${version}`, `Architecture: ${architecture}`, 'Maintainer: Lichen tests <packages@lichen.test>', 'Section: admin', 'Priority: optional'],
    ...[`Installed-Size: ${Math.ceil(measure(tree) / 1024)}`, ...(options.depends ? [`Depends: ${options.depends}`] : []), `Description: ${options.description}`],
  ].join('\n')
  mkdirSync(join(tree, 'DEBIAN'), { recursive: true })
  writeFileSync(join(tree, 'DEBIAN/control'), `${control}\n`)
  await runRequired(['chmod', '-R', 'u=rwX,go=rX', tree])
  const file = `${name}_${version}_${architecture}.deb`
  // the fastest level: xz takes a minute and more for what is unpacked on this machine anyway
  await runRequired(['dpkg-deb', '--root-owner-group', '-Zzstd', '-z1', '--build', tree, join(options.directory, file)])
  return { file, control }
}

function measure(directory: string): number {
  return readdirSync(directory).reduce((sum, name) => {
    const path = join(directory, name)
    const entry = lstatSync(path)
    return sum + (entry.isDirectory() ? measure(path) : entry.size)
  }, 0)
}
