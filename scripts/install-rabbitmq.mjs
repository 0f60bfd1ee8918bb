// Makes sure that the distribution's RabbitMQ is installed, for tests that start a private one; prints the path of its server program. Nothing is started.
// Exit codes: 0 there now, 1 not there and why on stderr.
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { installPackages, whyNotInstallable } from './debian-packages.mjs'

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

function main() {
  let server = findRabbitmqServer()
  if (server === undefined) {
    const why = whyNotInstallable('rabbitmq-server')
    if (why !== undefined) return fail(`rabbitmq-server is not installed, and ${why}`)
    console.error('installing rabbitmq-server from the distribution (its service is not started)')
    const problem = installPackages('rabbitmq-server')
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
