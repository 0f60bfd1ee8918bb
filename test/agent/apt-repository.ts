/** A small apt repository made of packages that are built here: real .debs, served from a directory. */
import { execFileSync, spawnSync } from 'node:child_process'
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

/** A signing key made for a test, in a directory of its own. */
export interface SigningKey {
  /** The public half, ASCII-armoured. */
  readonly publicKey: string
  /** The text with its signature around it, as InRelease has it. */
  sign(text: string): string
}

/** Makes a key in this directory; installs GnuPG when it is missing. */
export function makeSigningKey(directory: string): SigningKey {
  if (spawnSync('gpg', ['--version']).error) execFileSync('apt-get', ['install', '--yes', '--no-install-recommends', 'gpg', 'gpg-agent'], { stdio: 'ignore', env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' } })
  mkdirSync(directory, { recursive: true, mode: 0o700 })
  const gpg = (args: readonly string[], input = ''): string => execFileSync('gpg', ['--homedir', directory, '--batch', '--quiet', '--pinentry-mode', 'loopback', '--passphrase', '', ...args], { input, encoding: 'utf8', stdio: ['pipe', 'pipe', 'ignore'] })
  gpg(['--quick-generate-key', 'Lichen tests <tests@localhost>', 'ed25519', 'sign', 'never'])
  return {
    publicKey: gpg(['--armor', '--export']),
    sign(text) {
      const signed = gpg(['--clear-sign'], text)
      // Its agent would outlive the test.
      execFileSync('gpgconf', ['--homedir', directory, '--kill', 'gpg-agent'], { stdio: 'ignore' })
      return signed
    },
  }
}

/** Signs the repository in `directory` anew. `fields`: more of its Release file, or others than usual. */
export function signRepository(directory: string, key: SigningKey, fields: Readonly<Record<string, string>> = {}): void {
  const bytes = readFileSync(join(directory, 'Packages'))
  const all = { Origin: 'Lichen tests', Suite: 'stable', Date: new Date().toUTCString().replace('GMT', 'UTC'), ...fields, SHA256: `\n ${createHash('sha256').update(bytes).digest('hex')} ${bytes.length} Packages` }
  writeFileSync(join(directory, 'InRelease'), key.sign(Object.entries(all).map(([name, value]) => `${name}: ${value}\n`).join('')))
}
