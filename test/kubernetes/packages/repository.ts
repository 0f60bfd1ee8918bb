/**
 * A flat apt repository, laid out as pkgs.k8s.io is: `deb [signed-by=…] URL ./`, and its key at URL/Release.key.
 *
 * 1. The private key lives only while this file signs: in a directory of its own that is removed, whatever happens. Nobody can sign anything with it afterwards.
 */
import { createHash } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { runProgram, runRequired } from '@lichen/lab'
import type { Deb } from './deb.js'
import { hashFile } from './image.js'
import { debianArchitecture } from './recipe.js'

/** Of the public key, armored, inside the repository. */
export const keyFile = 'Release.key'

/** Writes Packages, Release, their signatures and the key for the packages that lie in `directory`. */
export async function writeRepository(directory: string, debs: readonly Deb[]): Promise<void> {
  const entries: string[] = []
  for (const { file, control } of debs) {
    const path = join(directory, file)
    entries.push(`${control}\nFilename: ./${file}\nSize: ${statSync(path).size}\nSHA256: ${await hashFile(path)}\n`)
  }
  const index = Buffer.from(entries.join('\n'))
  const indexes = { Packages: index, 'Packages.gz': gzipSync(index) }
  for (const [name, content] of Object.entries(indexes)) writeFileSync(join(directory, name), content)
  const release = [
    ...['Origin: Lichen tests', 'Label: Kubernetes for tests of Lichen', `Date: ${new Date().toUTCString().replace('GMT', 'UTC')}`, `Architectures: ${debianArchitecture()}`],
    'SHA256:',
    ...Object.entries(indexes).map(([name, content]) => ` ${createHash('sha256').update(content).digest('hex')} ${content.length} ${name}`),
  ]
  writeFileSync(join(directory, 'Release'), release.join('\n') + '\n')
  await sign(directory)
}

async function sign(directory: string): Promise<void> {
  // not inside the build: a socket's path may have no more than 108 characters
  const home = mkdtempSync(join(tmpdir(), 'lichen-gpg-'))
  const gpg = ['gpg', '--homedir', home, '--batch', '--quiet', '--yes', '--no-tty', '--pinentry-mode', 'loopback', '--passphrase', ''] as const
  const release = join(directory, 'Release')
  try {
    await runRequired([...gpg, '--quick-generate-key', 'Kubernetes packages for tests of Lichen <packages@lichen.test>', 'rsa3072', 'sign', 'never'])
    await runRequired([...gpg, '--digest-algo', 'SHA512', '--clearsign', '--output', join(directory, 'InRelease'), release])
    await runRequired([...gpg, '--digest-algo', 'SHA512', '--armor', '--detach-sign', '--output', `${release}.gpg`, release])
    await runRequired([...gpg, '--armor', '--export', '--output', join(directory, keyFile)])
    if (!readFileSync(join(directory, keyFile), 'utf8').includes('PUBLIC KEY BLOCK')) throw new Error('gpg exported no public key')
  } finally {
    await runProgram(['gpgconf', '--homedir', home, '--kill', 'all'])
    rmSync(home, { recursive: true, force: true })
  }
}
