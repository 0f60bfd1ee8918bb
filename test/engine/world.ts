/**
 * Real engines on one store and one broker, under a clock that is turned by hand. The node's side of each stream is the test's, which says what a node would.
 */
import { EventEmitter } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openEmbeddedBroker } from '@lichen/broker'
import { nodeId, type RecordedEvent, taskId } from '@lichen/core'
import { type EngineLog, type GatewayParts, openAuthority, openSealer, startEngine } from '@lichen/engine'
import { type AgentMessage, type AttemptKey, decodeOrder, encodeResult, type EngineMessage } from '@lichen/protocol'
import { openSqliteStore, type Store } from '@lichen/store'
import { Registry } from 'prom-client'
import type { Test } from 'tap'
import { type AgentCall, startSession } from '../../packages/engine/dist/gateway/session.js'
import { eventually } from '../eventually.js'
import { makePlan, testCatalog } from '../scenarios/system.js'
import { fakeFacts, makeResult } from './fake-node.js'
import { type HandClock, makeHandClock } from './hand-clock.js'

const node = nodeId('n1')
export const heartbeatIntervalMs = 2_000
const proofOfLifeMs = 3_000

/** The store, and how many of its answers are not there yet. */
function countOpen(store: Store): { readonly store: Store; readonly open: () => number } {
  let open = 0
  const counted = <Part extends object>(part: Part): Part =>
    new Proxy(part, {
      get(target, name) {
        const member: unknown = Reflect.get(target, name)
        if (typeof member === 'object' && member !== null) return counted(member)
        if (typeof member !== 'function') return member
        return (...given: unknown[]): unknown => {
          const answer: unknown = Reflect.apply(member, target, given)
          if (answer instanceof Promise) {
            open += 1
            void answer.catch(() => undefined).finally(() => (open -= 1))
          }
          return answer
        }
      },
    })
  return { store: counted(store), open: () => open }
}

/** The node's side of one stream, as gRPC shows it to the engine. */
export class FakeCall extends EventEmitter {
  readonly orders: AttemptKey[] = []
  isOver = false
  error: string | undefined
  #isPaused = false
  readonly #waiting: AgentMessage[] = []
  write({ message }: EngineMessage): boolean {
    if (message?.$case === 'order') this.orders.push(decodeOrder(message.value.order).key!)
    return true
  }

  end(): void {
    this.isOver = true
  }

  pause(): void {
    this.#isPaused = true
  }

  resume(): void {
    this.#isPaused = false
    for (const message of this.#waiting.splice(0)) this.emit('data', message)
  }

  say(message: NonNullable<AgentMessage['message']>): void {
    if (this.#isPaused) this.#waiting.push({ message })
    else this.emit('data', { message })
  }

  isPaused(): boolean {
    return this.#isPaused
  }

  result(key: AttemptKey, change: Parameters<typeof makeResult>[0] = {}): void {
    this.say({ $case: 'result', value: { key, result: encodeResult(makeResult(change)), secretOutputs: {}, epoch: 1 } })
  }

  refuse(key: AttemptKey, code: string): void {
    this.say({ $case: 'refused', value: { key, code, message: 'for the test' } })
  }

  heartbeat(): void {
    this.say({ $case: 'heartbeat', value: { facts: '' } })
  }

  override emit(name: string | symbol, ...values: unknown[]): boolean {
    if (name === 'error') Object.assign(this, { isOver: true, error: (values[0] as { details: string }).details })
    return super.emit(name, ...values)
  }
}

export interface World {
  readonly clock: HandClock
  readonly store: Store
  readonly warnings: readonly string[]
  /** A stream to this engine on which this process of the node's agent has said hello. */
  connect(engine: string, instance: string): FakeCall
  /** Submits a task with one action for the node. */
  submit(id: string, blueprint?: Record<string, unknown>): Promise<void>
  readEvents(id: string): Promise<readonly RecordedEvent[]>
  /** Submits it, and waits until its order is intended. */
  order(id: string): Promise<void>
  /** Waits, while time passes. */
  waitFor(what: string, probe: () => unknown): Promise<void>
}

/** Engines of these names; the first of them alone takes tasks. `wrapStore`: what they are given in place of the store. */
export async function startWorld(t: Test, names: readonly string[], wrapStore: (store: Store, clock: HandClock) => Store = (store) => store): Promise<World> {
  const directory = mkdtempSync(join(tmpdir(), 'lichen-traffic-'))
  t.teardown(() => rmSync(directory, { recursive: true, force: true }))
  const sqlite = await openSqliteStore({ path: join(directory, 'lichen.db') })
  t.teardown(() => sqlite.close())
  // Time stands still while the store works: else a busy machine would be a store that takes minutes for everything.
  const { store, open } = countOpen(sqlite)
  const clock = makeHandClock(() => open() === 0)
  const broker = openEmbeddedBroker()
  const sealer = openSealer(Buffer.alloc(32, 7))
  const authority = await openAuthority({ store, sealer, now: clock.now })
  await store.nodes.putJoinToken({ id: 'jt', secretDigest: 'x', labels: {}, usesLeft: null, expiresAt: 1e15, createdAt: 0, createdBy: 'test' })
  await store.nodes.admitNode({ tokenId: 'jt', secretDigest: 'x', node, labels: {}, keyDigest: 'r', agentVersion: '1', now: clock.now() })
  const warnings: string[] = []
  const log: EngineLog = { debug: () => undefined, info: () => undefined, warn: (_fields, message) => void warnings.push(message), error: (_fields, message) => t.fail(message) }
  const gateways = new Map<string, GatewayParts>()
  for (const name of names) {
    const engine = await startEngine({
      store: wrapStore(store, clock), broker, catalog: testCatalog, authority, sealer, clock, log, registry: new Registry(), identity: { name, instance: name }, takesTasks: name === names[0], limits: { heartbeatIntervalMs, proofOfLifeMs },
      gateway: { host: name, port: 1, advertise: () => `${name}:1` },
      openGateway: async (parts) => {
        gateways.set(name, parts)
        return { port: 1, stop: async () => undefined }
      },
    })
    t.teardown(async () => {
      const stopped = engine.stop()
      await clock.turn(10)
      await stopped
    })
  }
  await clock.turn(100)
  let streams = 0
  const waitFor: World['waitFor'] = async (what, probe) => {
    await eventually(t, what, async () => {
      await clock.turn(10)
      return probe()
    }, { intervalMs: 1 })
  }
  const readEvents = (id: string): Promise<readonly RecordedEvent[]> => store.tasks.readEvents(taskId(id), 0)
  const world: World = {
    clock, store, warnings, waitFor,
    connect(engine, instance) {
      const { listener } = gateways.get(engine)!
      const call = new FakeCall()
      const welcome = { heartbeatIntervalMs, logWindowBytes: 1e6, signingKeys: [], gateways: [] }
      call.on('error', () => undefined)
      startSession({ call: call as unknown as AgentCall, identity: { node, registration: 'r', expiresAt: clock.now() + 1e9 }, id: `${engine}/${(streams += 1)}`, welcome, pace: () => heartbeatIntervalMs, listener, clock, log })
      call.say({ $case: 'hello', value: { agentVersion: '1', bootId: 'b', facts: fakeFacts(node), running: [], instance } })
      return call
    },
    async submit(id, component = { blueprint: 'note' }) {
      const plan = makePlan(id, [{ name: 'app', ...component }])
      await store.tasks.create({ id: taskId(id), kind: 'apply', project: 'default', deployment: id, plan: JSON.stringify(plan), at: clock.now(), requestDigest: id, event: { type: 'taskAccepted', kind: 'apply', project: 'default', deployment: id, planDigest: 'p', by: 'test' } })
      await broker.publish('tasks', [{ id, body: JSON.stringify({ v: 1, task: id }) }])
    },
    readEvents,
    async order(id) {
      await world.submit(id)
      await waitFor('the order is intended', async () => (await readEvents(id)).some(({ event }) => event.type === 'actionSent'))
    },
  }
  return world
}
