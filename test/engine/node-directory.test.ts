// The store's word on where a node is connected: written by engines whose writes may be held up while the store is away.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { nodeId } from '@lichen/core'
import { buildEngineLimits } from '@lichen/engine'
import { openSqliteStore } from '@lichen/store'
import t from 'tap'
import { startNodeDirectory } from '../../packages/engine/dist/gateway/node-directory.js'
import { eventually } from '../eventually.js'
import { makeHandClock } from './hand-clock.js'

const silent = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined }

t.test('the engine that has the session of a node says so until the store agrees, also after the late word of another one (seed 60678)', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'lichen-directory-'))
  t.teardown(() => rmSync(directory, { recursive: true, force: true }))
  const store = await openSqliteStore({ path: join(directory, 'lichen.db') })
  t.teardown(() => store.close())
  const clock = makeHandClock()
  await store.nodes.putJoinToken({ id: 'jt', secretDigest: 'x', labels: {}, usesLeft: null, expiresAt: 1e15, createdAt: 0, createdBy: 'test' })
  for (const name of ['here', 'elsewhere']) await store.nodes.admitNode({ tokenId: 'jt', secretDigest: 'x', node: nodeId(name), labels: {}, keyDigest: 'r', agentVersion: '1', now: clock.now() })
  const limits = buildEngineLimits({ heartbeatIntervalMs: 2_000, nodesRefreshMs: 2_000 })
  const one = await startNodeDirectory({ nodes: store.nodes, clock, engine: 'one', log: silent, limits, hasSession: (node) => node === 'here', changed: () => undefined })
  t.teardown(() => one.stop())
  // Engine two had both nodes before, and its write comes only now.
  await store.nodes.updateNodes(['here', 'elsewhere'].map((name) => ({ node: nodeId(name), seenAt: clock.now(), state: 'ready' as const, engine: 'two' })))
  await eventually(t, 'the record says where the node is', async () => {
    await clock.turn(1_000)
    return (await store.nodes.listNodes()).find(({ id }) => id === 'here')?.engine === 'one'
  })
  t.equal((await store.nodes.listNodes()).find(({ id }) => id === 'elsewhere')?.engine, 'two', 'of others it says nothing')
})
