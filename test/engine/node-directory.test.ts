// The store's word on where a node is connected: written by engines whose writes may be held up while the store is away.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { nodeId } from '@lichen/core'
import { buildEngineLimits } from '@lichen/engine'
import { type NodeStore, openSqliteStore } from '@lichen/store'
import t, { type Test } from 'tap'
import { startNodeDirectory } from '../../packages/engine/dist/gateway/node-directory.js'
import { eventually } from '../eventually.js'
import { makeHandClock } from './hand-clock.js'

const silent = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined }

/** A store with these nodes, and the directory of engine `one` over it; `changes` counts what it said to others. */
async function startDirectory(t: Test, names: readonly string[], hasSession: (node: string) => boolean, change: { readonly readDelayMs?: number; readonly heartbeatsPerSecond?: number } = {}) {
  const directory = mkdtempSync(join(tmpdir(), 'lichen-directory-'))
  t.teardown(() => rmSync(directory, { recursive: true, force: true }))
  const store = await openSqliteStore({ path: join(directory, 'lichen.db') })
  t.teardown(() => store.close())
  const clock = makeHandClock()
  await store.nodes.putJoinToken({ id: 'jt', secretDigest: 'x', labels: {}, usesLeft: null, expiresAt: 1e15, createdAt: 0, createdBy: 'test' })
  const admit = (name: string, keyDigest = 'r') => store.nodes.admitNode({ tokenId: 'jt', secretDigest: 'x', node: nodeId(name), labels: {}, keyDigest, agentVersion: '1', now: clock.now() })
  for (const name of names) await admit(name)
  const { readDelayMs = 0, ...limit } = change
  const limits = buildEngineLimits({ heartbeatIntervalMs: 2_000, nodesRefreshMs: 2_000, ...limit })
  const slowly = { isOn: false }
  const nodes: NodeStore = {
    ...store.nodes,
    async readNodeChanges(...asked) {
      const read = await store.nodes.readNodeChanges(...asked)
      if (slowly.isOn) await new Promise<void>((resolve) => clock.after(readDelayMs, resolve))
      return read
    },
  }
  const counted = { changes: 0 }
  const one = await startNodeDirectory({ nodes, clock, engine: 'one', log: silent, limits, hasSession, changed: () => counted.changes++ })
  t.teardown(async () => {
    const stopped = one.stop()
    await clock.turn(readDelayMs)
    await stopped
  })
  slowly.isOn = readDelayMs > 0
  return { store, clock, one, admit, counted }
}

t.test('the copy follows the store: who came, changed, was deleted or joined anew, and says so to others when it matters', async (t) => {
  const { store, clock, one, admit, counted } = await startDirectory(t, ['c', 'a'], () => false)
  const isAsListed = async (): Promise<unknown> => t.strictSame(await one.refresh(), await store.nodes.listNodes())
  await isAsListed()
  t.equal(counted.changes, 0, 'the first read is no news')
  await admit('b')
  await isAsListed()
  t.equal(counted.changes, 1)
  await store.nodes.updateNodes([{ node: nodeId('a'), seenAt: clock.now() + 1, state: 'ready', agentVersion: '2', engine: 'two' }, { node: nodeId('b'), seenAt: clock.now() + 1, state: 'ready', engine: 'one' }])
  await store.nodes.setNode(nodeId('a'), { labels: { zone: 'x' } })
  await isAsListed()
  await store.nodes.updateNodes([{ node: nodeId('a'), seenAt: clock.now() + 2 }])
  await isAsListed()
  t.equal(counted.changes, 1, 'nothing of this changes what may be sent')
  await store.nodes.setNode(nodeId('a'), { cordoned: true })
  await isAsListed()
  t.equal(counted.changes, 2)
  await store.nodes.deleteNode(nodeId('c'))
  await admit('d')
  await isAsListed()
  t.equal(counted.changes, 3, 'one went, another came')
  await store.nodes.deleteNode(nodeId('a'))
  await admit('a', 'another key')
  await isAsListed()
  t.equal(counted.changes, 4)
  t.notOk(await one.isRegistered({ node: nodeId('a'), registration: 'r' }))
  t.ok(await one.isRegistered({ node: nodeId('a'), registration: 'another key' }))
})

t.test('a node of another engine is lost when that one has not heard of it for the limit, and not before', async (t) => {
  const { store, clock } = await startDirectory(t, ['n'], () => false)
  const node = nodeId('n')
  const readState = async () => (await store.nodes.listNodes())[0]?.state
  await store.nodes.updateNodes([{ node, seenAt: clock.now(), state: 'ready', engine: 'two' }])
  for (let beat = 0; beat < 10; beat++) {
    await clock.turn(2_000)
    await store.nodes.updateNodes([{ node, seenAt: clock.now() }])
  }
  t.equal(await readState(), 'ready')
  await eventually(t, 'it is lost', async () => {
    await clock.turn(1_000)
    return (await readState()) === 'lost'
  })
})

t.test('a list that takes longer to read than the limit says how things were when the read began: nobody is lost for it', async (t) => {
  const { store, clock } = await startDirectory(t, ['n'], () => false, { readDelayMs: 7_000 })
  const node = nodeId('n')
  await store.nodes.updateNodes([{ node, seenAt: clock.now(), state: 'ready', engine: 'two' }])
  for (let beat = 0; beat < 20; beat++) {
    await store.nodes.updateNodes([{ node, seenAt: clock.now() }])
    await clock.turn(2_000)
  }
  t.equal((await store.nodes.listNodes())[0]?.state, 'ready')
  await eventually(t, 'it is lost when it says nothing any more', async () => {
    await clock.turn(1_000)
    return (await store.nodes.listNodes())[0]?.state === 'lost'
  })
})

t.test('the more nodes there are, the less often each says that it is alive, and the later it is lost', async (t) => {
  const { one, admit } = await startDirectory(t, ['a', 'b', 'c', 'd'], () => false, { heartbeatsPerSecond: 2 })
  t.equal(one.heartbeatIntervalMs(), 2_000, 'four of them are not too many')
  for (const name of ['e', 'f', 'g', 'h', 'i']) await admit(name)
  await one.refresh()
  t.equal(one.heartbeatIntervalMs(), 4_500, 'nine of them, two heartbeats a second')
  t.equal(one.lostAfterMs(), 13_500)
})

t.test('a node that is connected here and was taken for lost elsewhere is ready again at once', async (t) => {
  const { store, clock } = await startDirectory(t, ['n'], () => true)
  await store.nodes.updateNodes([{ node: nodeId('n'), seenAt: clock.now(), state: 'lost', engine: 'one' }])
  await eventually(t, 'it is ready', async () => {
    await clock.turn(1_000)
    return (await store.nodes.listNodes())[0]?.state === 'ready'
  })
})

t.test('the engine that has the session of a node says so until the store agrees, also after the late word of another one (seed 60678)', async (t) => {
  const { store, clock } = await startDirectory(t, ['here', 'elsewhere'], (node) => node === 'here')
  // Engine two had both nodes before, and its write comes only now.
  await store.nodes.updateNodes(['here', 'elsewhere'].map((name) => ({ node: nodeId(name), seenAt: clock.now(), state: 'ready' as const, engine: 'two' })))
  await eventually(t, 'the record says where the node is', async () => {
    await clock.turn(1_000)
    return (await store.nodes.listNodes()).find(({ id }) => id === 'here')?.engine === 'one'
  })
  t.equal((await store.nodes.listNodes()).find(({ id }) => id === 'elsewhere')?.engine, 'two', 'of others it says nothing')
})
