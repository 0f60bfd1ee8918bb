/** A small apt repository made of packages that are built here: real .debs, served from a directory. */
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { chmodSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

export interface PackageSource {
  readonly name: string
  readonly version: string
  /** Path → content. */
  readonly files?: Readonly<Record<string, string>>
  readonly scripts?: Readonly<Record<string, string>>
  readonly fields?: string
}

/** Builds the packages into `directory`, with the index that apt reads. */
export function buildRepository(directory: string, sources: readonly PackageSource[]): void {
  mkdirSync(directory, { recursive: true })
  for (const { name, version, files = {}, scripts = {}, fields = '' } of sources) {
    const tree = join(directory, `${name}-${version}.tree`)
    mkdirSync(join(tree, 'DEBIAN'), { recursive: true })
    writeFileSync(join(tree, 'DEBIAN/control'), `Package: ${name}\nVersion: ${version}\nArchitecture: all\nMaintainer: Lichen tests <tests@localhost>\n${fields}Description: a package of the tests\n`)
    for (const [path, content] of Object.entries(files)) {
      mkdirSync(join(tree, path, '..'), { recursive: true })
      writeFileSync(join(tree, path), content)
    }
    for (const [script, content] of Object.entries(scripts)) {
      writeFileSync(join(tree, 'DEBIAN', script), content)
      chmodSync(join(tree, 'DEBIAN', script), 0o755)
    }
    execFileSync('dpkg-deb', ['--root-owner-group', '-Zgzip', '--build', tree, join(directory, `${name}_${version}_all.deb`)], { stdio: 'ignore' })
  }
  const entries = readdirSync(directory).filter((name) => name.endsWith('.deb')).map((name) => {
    const bytes = readFileSync(join(directory, name))
    const control = execFileSync('dpkg-deb', ['--field', join(directory, name)], { encoding: 'utf8' }).trim()
    return `${control}\nFilename: ./${name}\nSize: ${bytes.length}\nSHA256: ${createHash('sha256').update(bytes).digest('hex')}\n`
  })
  writeFileSync(join(directory, 'Packages'), entries.join('\n'))
}
