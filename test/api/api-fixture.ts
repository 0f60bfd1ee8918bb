/** A real API over a real SQLite file, the embedded broker and the project's own catalog; nodes and engines are played by writing to the store what they would. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { AddressInfo } from 'node:net'
import { createHash, randomBytes } from 'node:crypto'
import type { FastifyInstance, InjectOptions, LightMyRequestResponse } from 'fastify'
import { Registry } from 'prom-client'
import type { Test } from 'tap'
import { bootstrapAdminToken, buildApi, startAnnouncer, type Announcer, type ApiLimits } from '@lichen/api'
import { openEmbeddedBroker, type Broker } from '@lichen/broker'
import { readCatalog } from '@lichen/catalog'
import { actionId, buildGraph, clockOf, nodeId, parsePlan, taskId, type ActionGraph, type AttemptResult, type Catalog, type Facts, type NodeId, type TaskEvent, type TaskId, type TaskKind } from '@lichen/core'
import { openSealer, openSecret } from '@lichen/engine'
import { openSqliteStore, type Append, type NewLogChunk, type Store } from '@lichen/store'

export interface LogEntry {
  readonly level: 'debug' | 'info' | 'warn' | 'error'
  readonly fields: Record<string, unknown>
  readonly message: string
}

export interface TestApi {
  readonly api: FastifyInstance
  readonly store: Store
  readonly broker: Broker
  readonly announcer: Announcer
  readonly catalog: Catalog
  readonly token: string
  readonly registry: Registry
  readonly log: readonly LogEntry[]
  readonly directory: string
  /** A request with the administrator's token. */
  call(method: 'GET' | 'POST' | 'PATCH' | 'DELETE' | 'PUT', url: string, options?: Partial<InjectOptions>): Promise<LightMyRequestResponse>
  /** Listens on a free port of the loopback address; gives back the origin. */
  listen(): Promise<string>
  readonly headers: { readonly authorization: string }
}

/** What `unseal` of the API opens with. */
export const masterKey = Buffer.alloc(32, 7)
export const caDigest = 'c'.repeat(64)

/** An API with nothing in its store but the administrator's token. Everything is closed when the test ends. */
export async function startTestApi(t: Test, options: { readonly limits?: Partial<ApiLimits>; readonly now?: () => number; readonly announcer?: Announcer } = {}): Promise<TestApi> {
  const directory = await mkdtemp(join(tmpdir(), 'lichen-api-'))
  const store = await openSqliteStore({ path: join(directory, 'lichen.db') })
  const broker = openEmbeddedBroker()
  const log: LogEntry[] = []
  const write = (level: LogEntry['level']) => (fields: object, message: string) => void log.push({ level, fields: fields as Record<string, unknown>, message })
  const logger = { debug: write('debug'), info: write('info'), warn: write('warn'), error: write('error') }
  const announcer = options.announcer ?? startAnnouncer({ store, broker, clock: clockOf(globalThis), log: logger })
  const now = options.now ?? Date.now
  const catalog = await readCatalog('catalog')
  const registry = new Registry()
  const api = buildApi({ store, broker, announcer, catalog, unseal: (secret) => openSecret(openSealer(masterKey), secret), caDigest, gatewayAddress: 'gateway.example:8471', now, log: logger, registry, version: '0.1.0', ...(options.limits ? { limits: options.limits } : {}) })
  const token = await bootstrapAdminToken(store, { now })
  const headers = { authorization: `Bearer ${token}` }
  t.teardown(async () => {
    await api.close()
    await announcer.stop()
    await broker.close()
    await store.close()
    await rm(directory, { recursive: true })
  })
  return {
    api, store, broker, announcer, catalog, token, registry, log, directory, headers,
    call: (method, url, more = {}) => api.inject({ method, url, ...more, headers: { ...headers, ...more.headers } }),
    async listen() {
      await api.listen({ host: '127.0.0.1', port: 0 })
      return `http://127.0.0.1:${(api.server.address() as AddressInfo).port}`
    },
  }
}

export const makeFacts = (hostname: string): Facts => ({
  hostname, address: '10.0.0.1', addresses: [{ interface: 'eth0', address: '10.0.0.1', family: 'ipv4' }], os: { id: 'debian', version: '12', codename: 'bookworm', prettyName: 'Debian GNU/Linux 12 (bookworm)' },
  kernel: '6.1.0', architecture: 'amd64', cpus: 2, memoryBytes: 4e9, diskFreeBytes: 9e9, bootId: 'boot', virtualization: 'kvm', cgroupVersion: 2, packageManager: 'apt', init: 'systemd',
})

/** Nodes that have joined and are connected, as the gateway registers them. */
export async function admitNodes(store: Store, names: readonly string[], labels: Record<string, string> = {}): Promise<void> {
  const id = randomBytes(6).toString('hex')
  const secretDigest = createHash('sha256').update(id).digest('hex')
  const now = Date.now()
  await store.nodes.putJoinToken({ id, secretDigest, labels, usesLeft: names.length, expiresAt: now + 60_000, createdAt: now, createdBy: 'test' })
  for (const name of names) await store.nodes.admitNode({ tokenId: id, secretDigest, node: nodeId(name), labels: {}, keyDigest: `key-${name}`, agentVersion: '0.1.0', now })
  await store.nodes.updateNodes(names.map((name) => ({ node: nodeId(name), facts: makeFacts(name), state: 'ready' as const, seenAt: now })))
}

/** A plan of the blueprint `hello` on every node. */
export const makePlan = (name = 'hello', more: Record<string, unknown> = {}): Record<string, unknown> => ({
  apiVersion: 'lichen.dev/v1', kind: 'DeploymentPlan', metadata: { name }, nodes: [{ name: 'all' }], components: [{ name: 'hello', blueprint: 'hello@^1', on: 'all' }], ...more,
})

/** A task that was accepted long ago, without the API. */
export async function createTask(store: Store, id: string, more: { readonly project?: string; readonly deployment?: string; readonly plan?: unknown; readonly kind?: TaskKind } = {}): Promise<TaskId> {
  const { project = 'default', deployment = 'hello', plan = makePlan(), kind = 'apply' } = more
  await store.tasks.create({
    id: taskId(id), kind, project, deployment, plan: JSON.stringify(plan), at: Date.now(), requestDigest: id,
    event: { type: 'taskAccepted', kind, project, deployment, planDigest: 'p'.repeat(64), by: 'test' },
  })
  return taskId(id)
}

/** The engine's side of a task: a lease, a graph, and events one after the other with the row that follows from them. */
export interface PlayedEngine {
  readonly graph: ActionGraph
  append(...events: TaskEvent[]): Promise<void>
  /** Sends the action at this index and ends its attempt with this outcome. */
  run(index: number, outcome: AttemptResult['outcome'], attempt?: number): Promise<void>
  end(outcome: 'succeeded' | 'failed' | 'cancelled' | 'timedOut'): Promise<void>
}

export const makeResult = (outcome: AttemptResult['outcome']): AttemptResult => ({
  outcome, changed: outcome === 'succeeded', outputs: { port: '80' }, startedAt: 1_000, endedAt: 2_000,
  commands: [{ name: 'write the greeting', kind: 'file', outcome, changed: true, durationMs: 12, diff: '--- before\n+++ after\n+Hello\n' }],
  ...(outcome === 'succeeded' ? {} : { failure: { code: 'COMMAND_FAILED', message: 'exit code 1', command: 'write the greeting' } }),
})

/** Claims and plans the task. */
export async function playEngine({ store, catalog }: TestApi, task: TaskId): Promise<PlayedEngine> {
  const lease = await store.tasks.claim(task, { name: 'engine-1', instance: 'i' }, Date.now(), 60_000)
  const plan = parsePlan(JSON.parse((await store.tasks.read(task))!.plan))
  if (!plan.ok || !lease) throw new Error('no plan or no lease')
  const graph = buildGraph({ plan: plan.value, catalog, nodes: await store.nodes.listNodes(), kind: 'apply' })
  if (!graph.ok) throw new Error(JSON.stringify(graph.problems))
  const write = async (events: readonly TaskEvent[], more: Partial<Append> = {}) => {
    const { seq } = (await store.tasks.readSummary(task))!
    const [answer] = await store.tasks.append([{ task, expectedSeq: seq, epoch: lease.epoch, events, at: Date.now(), ...more }])
    if (answer !== 'appended') throw new Error(`append: ${answer}`)
  }
  const running = { state: 'running', outcome: null, reason: '', counts: { pending: graph.value.actions.length } } as const
  await write([{ type: 'taskClaimed', engine: 'engine-1', epoch: lease.epoch }])
  await write([{ type: 'taskPlanned', graphDigest: graph.value.digest, actionCount: graph.value.actions.length }], { graph: graph.value, summary: running })
  const append = (...events: TaskEvent[]) => write(events)
  return {
    graph: graph.value,
    append,
    async run(index, outcome, attempt = 1) {
      const action = graph.value.actions[index]!
      await append({ type: 'actionSent', action: action.id, attempt, node: action.node, epoch: lease.epoch, timeoutMs: action.timeoutMs, deadline: Date.now() + 60_000 })
      await append({ type: 'actionEnded', action: action.id, attempt, result: makeResult(outcome) })
    },
    async end(outcome) {
      await write([{ type: 'taskEnded', outcome, reason: `it ${outcome}` }], { summary: { state: 'ended', outcome, reason: `it ${outcome}`, counts: {} } })
    },
  }
}

/** A writer of one attempt's log, as the gateway stores it. */
export function openLogWriter(store: Store, task: TaskId, node = 'node-1', action = `hello/greet@${node}`): (text: string) => Promise<void> {
  let position = 0
  return async (text) => {
    const data = Buffer.from(text)
    const chunk: NewLogChunk = { task, action: actionId(action), attempt: 1, node: node as NodeId, position, command: 0, stream: 'stdout', at: 1_785_000_000_000, data }
    position += data.length
    await store.logs.appendLog([chunk])
  }
}
