/** How long a task stands still when its engine is killed: two engines with gateways, an API, PostgreSQL, RabbitMQ and real agents, every one a process with its defaults. */
import { createHash, randomBytes } from 'node:crypto'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { openScope, startBenchPostgres, startBenchRabbit } from './backends.js'
import { type Child, startProgram, until } from './children.js'
import { type ServerProcess, startServerProcess } from './deployment.js'
import { makePlan, submitTask, untilSucceeded, type Api } from './system.js'

export interface TakeOver {
  /** From the kill to the event with which the other engine takes the task. */
  readonly claimedMs: number
  /** From the kill to the first success of an action that the other engine sent. */
  readonly succeededMs: number
}

interface TaskEvents {
  readonly items: readonly { readonly seq: number; readonly at: number; readonly event: { readonly type: string; readonly engine?: string; readonly action?: string; readonly result?: { readonly outcome: string } } }[]
}

// Ten seconds of actions, one after the other on one node: enough to kill in the middle, and to see it go on.
const actions = 40
const actionS = 0.25

/** As the server program names an engine that was given no name. */
const engineNameOf = (directory: string): string => `${hostname()}-${createHash('sha256').update(join(directory, 'data')).digest('hex').slice(0, 8)}`

/** So many kills; undefined when PostgreSQL or RabbitMQ cannot be run here. @throws when a task does not succeed all the same */
export async function measureTakeOver(directory: string, runs: number): Promise<TakeOver[] | undefined> {
  const scope = openScope()
  const servers: ServerProcess[] = []
  const agents: Child[] = []
  try {
    const postgres = await startBenchPostgres(scope)
    const rabbit = await startBenchRabbit(scope)
    if (postgres === undefined || rabbit === undefined) return undefined
    const env = { LICHEN_STORE_URL: await postgres.makeDatabase(), LICHEN_BROKER_URL: rabbit.url, LICHEN_MASTER_KEY: randomBytes(32).toString('hex') }
    const start = async (name: string, roles: string): Promise<ServerProcess> => {
      const server = await startServerProcess({ directory: join(directory, name), env: { ...env, LICHEN_ROLES: roles } })
      servers.push(server)
      return server
    }
    const { api } = await start('api', 'api')
    const engines = new Map<string, ServerProcess>()
    for (const name of ['e1', 'e2']) engines.set(engineNameOf(join(directory, name)), await start(name, 'engine,gateway'))
    const reply = await api!.request('POST', '/v1/join-tokens', { uses: 2, ttlS: 3600 })
    agents.push(startProgram('agents.ts', [directory, [...engines.values()][0]!.gateway, reply.body.token, '0', '1', 'node']))
    await until('the node is ready', async () => ((await api!.request('GET', '/v1/nodes')).body.items as { state: string }[]).some(({ state }) => state === 'ready'))
    const samples: TakeOver[] = []
    for (let run = 0; run < runs; run++) samples.push(await killOwner(api!, engines, run))
    return samples
  } finally {
    for (const agent of agents) await agent.end('SIGTERM')
    for (const server of servers.reverse()) await server.end('SIGTERM')
    await scope.end()
  }
}

async function killOwner(api: Api, engines: ReadonlyMap<string, ServerProcess>, run: number): Promise<TakeOver> {
  const plan = makePlan(`take-over-${run}`, 'node', 'bench-sleep@^1', actions, { seconds: actionS }) as { components: { name: string; after?: string[] }[] }
  plan.components.forEach((component, index) => index > 0 && (component.after = [`c${index - 1}`]))
  const task = await submitTask(api, plan)
  const readEvents = async (after = 0): Promise<TaskEvents['items']> => ((await api.request('GET', `/v1/tasks/${task}/events?after=${after}&limit=5000`)).body as TaskEvents).items
  await until('the task is in progress', async () => (await readEvents()).filter(({ event }) => event.type === 'actionEnded').length >= 3)
  const before = await readEvents()
  const owner = before.findLast(({ event }) => event.type === 'taskClaimed')!.event.engine!
  const engine = engines.get(owner)
  if (engine === undefined) throw new Error(`no process is the engine ${owner}`)
  // The time of this machine, as the events have it.
  const killedAt = Date.now()
  await engine.end('SIGKILL')
  const last = before.at(-1)!.seq
  let sample: TakeOver | undefined
  await until('an action succeeds under the other engine', async () => (sample = findTakeOver(await readEvents(last), owner, killedAt)) !== undefined)
  await engine.start()
  await untilSucceeded(api, task)
  return sample!
}

/** Undefined until the other engine has sent an action that succeeded. */
function findTakeOver(events: TaskEvents['items'], owner: string, killedAt: number): TakeOver | undefined {
  const claimed = events.findIndex(({ event }) => event.type === 'taskClaimed' && event.engine !== owner)
  if (claimed < 0) return undefined
  const own = new Set(events.slice(claimed).flatMap(({ event }) => (event.type === 'actionSent' ? [event.action] : [])))
  const first = events.slice(claimed).find(({ event }) => event.type === 'actionEnded' && event.result?.outcome === 'succeeded' && own.has(event.action))
  return first && { claimedMs: events[claimed]!.at - killedAt, succeededMs: first.at - killedAt }
}
