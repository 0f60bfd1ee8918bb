/** The whole system in one process: a store on a temporary file, the embedded broker, an engine, and real agents over gRPC. */
import { createHash, randomBytes, randomUUID } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Agent, type AgentOptions, startAgent } from '@lichen/agent'
import { type Broker, openEmbeddedBroker } from '@lichen/broker'
import { type ActionId, type ActionView, type Blueprint, buildCatalog, buildTaskView, type Catalog, type Clock, clockOf, encodeJoinToken, parseBlueprint, type RecordedEvent, taskId, type TaskId, type TaskKind, type TrackedTask } from '@lichen/core'
import { type Authority, type Engine, type EngineLog, type EngineOptions, openAuthority, openSealer, type PartialEngineLimits, type Sealer, startEngine } from '@lichen/engine'
import { openSqliteStore, type Store } from '@lichen/store'
import { Registry } from 'prom-client'
import type { Test } from 'tap'
import { endRuns } from '../agent/runs.js'
import { eventually } from '../eventually.js'

const quiet: EngineLog = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined }

/** Log lines of warn and error, so that tests can look for them. */
export interface LoggedLine {
  readonly level: 'warn' | 'error'
  readonly fields: Record<string, unknown>
  readonly message: string
}

export interface SystemOptions {
  readonly limits?: PartialEngineLimits
  readonly catalog?: Catalog
  /** Where the database stands. Default: a directory of its own that goes with the test. */
  readonly directory?: string
  readonly now?: () => number
  /** What the engine is given in place of the store: a store that fails. */
  readonly wrapStore?: (store: Store) => Store
}

export interface System {
  readonly directory: string
  readonly store: Store
  readonly broker: Broker
  readonly authority: Authority
  readonly sealer: Sealer
  readonly logged: readonly LoggedLine[]
  readonly registry: () => Registry
  /** `127.0.0.1:port` of the engine that runs now; the port stays over restarts. */
  readonly gateway: () => string
  /** The engine that the other verbs speak of. An earlier one of the same name must be stopped, or dead for the store. */
  startEngine(name?: string): Promise<Engine>
  /** One more beside it, on a port of its own; stops with the test. */
  startAnotherEngine(name: string, change?: Partial<EngineOptions> & { readonly hasGateway?: boolean }): Promise<Engine>
  stopEngine(): Promise<void>
  makeToken(change?: { usesLeft?: number | null; expiresAt?: number; labels?: Record<string, string> }): Promise<string>
  startAgent(name: string, options?: Partial<AgentOptions>): Promise<Agent>
  /** Records a task as the API does, and rings. */
  submit(plan: object, kind?: TaskKind, extra?: { previewDigest?: string }): Promise<TaskId>
  ring(body: string): Promise<void>
  /** Asks to cancel, as the API does. */
  cancel(task: TaskId): Promise<void>
  readEvents(task: TaskId): Promise<readonly RecordedEvent[]>
  readView(task: TaskId): Promise<TrackedTask>
  readLog(task: TaskId): Promise<string>
  /** Waits for the end of the task. */
  ended(task: TaskId, timeoutMs?: number): Promise<TrackedTask>
}

/** A blueprint from YAML; the head is filled in. */
export function makeBlueprint(name: string, body: string): Blueprint {
  const parsed = parseBlueprint(`apiVersion: lichen.dev/v1\nkind: Blueprint\nname: ${name}\nversion: 1.0.0\nsummary: for tests\n${body}`, {})
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.problems))
  return parsed.value
}

const scriptParameters = 'parameters: {type: object, additionalProperties: false, required: [script], properties: {script: {type: string}}}'

/** `script` runs one, `retried` up to three times, `notes` says so many lines, `maker` and `user` pass outputs and secrets. */
export const testCatalog = buildCatalog([
  makeBlueprint('script', `${scriptParameters}\nactions: {run: {commands: [{name: the script, run: {shell: '{{ params.script }}', uncheckable: true}}]}}`),
  makeBlueprint('checked', 'parameters: {type: object, additionalProperties: false, required: [script, creates], properties: {script: {type: string}, creates: {type: string}}}\nactions: {run: {commands: [{name: the script, run: {shell: \'{{ params.script }}\', creates: \'{{ params.creates }}\'}}]}}'),
  makeBlueprint('retried', `${scriptParameters}\nactions: {run: {retry: {attempts: 3, backoffS: 0.05}, commands: [{name: the script, run: {shell: '{{ params.script }}', uncheckable: true}}]}}`),
  makeBlueprint('note', 'parameters: {type: object, additionalProperties: false, properties: {text: {type: string, default: hello}}}\nactions: {say: {commands: [{name: say it, note: {text: \'{{ params.text }}\'}}]}}'),
  makeBlueprint('password', 'secrets: {password: {length: 24}}\nparameters: {type: object, additionalProperties: false, required: [file], properties: {file: {type: string}}}\nactions: {write: {commands: [{name: write it, file: {path: \'{{ params.file }}\', content: \'{{ secrets.password }}\', secret: true}}, {name: print it, run: {shell: \'echo "the password is $(cat {{ params.file }})"\', uncheckable: true}}]}}'),
])

/** A plan of components on all nodes with the label `role: <role>` (default: any node). */
export const makePlan = (name: string, components: readonly Record<string, unknown>[], rollout?: object): object => ({
  apiVersion: 'lichen.dev/v1', kind: 'DeploymentPlan', metadata: { name }, nodes: [{ name: 'all' }],
  components: components.map((component) => ({ on: 'all', ...component })),
  ...(rollout === undefined ? {} : { rollout }),
})

/** Starts store, broker and engine; everything stops with the test. */
export async function startSystem(t: Test, options: SystemOptions = {}): Promise<System> {
  const directory = options.directory ?? mkdtempSync(join(tmpdir(), 'lichen-scenario-'))
  const now = options.now ?? Date.now
  const store = await openSqliteStore({ path: join(directory, 'lichen.db') })
  const broker = openEmbeddedBroker()
  const sealer = openSealer(Buffer.alloc(32, 7))
  const authority = await openAuthority({ store, sealer, now })
  const logged: LoggedLine[] = []
  const log: EngineLog = { ...quiet, warn: (fields, message) => void logged.push({ level: 'warn', fields: fields as never, message }), error: (fields, message) => void logged.push({ level: 'error', fields: fields as never, message }) }
  const agents: Agent[] = []
  let engine: Engine | undefined
  let registry = new Registry()
  let port = 0
  let tasks = 0
  const others: Engine[] = []
  const clock: Clock = { ...clockOf(globalThis), now }
  const engineOptions = (name: string, gatewayPort: number): EngineOptions => ({
    store: options.wrapStore?.(store) ?? store, broker, catalog: options.catalog ?? testCatalog, authority, sealer, clock, log, registry, identity: { name, instance: randomUUID() }, isSuccessor: true,
    gateway: { host: '127.0.0.1', port: gatewayPort, advertise: (open) => `127.0.0.1:${open}` }, limits: { sweepMs: 200, heartbeatIntervalMs: 300, proofOfLifeMs: 450, nodesRefreshMs: 200, ...options.limits },
  })

  const system: System = {
    directory, store, broker, authority, sealer, logged,
    registry: () => registry,
    gateway: () => `127.0.0.1:${port}`,
    async startEngine(name = 'engine-1') {
      registry = new Registry()
      engine = await startEngine(engineOptions(name, port))
      port = engine.gatewayPort
      return engine
    },
    async startAnotherEngine(name, { hasGateway = true, ...change } = {}) {
      const { gateway, ...rest } = engineOptions(name, 0)
      const another = await startEngine({ ...rest, ...(hasGateway && gateway ? { gateway } : {}), registry: new Registry(), ...change })
      others.push(another)
      return another
    },
    async stopEngine() {
      await engine?.stop()
      engine = undefined
    },
    async makeToken({ usesLeft = null, expiresAt = now() + 3_600_000, labels = {} } = {}) {
      const secret = randomBytes(24).toString('base64url')
      const id = `test${randomBytes(6).toString('hex')}`
      await store.nodes.putJoinToken({ id, secretDigest: createHash('sha256').update(secret).digest('hex'), labels, usesLeft, expiresAt, createdAt: now(), createdBy: 'test' })
      return encodeJoinToken({ id, secret, caDigest: authority.caDigest })
    },
    async startAgent(name, agentOptions = {}) {
      const token = agentOptions.token ?? (await system.makeToken())
      const agent = await startAgent({ gateway: system.gateway(), token, name, dataDirectory: join(directory, name), clock: clockOf(globalThis), log: quiet, ...agentOptions })
      agents.push(agent)
      await eventually(t, `${name} is ready`, async () => agent.state === 'connected' && (await store.nodes.listNodes()).some((node) => node.id === name && node.state === 'ready'))
      return agent
    },
    async submit(plan, kind = 'apply', extra = {}) {
      const id = taskId(`t-${String(++tasks).padStart(4, '0')}-${randomBytes(4).toString('hex')}`)
      const deployment = (plan as { metadata: { name: string } }).metadata.name
      await store.tasks.create({ id, kind, project: 'default', deployment, plan: JSON.stringify(plan), at: now(), requestDigest: id, event: { type: 'taskAccepted', kind, project: 'default', deployment, planDigest: 'p', by: 'test', ...extra } })
      await system.ring(JSON.stringify({ v: 1, task: id }))
      return id
    },
    async cancel(task) {
      const { seq, counts } = (await store.tasks.readSummary(task))!
      const [answer] = await store.tasks.append([{ task, expectedSeq: seq, epoch: null, at: now(), events: [{ type: 'cancelRequested', by: 'ann', reason: '' }], announce: true, summary: { state: 'cancelling', outcome: null, reason: 'cancel requested', counts } }])
      if (answer !== 'appended') return system.cancel(task)
      await system.ring(JSON.stringify({ v: 1, task }))
    },
    ring: (body) => broker.publish('tasks', [{ id: randomBytes(8).toString('hex'), body }]),
    readEvents: (task) => store.tasks.readEvents(task, 0),
    async readView(task) {
      const row = await store.tasks.read(task)
      return buildTaskView(await store.tasks.readEvents(task, 0), row?.graph ?? null)
    },
    async readLog(task) {
      const chunks = await store.logs.readLog(task, 0, 64 * 1024 * 1024)
      return chunks.map((chunk) => Buffer.from(chunk.data).toString('utf8')).join('')
    },
    async ended(task, timeoutMs = 20_000) {
      await eventually(t, `${task} has ended`, async () => {
        const row = await store.tasks.read(task)
        if (row?.summary.state === 'ended') return true
        throw new Error(JSON.stringify({ ...row?.summary, logged: logged.slice(-5) }))
      }, { timeoutMs })
      return system.readView(task)
    },
  }
  t.teardown(async () => {
    await Promise.all(agents.map((agent) => agent.stop()))
    endRuns(directory)
    await system.stopEngine()
    await Promise.all(others.map((other) => other.stop()))
    await broker.close()
    await store.close()
    if (options.directory === undefined) rmSync(directory, { recursive: true, force: true })
  })
  await system.startEngine()
  return system
}

/** The view of the only action whose id begins like this. */
export function actionOf(view: TrackedTask, prefix: string): ActionView {
  const found = [...view.actions.values()].filter((action) => action.id.startsWith(prefix))
  if (found.length !== 1 || found[0] === undefined) throw new Error(`${found.length} actions begin with ${prefix}: ${[...view.actions.keys()].join(', ')}`)
  return found[0]
}

export type { ActionId }
