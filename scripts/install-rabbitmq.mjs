// Makes sure that the distribution's RabbitMQ is installed, for tests that start a private one; prints the path of its server program. Nothing is started:
// while the package is installed, a policy-rc.d (made here only if there is none) keeps the system service down.
// Exit codes: 0 there now, 1 not there and why on stderr.
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'

const policy = '/usr/sbin/policy-rc.d'
// Debian keeps versions side by side here; its wrapper in /usr/sbin insists on the system user, the script inside does not.
const roots = ['/usr/lib/rabbitmq/lib', '/opt/rabbitmq', '/usr/local/lib/rabbitmq']

/** Path of the server program, or undefined. */
export function findRabbitmqServer() {
  for (const root of roots) {
    if (!existsSync(root)) continue
    const candidates = [join(root, 'sbin/rabbitmq-server'), ...readdirSync(root).sort().reverse().map((name) => join(root, name, 'sbin/rabbitmq-server'))]
    const found = candidates.find((candidate) => existsSync(candidate))
    if (found) return found
  }
  return undefined
}

function apt(...args) {
  // The lock is waited for: other tests may install packages at the same time.
  return spawnSync('apt-get', ['-o', 'DPkg::Lock::Timeout=300', ...args], { encoding: 'utf8', env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }, maxBuffer: 1 << 26 })
}

function installPackage() {
  const isPolicyOurs = !existsSync(policy)
  if (isPolicyOurs) writeFileSync(policy, '#!/bin/sh\nexit 101\n', { mode: 0o755 })
  try {
    const install = () => apt('install', '-y', '--no-install-recommends', 'rabbitmq-server')
    let result = install()
    if (result.status !== 0) {
      apt('update')
      result = install()
    }
    return result.status === 0 ? undefined : (result.stderr || String(result.error ?? '')).trim().split('\n').slice(-5).join('\n')
  } finally {
    if (isPolicyOurs) rmSync(policy, { force: true })
  }
}

function main() {
  let server = findRabbitmqServer()
  if (server === undefined) {
    if (process.getuid?.() !== 0) return fail('rabbitmq-server is not installed, and only root can install it: apt-get install rabbitmq-server')
    if (spawnSync('apt-get', ['--version']).status !== 0) return fail('rabbitmq-server is not installed, and this system has no apt-get')
    console.error('installing rabbitmq-server from the distribution (its service is not started)')
    const problem = installPackage()
    server = findRabbitmqServer()
    if (server === undefined) return fail(`rabbitmq-server could not be installed: ${problem ?? 'the package has no server program where it is expected'}`)
  }
  console.log(server)
}

function fail(reason) {
  console.error(reason)
  process.exitCode = 1
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) main()
