// The streams of one node that come, end and overlap, at one engine and at two: which of them is taken for the node's, and where its orders go.
// Real engines on one store and one broker, under a clock that is turned by hand; the node's side of each stream is the test's.
import { EventEmitter } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openEmbeddedBroker } from '@lichen/broker'
import { nodeId, taskId } from '@lichen/core'
import { type EngineLog, type GatewayParts, openAuthority, openSealer, startEngine } from '@lichen/engine'
import { type AgentMessage, decodeOrder, type EngineMessage } from '@lichen/protocol'
import { openSqliteStore, type Store } from '@lichen/store'
import { Registry } from 'prom-client'
import t, { type Test } from 'tap'
import { type AgentCall, startSession } from '../../packages/engine/dist/gateway/session.js'
import { eventually } from '../eventually.js'
import { makePlan, testCatalog } from '../scenarios/system.js'
import { fakeFacts } from './fake-node.js'
import { type HandClock, makeHandClock } from './hand-clock.js'

const node = nodeId('n1')
const heartbeatIntervalMs = 2_000

/** The node's side of one stream, as gRPC shows it to the engine. */
class FakeCall extends EventEmitter {
  readonly orders: string[] = []
  isOver = false
  error: string | undefined
  #isPaused = false
  readonly #waiting: AgentMessage[] = []
  write({ message }: EngineMessage): boolean {
    if (message?.$case === 'order') this.orders.push(decodeOrder(message.value.order).key?.actionId ?? '')
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

  heartbeat(): void {
    this.say({ $case: 'heartbeat', value: { facts: '' } })
  }

  override emit(name: string | symbol, ...values: unknown[]): boolean {
    if (name === 'error') Object.assign(this, { isOver: true, error: (values[0] as { details: string }).details })
    return super.emit(name, ...values)
  }
}

interface World {
  readonly clock: HandClock
  readonly store: Store
  readonly warnings: readonly string[]
  /** A stream to this engine on which this process of the node's agent has said hello. */
  connect(engine: string, instance: string): FakeCall
  /** Submits a task with one action for the node; resolves when its order is intended. */
  order(id: string): Promise<void>
  /** Waits, while time passes. */
  waitFor(what: string, probe: () => unknown): Promise<void>
}

/** Engines of these names; the first of them alone takes tasks. */
async function startWorld(t: Test, names: readonly string[]): Promise<World> {
  const directory = mkdtempSync(join(tmpdir(), 'lichen-traffic-'))
  t.teardown(() => rmSync(directory, { recursive: true, force: true }))
  const store = await openSqliteStore({ path: join(directory, 'lichen.db') })
  t.teardown(() => store.close())
  const clock = makeHandClock()
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
      store, broker, catalog: testCatalog, authority, sealer, clock, log, registry: new Registry(), identity: { name, instance: name }, takesTasks: name === names[0], limits: { heartbeatIntervalMs },
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
  return {
    clock, store, warnings, waitFor,
    connect(engine, instance) {
      const { listener } = gateways.get(engine)!
      const call = new FakeCall()
      const welcome = { heartbeatIntervalMs, logWindowBytes: 1e6, signingKeys: [], gateways: [] }
      call.on('error', () => undefined)
      startSession({ call: call as unknown as AgentCall, identity: { node, registration: 'r', expiresAt: clock.now() + 1e9 }, id: `${engine}/${(streams += 1)}`, welcome, listener, clock, log })
      call.say({ $case: 'hello', value: { agentVersion: '1', bootId: 'b', facts: fakeFacts(node), running: [], instance } })
      return call
    },
    async order(id) {
      const plan = makePlan(id, [{ name: 'app', blueprint: 'note' }])
      await store.tasks.create({ id: taskId(id), kind: 'apply', project: 'default', deployment: id, plan: JSON.stringify(plan), at: clock.now(), requestDigest: id, event: { type: 'taskAccepted', kind: 'apply', project: 'default', deployment: id, planDigest: 'p', by: 'test' } })
      await broker.publish('tasks', [{ id, body: JSON.stringify({ v: 1, task: id }) }])
      await waitFor('the order is intended', async () => (await store.tasks.readEvents(taskId(id), 0)).some(({ event }) => event.type === 'actionSent'))
    },
  }
}

t.test('a stream that ends while it is found out whether its node is a copy never becomes the stream of the node (seed 50345)', async (t) => {
  const { clock, connect, order, waitFor, warnings } = await startWorld(t, ['one', 'two'])
  // Its node crashes, and nobody tells the engine. It comes back, and its agent dies before it is let in.
  connect('one', 'before the crash')
  const second = connect('one', 'after it')
  await clock.turn(heartbeatIntervalMs / 2)
  second.emit('cancelled')
  const third = connect('two', 'after the death of the agent')
  for (let turn = 0; turn < 4; turn++) {
    await clock.turn(heartbeatIntervalMs)
    third.heartbeat()
  }
  await order('t-1')
  await waitFor('the order goes to where the node is', () => third.orders.length === 1)
  t.same(second.orders, [])
  t.notOk(third.isOver)
  t.same(warnings, [], 'nobody is called a copy')
})

t.test('while two streams of a node wait for the same silent one, the later of them stays in the end', async (t) => {
  const { clock, connect, order, waitFor } = await startWorld(t, ['one'])
  const first = connect('one', 'first')
  const second = connect('one', 'second')
  await clock.turn(heartbeatIntervalMs)
  const third = connect('one', 'third')
  await clock.turn(heartbeatIntervalMs * 8)
  t.ok(first.isOver && second.isOver)
  await order('t-1')
  await waitFor('the order goes to the latest', () => third.orders.length === 1)
})

t.test('a stream that waited is given up when its process has opened another one meanwhile', async (t) => {
  const { clock, connect, order, waitFor } = await startWorld(t, ['one'])
  const first = connect('one', 'first')
  const dead = connect('one', 'second')
  await clock.turn(heartbeatIntervalMs)
  first.emit('cancelled')
  const alive = connect('one', 'second')
  await clock.turn(heartbeatIntervalMs * 8)
  t.ok(dead.isOver)
  t.notOk(alive.isOver, 'the newer one is left alone')
  await order('t-1')
  await waitFor('the order goes there', () => alive.orders.length === 1)
})

t.test('the end of a stream that another one has replaced takes nothing from the newer one, at the same engine', async (t) => {
  const { connect, order, waitFor } = await startWorld(t, ['one'])
  const older = connect('one', 'same')
  const newer = connect('one', 'same')
  older.emit('cancelled')
  t.ok(older.isOver)
  await order('t-1')
  await waitFor('the order goes to the newer one', () => newer.orders.length === 1)
})

t.test('the end of a stale stream takes nothing from a newer one at another engine, and what went out on it goes out there', async (t) => {
  const { clock, connect, order, store, waitFor } = await startWorld(t, ['one', 'two'])
  const stale = connect('one', 'same process')
  await order('t-1')
  await waitFor('the order went out on what nobody reads any more', () => stale.orders.length === 1)
  // The agent found its stream dead and is at another gateway; the first engine finds out later. It is told, and closes its own.
  const since = clock.elapsed()
  const newer = connect('two', 'same process')
  await waitFor('the order went out again', () => newer.orders.length === 1)
  t.ok(clock.elapsed() - since < heartbeatIntervalMs, `at once: after ${clock.elapsed() - since} ms`)
  t.ok(stale.isOver)
  await waitFor('the record says where the node is', async () => (await store.nodes.listNodes()).some(({ state, engine }) => state === 'ready' && engine === 'two'))
})
