// The store's word on where a node is connected: written by engines whose writes may be held up while the store is away.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { nodeId } from '@lichen/core'
import { buildEngineLimits } from '@lichen/engine'
import { openSqliteStore } from '@lichen/store'
import t, { type Test } from 'tap'
import { startNodeDirectory } from '../../packages/engine/dist/gateway/node-directory.js'
import { eventually } from '../eventually.js'
import { makeHandClock } from './hand-clock.js'

const silent = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined }

/** A store with these nodes, and the directory of engine `one` over it; `changes` counts what it said to others. */
async function startDirectory(t: Test, names: readonly string[], hasSession: (node: string) => boolean) {
  const directory = mkdtempSync(join(tmpdir(), 'lichen-directory-'))
  t.teardown(() => rmSync(directory, { recursive: true, force: true }))
  const store = await openSqliteStore({ path: join(directory, 'lichen.db') })
  t.teardown(() => store.close())
  const clock = makeHandClock()
  await store.nodes.putJoinToken({ id: 'jt', secretDigest: 'x', labels: {}, usesLeft: null, expiresAt: 1e15, createdAt: 0, createdBy: 'test' })
  const admit = (name: string, keyDigest = 'r') => store.nodes.admitNode({ tokenId: 'jt', secretDigest: 'x', node: nodeId(name), labels: {}, keyDigest, agentVersion: '1', now: clock.now() })
  for (const name of names) await admit(name)
  const limits = buildEngineLimits({ heartbeatIntervalMs: 2_000, nodesRefreshMs: 2_000 })
  const counted = { changes: 0 }
  const one = await startNodeDirectory({ nodes: store.nodes, clock, engine: 'one', log: silent, limits, hasSession, changed: () => counted.changes++ })
  t.teardown(() => one.stop())
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
