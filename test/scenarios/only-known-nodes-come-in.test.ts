import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { clockOf, nodeId } from '@lichen/core'
import { openSealer, startEngine } from '@lichen/engine'
import { Registry } from 'prom-client'
import t from 'tap'
import { eventually } from '../eventually.js'
import { actionOf, makePlan, startSystem, testCatalog } from './system.js'

t.test('a node with a wrong, an expired or a used-up join token stays outside', async (t) => {
  const system = await startSystem(t)
  const good = await system.makeToken()
  const [, , , digest] = good.split('.')
  await t.rejects(system.startAgent('n1', { token: `lichen1.abcdefgh.${'x'.repeat(32)}.${digest}` }), { code: 'JOIN_TOKEN_INVALID' })
  await t.rejects(system.startAgent('n1', { token: await system.makeToken({ expiresAt: Date.now() - 1 }) }), { code: 'JOIN_TOKEN_EXPIRED' })
  const once = await system.makeToken({ usesLeft: 1 })
  await system.startAgent('n1', { token: once })
  await t.rejects(system.startAgent('n2', { token: once }), { code: 'JOIN_TOKEN_EXPIRED' })
  await t.rejects(system.startAgent('n1', { token: good, dataDirectory: join(system.directory, 'other') }), { code: 'JOIN_NAME_TAKEN' })
  await t.rejects(system.startAgent('n3', { token: good.replace(String(digest), '0'.repeat(64)) }), { code: 'JOIN_CA_MISMATCH' })
  t.strictSame((await system.store.nodes.listNodes()).map((node) => node.id), ['n1'])
})

t.test('a node that was deleted loses its stream and cannot come back without joining anew', async (t) => {
  const system = await startSystem(t)
  const agent = await system.startAgent('n1')
  await system.store.nodes.deleteNode(nodeId('n1'))
  await eventually(t, 'it is refused', () => agent.state === 'connecting' && /not registered any more/.test(agent.lastError))
  await agent.stop()
  await system.startAgent('n1', { dataDirectory: join(system.directory, 'fresh') })
  t.strictSame((await system.store.nodes.listNodes()).map((node) => [node.id, node.state]), [['n1', 'ready']])
})

t.test('an order without a good signature is refused by the node, nothing is run, and the task says why', async (t) => {
  const system = await startSystem(t)
  const agent = await system.startAgent('n1')
  await system.stopEngine()
  const silent = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined }
  const forged = await startEngine({
    store: system.store, broker: system.broker, catalog: testCatalog, sealer: openSealer(Buffer.alloc(32, 7)), clock: clockOf(globalThis), log: silent, registry: new Registry(), identity: { name: 'forger', instance: 'i' },
    authority: { ...system.authority, signer: { keyId: system.authority.signer.keyId, sign: () => Buffer.alloc(64, 1) } }, gateway: { host: '127.0.0.1', port: Number(system.gateway().split(':')[1]), advertise: () => system.gateway() },
  })
  t.teardown(() => forged.stop())
  await eventually(t, 'the agent is back', () => agent.state === 'connected')
  const file = join(system.directory, 'ran')
  const view = await system.ended(await system.submit(makePlan('forged', [{ name: 'app', blueprint: 'script', with: { script: `touch ${file}` } }])))
  t.match(view, { outcome: 'failed', failure: { code: 'ORDER_UNSIGNED' } })
  t.match(actionOf(view, 'app/'), { state: 'failed', attempt: 1 })
  t.notOk(existsSync(file))
})
