/** Lichen as users run it: the server program with its defaults, in one process or in several roles, and a fleet of simulated agents. Owns what it starts. */
import { spawn } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join, resolve } from 'node:path'
import { type Child, profileOptions, startProgram, until, watchChild } from './children.js'
import { openApi, type Api } from './system.js'

const here = import.meta.dirname
const program = resolve(here, '../packages/server/dist/main.js')

export interface ServerSettings {
  /** Its data stands here, over restarts. */
  readonly directory: string
  /** LICHEN_*: beside what is set here. */
  readonly env?: NodeJS.ProcessEnv
}

/** One process of the server program; it has the same ports at each start. */
export interface ServerProcess {
  readonly gateway: string
  /** Undefined without the role `api`. */
  readonly api: Api | undefined
  readonly pid: number
  start(): Promise<void>
  end(signal: NodeJS.Signals): Promise<void>
}

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  const { port } = server.address() as { port: number }
  await new Promise((done) => server.close(done))
  return port
}

/** The server program, started: it has said that it runs. */
export async function startServerProcess({ directory, env = {} }: ServerSettings): Promise<ServerProcess> {
  const data = join(directory, 'data')
  mkdirSync(data, { recursive: true })
  const gatewayPort = await freePort()
  const port = await freePort()
  const settings = {
    ...process.env, LICHEN_DATA_DIRECTORY: data, LICHEN_CATALOG: join(here, 'catalog'), LICHEN_PORT: String(port), LICHEN_GATEWAY_HOST: '127.0.0.1', LICHEN_GATEWAY_PORT: String(gatewayPort), LICHEN_LOG_LEVEL: 'error', ...env,
  }
  let child: Child | undefined
  let api: Api | undefined
  const server: ServerProcess = {
    gateway: `127.0.0.1:${gatewayPort}`,
    get api() {
      return api
    },
    get pid() {
      return child!.pid
    },
    async start() {
      child = watchChild('the server', spawn(process.execPath, [...profileOptions, program], { env: settings, stdio: ['ignore', 'pipe', 'inherit'] }))
      await child.hear((line) => /Lichen .*running/.test(line))
      const token = join(data, 'admin.token')
      api = existsSync(token) ? openApi(`http://127.0.0.1:${port}`, readFileSync(token, 'utf8').trim()) : undefined
    },
    end: async (signal) => child?.end(signal),
  }
  await server.start()
  return server
}

export interface Fleet {
  readonly size: number
  /** Joining all of them, with a key, a certificate request and a certificate for each. */
  readonly joinMs: number
  /** Forgets that they are connected: what `connected` waits for comes after this. */
  forget(): void
  /** Resolves when each has a stream that was welcomed. */
  connected(): Promise<void>
  end(): Promise<void>
}

/** So many agents with the label `bench: prefix`, in one process for each thousand or two; all are ready. */
export async function startFleet(api: Api, gateway: string, prefix: string, size: number): Promise<Fleet> {
  const reply = await api.request('POST', '/v1/join-tokens', { uses: size, ttlS: 3600 })
  if (reply.code >= 300) throw new Error(JSON.stringify(reply.body))
  const processes = size > 2000 ? 2 : 1
  const bounds = Array.from({ length: processes + 1 }, (_, index) => Math.round((size * index) / processes))
  const children = bounds.slice(1).map((to, index) => startProgram('fleet.ts', [gateway, reply.body.token, String(bounds[index]), String(to), prefix]))
  const connected = async (): Promise<void> => void (await Promise.all(children.map((child) => child.hear((line) => line.connected > 0))))
  const joined = await Promise.all(children.map((child) => child.hear((line) => line.joined > 0)))
  await connected()
  await until('all agents have a session', async () => (await readSessions(api)) >= size)
  return {
    size,
    joinMs: Math.max(...joined.map((line) => line.ms as number)),
    forget: () => children.forEach((child) => child.forget()),
    connected,
    async end() {
      await Promise.all(children.map((child) => child.end('SIGTERM')))
    },
  }
}

/** How many agents are connected to this process, as its metrics say. */
export async function readSessions(api: Api): Promise<number> {
  const text = await api.readText('/metrics')
  return Number(/^lichen_agent_sessions (\d+)/m.exec(text)?.[1] ?? 0)
}
