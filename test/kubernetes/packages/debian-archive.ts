/**
 * Debian's archive, read with an apt of our own: configuration of the host (proxy, keys), but sources, lists and cache in a directory that is thrown away, so that
 * the host's apt stays as it is and no root is needed.
 */
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { findArchive, nodeSuite, readAptTargets, runRequired } from '@lichen/lab'

export interface DebianArchive {
  /** Fetches the packages and unpacks them over each other into `root`, without running their scripts. Gives back their versions. */
  unpack(packages: readonly string[], root: string): Promise<ReadonlyMap<string, string>>
  /** Fetches the upstream tarball of a source package. Gives back its path. */
  fetchSource(name: string): Promise<string>
}

/** The archive of the host's own apt sources, its lists fetched into `directory`. @throws LAB_MIRROR, LAB_PROGRAM_FAILED. */
export async function openDebianArchive(directory: string, log: (line: string) => void): Promise<DebianArchive> {
  const { site } = findArchive(await readAptTargets(log))
  const parts = join(directory, 'sources')
  for (const path of [parts, join(directory, 'lists/partial'), join(directory, 'cache/archives/partial'), join(directory, 'source')]) mkdirSync(path, { recursive: true })
  const lines = ['Types: deb deb-src', `URIs: ${site}`, `Suites: ${nodeSuite}`, 'Components: main', 'Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg']
  writeFileSync(join(parts, 'debian.sources'), lines.join('\n') + '\n')
  const settings = {
    'Dir::Etc::SourceList': '/dev/null',
    'Dir::Etc::SourceParts': parts,
    'Dir::State::lists': join(directory, 'lists'),
    'Dir::Cache': join(directory, 'cache'),
    'Acquire::Languages': 'none',
    'APT::Sandbox::User': 'root',
  }
  const options = ['--quiet', ...Object.entries(settings).flatMap(([name, value]) => ['-o', `${name}=${value}`])]
  await runRequired(['apt-get', ...options, 'update'])
  return {
    async unpack(packages, root) {
      const target = join(directory, `debs-${packages[0]}`)
      mkdirSync(target, { recursive: true })
      mkdirSync(root, { recursive: true })
      await runRequired(['apt-get', ...options, 'download', ...packages], { cwd: target })
      const versions = new Map<string, string>()
      for (const file of readdirSync(target)) {
        await runRequired(['dpkg-deb', '--extract', join(target, file), root])
        const { stdout } = await runRequired(['dpkg-deb', '--show', '--showformat=${Package} ${Version}', join(target, file)])
        const [name = '', version = ''] = stdout.split(' ')
        versions.set(name, version)
      }
      return versions
    },
    async fetchSource(name) {
      const target = join(directory, 'source')
      await runRequired(['apt-get', ...options, 'source', '--download-only', '--tar-only', name], { cwd: target })
      const file = readdirSync(target).find((entry) => entry.startsWith(`${name}_`) && entry.includes('.orig.tar.'))
      if (!file) throw new Error(`the source package ${name} has no upstream tarball`)
      return join(target, file)
    },
  }
}
