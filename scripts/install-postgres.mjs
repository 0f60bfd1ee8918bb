// Makes sure that the distribution's PostgreSQL server is installed, for tests that start a private one; prints the directory of its programs. Nothing is started and no
// cluster is made: while the packages are installed, a policy-rc.d (made here only if there is none) keeps services down, and a setting of postgresql-common keeps the
// package from making its "main" cluster. Both are taken away again.
// Exit codes: 0 there now, 1 not there and why on stderr.
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, rmSync, rmdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'

const policy = '/usr/sbin/policy-rc.d'
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

function apt(...args) {
  // The lock is waited for: other tests may install packages at the same time.
  return spawnSync('apt-get', ['-o', 'DPkg::Lock::Timeout=300', ...args], { encoding: 'utf8', env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }, maxBuffer: 1 << 26 })
}

function install(...packages) {
  const result = apt('install', '-y', '--no-install-recommends', ...packages)
  return result.status === 0 ? undefined : (result.stderr || String(result.error ?? '')).trim().split('\n').slice(-5).join('\n')
}

function installPackages() {
  // Its own package first: it makes the configuration that the setting is read beside.
  let problem = install('postgresql-common')
  if (problem !== undefined) {
    apt('update')
    problem = install('postgresql-common')
  }
  if (problem !== undefined) return problem
  const isDirectoryOurs = !existsSync(settings)
  const setting = join(settings, 'lichen-tests.conf')
  mkdirSync(settings, { recursive: true })
  writeFileSync(setting, 'create_main_cluster = false\n')
  try {
    return install('postgresql')
  } finally {
    rmSync(setting, { force: true })
    if (isDirectoryOurs) rmdirSync(settings)
  }
}

function withoutServices(work) {
  const isPolicyOurs = !existsSync(policy)
  if (isPolicyOurs) writeFileSync(policy, '#!/bin/sh\nexit 101\n', { mode: 0o755 })
  try {
    return work()
  } finally {
    if (isPolicyOurs) rmSync(policy, { force: true })
  }
}

function main() {
  let found = findPostgres()
  if (found === undefined) {
    if (process.getuid?.() !== 0) return fail('the PostgreSQL server is not installed, and only root can install it: apt-get install postgresql')
    if (spawnSync('apt-get', ['--version']).status !== 0) return fail('the PostgreSQL server is not installed, and this system has no apt-get')
    console.error('installing postgresql from the distribution (its service is not started, no cluster is made)')
    const problem = withoutServices(installPackages)
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
