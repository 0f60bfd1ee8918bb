/** The all-in-one server as a program of its own, as `npm start` runs it: api, engine, embedded broker and SQLite in one process. */
import { closeSync, mkdirSync, openSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { startProgram, stopProgram, waitForEnd } from './child-program.js'
import { DemoFailure } from './failure.js'
import type { ServerAddress } from './rest-client.js'

export interface ServerProcessOptions {
  readonly dataDirectory: string
  readonly catalogDirectory: string
  /** Where nodes connect. Port 0 chooses a free one. */
  readonly gatewayHost: string
  readonly gatewayPort: number
  /** Port of the API on 127.0.0.1; 0 chooses a free one. */
  readonly port?: number
  /** The environment that the server's own settings are added to. */
  readonly env: NodeJS.ProcessEnv
  readonly signal?: AbortSignal
}

export interface ServerProcess extends ServerAddress {
  readonly pid: number
  /** `host:port` for agents. */
  readonly gatewayAddress: string
  readonly logPath: string
  /** Ends it politely; resolves when it is gone. */
  stop(): Promise<void>
  /** Ends it at once (SIGKILL); resolves when it is gone. */
  kill(): Promise<void>
}

/** A start reads the catalogue and opens the database: a second or two, more on a busy machine. */
const startTimeoutMs = 30_000

/** The server's own limit for a polite stop is 8 s. */
const stopTimeoutMs = 12_000

/** A running server. @throws DemoFailure with the end of its log when it does not start. */
export async function startServerProcess(options: ServerProcessOptions): Promise<ServerProcess> {
  mkdirSync(options.dataDirectory, { recursive: true, mode: 0o700 })
  const notePath = join(options.dataDirectory, 'server.json')
  const logPath = join(options.dataDirectory, 'server.log')
  // the note of one that was killed must not be taken for that of the new one
  rmSync(notePath, { force: true })
  const log = openSync(logPath, 'a', 0o600)
  const child = startProgram([process.execPath, fileURLToPath(import.meta.resolve('@lichen/server/main'))], { stdio: ['ignore', log, log], env: buildEnvironment(options) })
  closeSync(log)
  let ended: number | undefined
  void waitForEnd(child).then((code) => (ended = code), () => (ended = -1))
  const note = await waitForNote(notePath, () => ended, options.signal).catch(async (error: unknown) => {
    await stopProgram(child, stopTimeoutMs)
    throw error instanceof DemoFailure ? new DemoFailure(error.message, readEnd(logPath)) : error
  })
  return {
    ...note,
    adminToken: readFileSync(join(options.dataDirectory, 'admin.token'), 'utf8').trim(),
    pid: child.pid!,
    logPath,
    stop: () => stopProgram(child, stopTimeoutMs),
    kill: async () => {
      process.kill(child.pid!, 'SIGKILL')
      await waitForEnd(child)
    },
  }
}

function buildEnvironment(options: ServerProcessOptions): NodeJS.ProcessEnv {
  // settings of the user's own server (another broker, another database) are not for this one
  const inherited = Object.fromEntries(Object.entries(options.env).filter(([name]) => !name.startsWith('LICHEN_')))
  return {
    ...inherited,
    LICHEN_DATA_DIRECTORY: options.dataDirectory,
    LICHEN_CATALOG: options.catalogDirectory,
    LICHEN_HOST: '127.0.0.1',
    LICHEN_PORT: String(options.port ?? 0),
    LICHEN_GATEWAY_HOST: options.gatewayHost,
    LICHEN_GATEWAY_PORT: String(options.gatewayPort),
  }
}

async function waitForNote(path: string, ended: () => number | undefined, signal: AbortSignal | undefined): Promise<{ readonly apiUrl: string; readonly gatewayAddress: string }> {
  const until = Date.now() + startTimeoutMs
  for (;;) {
    const text = readText(path)
    if (text !== '') return JSON.parse(text) as { apiUrl: string; gatewayAddress: string }
    if (ended() !== undefined) throw new DemoFailure(`the server ended while it was starting (exit code ${ended()})`)
    if (Date.now() > until) throw new DemoFailure(`the server did not start within ${startTimeoutMs / 1000} s`)
    await sleep(50, undefined, signal ? { signal } : {})
  }
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}

const readEnd = (path: string): string => readText(path).split('\n').slice(-20).join('\n')
