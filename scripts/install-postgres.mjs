// Makes sure that the distribution's PostgreSQL server is installed, for tests that start a private one; prints the directory of its programs. Nothing is started and no
// cluster is made: while the package is installed, a setting of postgresql-common keeps it from making its "main" cluster, and is taken away again.
// Exit codes: 0 there now, 1 not there and why on stderr.
import { existsSync, mkdirSync, readdirSync, rmSync, rmdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { installPackages, whyNotInstallable } from './debian-packages.mjs'

const settings = '/etc/postgresql-common/createcluster.d'
// Debian keeps versions side by side.
const root = '/usr/lib/postgresql'
const others = ['/usr/local/pgsql/bin', '/usr/pgsql/bin', '/usr/bin']

const isComplete = (directory) => ['postgres', 'initdb'].every((program) => existsSync(join(directory, program)))

/** Directory of the newest server's programs, or undefined. */
export function findPostgres() {
  const versions = existsSync(root) ? readdirSync(root).sort((a, b) => Number(b) - Number(a)) : []
  return [...versions.map((version) => join(root, version, 'bin')), ...others].find(isComplete)
}

function installServer() {
  // Its own package first: it makes the configuration that the setting is read beside.
  const problem = installPackages('postgresql-common')
  if (problem !== undefined) return problem
  const isDirectoryOurs = !existsSync(settings)
  const setting = join(settings, 'lichen-tests.conf')
  mkdirSync(settings, { recursive: true })
  writeFileSync(setting, 'create_main_cluster = false\n')
  try {
    return installPackages('postgresql')
  } finally {
    rmSync(setting, { force: true })
    if (isDirectoryOurs) rmdirSync(settings)
  }
}

function main() {
  let found = findPostgres()
  if (found === undefined) {
    const why = whyNotInstallable('postgresql')
    if (why !== undefined) return fail(`the PostgreSQL server is not installed, and ${why}`)
    console.error('installing postgresql from the distribution (its service is not started, no cluster is made)')
    const problem = installServer()
    found = findPostgres()
    if (found === undefined) return fail(`postgresql could not be installed: ${problem ?? 'the package has no server program where it is expected'}`)
  }
  console.log(found)
}

function fail(reason) {
  console.error(reason)
  process.exitCode = 1
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) main()
