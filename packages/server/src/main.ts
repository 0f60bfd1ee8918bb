/** The server program: environment (and `--role`, which goes before LICHEN_ROLES) in, server up, signals answered. The first SIGINT or SIGTERM stops politely, a second one at once. */
import { readFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { LichenError } from '@lichen/core'
import { pino, destination } from 'pino'
import { buildBanner } from './banner.js'
import { parseConfiguration } from './configuration.js'
import { durableWrites, parseCrashPoint, type OnWrite } from './durable-write.js'
import type { Server } from './start-server.js'

/** How long a polite stop may take. Containers get 10 s from Docker before SIGKILL; what is cut off then is settled at the next start. */
const stopDeadlineMs = 8_000

const checkout = dirname(dirname(dirname(dirname(fileURLToPath(import.meta.url)))))
const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as { version: string }

async function main(): Promise<void> {
  const { logLevel, unknownNames, ...config } = parseConfiguration({ env: readSettings(), workingDirectory: process.cwd(), checkout, isTerminal: process.stderr.isTTY === true })
  const log = pino({ name: 'lichen', level: logLevel }, destination({ dest: 2, sync: false }))
  for (const name of unknownNames) log.warn({ name }, 'no setting of this name: it is ignored')
  // grpc-js prints failures to listen by itself; they reach us as errors, too, and are said once. It reads this when it is loaded.
  process.env['GRPC_VERBOSITY'] ??= 'NONE'
  const { startServer } = await import('./start-server.js')
  const onWrite = readCrashPoint(process.env['LICHEN_TEST_CRASH_AT'])
  const starting = startServer({ ...config, version, log, failed: (error) => endFailed(error), ...(onWrite ? { onWrite } : {}) })
  stopOnSignals(starting)
  const server = await starting
  const hasColour = process.stdout.isTTY === true && !process.env['NO_COLOR']
  if (server.apiUrl === '') process.stdout.write(`Lichen ${version}: ${config.roles?.join(' and ') ?? 'engine'} running${server.gatewayPort === 0 ? '' : `; gateway ${server.gatewayAddress}`}\n`)
  else process.stdout.write(`${buildBanner({ server, dataDirectory: config.dataDirectory, checkout, workingDirectory: process.cwd(), version, hasColour }).join('\n')}\n`)
}

function readSettings(): Readonly<Record<string, string | undefined>> {
  try {
    const { values } = parseArgs({ options: { role: { type: 'string' } } })
    return values.role === undefined ? process.env : { ...process.env, LICHEN_ROLES: values.role }
  } catch (error) {
    throw new LichenError('SERVER_CONFIGURATION', `${(error as Error).message}; the server takes --role and settings from the environment`)
  }
}

/** For tests alone: dies by SIGKILL at the durable write that is named (durable-write.ts). */
function readCrashPoint(text: string | undefined): OnWrite | undefined {
  if (!text) return undefined
  const onWrite = parseCrashPoint(text, () => process.kill(process.pid, 'SIGKILL'))
  if (!onWrite) throw new LichenError('SERVER_CONFIGURATION', `LICHEN_TEST_CRASH_AT: ${text} names no durable write; there are ${durableWrites.join(', ')}`)
  return onWrite
}

/** Ends the program: what it is cannot be mended by going on. */
function endFailed(error: LichenError): never {
  process.stderr.write(`lichen: ${error.message} (${error.code})\n`)
  process.exit(1)
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
