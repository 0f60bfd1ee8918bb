/** The server program: environment in, server up, signals answered. The first SIGINT or SIGTERM stops politely, a second one at once. */
import { readFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { LichenError } from '@lichen/core'
import { pino, destination } from 'pino'
import { buildBanner } from './banner.js'
import { parseConfiguration } from './configuration.js'
import type { Server } from './start-server.js'

/** How long a polite stop may take. Containers get 10 s from Docker before SIGKILL; what is cut off then is settled at the next start. */
const stopDeadlineMs = 8_000

const checkout = dirname(dirname(dirname(dirname(fileURLToPath(import.meta.url)))))
const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as { version: string }

async function main(): Promise<void> {
  const { logLevel, unknownNames, ...config } = parseConfiguration({ env: process.env, workingDirectory: process.cwd(), checkout, isTerminal: process.stderr.isTTY === true })
  const log = pino({ name: 'lichen', level: logLevel }, destination({ dest: 2, sync: false }))
  for (const name of unknownNames) log.warn({ name }, 'no setting of this name: it is ignored')
  // grpc-js prints failures to listen by itself; they reach us as errors, too, and are said once. It reads this when it is loaded.
  process.env['GRPC_VERBOSITY'] ??= 'NONE'
  const { startServer } = await import('./start-server.js')
  const starting = startServer({ ...config, version, log })
  stopOnSignals(starting)
  const server = await starting
  const hasColour = process.stdout.isTTY === true && !process.env['NO_COLOR']
  if (server.apiUrl === '') process.stdout.write(`Lichen ${version}: engine is running; gateway ${server.gatewayAddress}\n`)
  else process.stdout.write(`${buildBanner({ server, dataDirectory: config.dataDirectory, checkout, workingDirectory: process.cwd(), version, hasColour }).join('\n')}\n`)
}

function stopOnSignals(starting: Promise<Server>): void {
  let isStopping = false
  const stop = (signal: NodeJS.Signals) => {
    if (isStopping) process.exit(signal === 'SIGINT' ? 130 : 143)
    isStopping = true
    setTimeout(() => process.exit(1), stopDeadlineMs).unref()
    // A start that fails says so itself.
    void starting.then(
      (server) => server.stop().then(() => process.exit(0)),
      () => undefined,
    )
  }
  process.on('SIGINT', stop)
  process.on('SIGTERM', stop)
}

await main().catch((error: unknown) => {
  if (!(error instanceof LichenError)) throw error
  process.stderr.write(`lichen: ${error.message} (${error.code})\n`)
  for (const problem of error.problems) process.stderr.write(`  ${problem.path}: ${problem.message} (${problem.code})\n`)
  // What a failed start has left open must not keep the process.
  process.exit(error.entry.kind === 'rejected' ? 2 : 1)
})
