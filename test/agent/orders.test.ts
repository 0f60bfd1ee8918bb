import { generateKeyPairSync, sign } from 'node:crypto'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { buildOrder, buildSignedCancel, buildSignedOrders, orderDigest, type SignedOrder } from '@lichen/protocol'
import { eventually } from '../eventually.js'
import { startGateway, startTestAgent } from './agent.js'
import { makeCommand, makeOrder } from './gateway.js'

t.test('nothing runs that is not signed for this node, in force and readable', async (t) => {
  const gateway = await startGateway(t)
  const agent = await startTestAgent(t, gateway)
  const path = join(agent.directory, 'must-not-exist')
  const commands = [makeCommand('file', { path, content: '' })]
  const stranger = generateKeyPairSync('ed25519')
  const flip = (bytes: Buffer): Buffer => Buffer.from(bytes.map((byte, index) => (index === bytes.length - 1 ? byte ^ 1 : byte)))
  const cases: [string, string, () => unknown][] = [
    ['no signature', 'ORDER_UNSIGNED', () => gateway.order({ commands }, (signed) => ({ ...signed, signature: Buffer.alloc(0) }))],
    ['a key the node does not know', 'ORDER_UNSIGNED', () => gateway.order({ commands }, (signed) => ({ ...signed, keyId: 'key-9' }))],
    ['a stranger’s key under a known id', 'ORDER_UNSIGNED', () => gateway.send({ $case: 'order', value: buildSignedOrders([buildOrder(makeOrder({ commands }))], { keyId: 'key-1', sign: (bytes) => sign(null, bytes, stranger.privateKey) })[0]! })],
    ['an altered order', 'ORDER_UNSIGNED', () => gateway.order({ commands, secrets: ['abcd'] }, (signed): SignedOrder => ({ ...signed, order: flip(signed.order) }))],
    ['a signed cancel passed off as an order', 'ORDER_UNSIGNED', () => {
      const { cancel, keyId, signature } = buildSignedCancel({ key: { taskId: 't-1', actionId: 'a', attempt: 1 }, nodeId: 'node-1', epoch: 1, reason: '' }, gateway.signer)
      gateway.send({ $case: 'order', value: { order: cancel, keyId, signature, batch: cancel } })
    }],
    ['an altered order whose digest was put into the batch', 'ORDER_UNSIGNED', () => gateway.order({ commands, secrets: ['abcd'] }, (signed): SignedOrder => ({ ...signed, order: flip(signed.order), batch: Buffer.concat([signed.batch, orderDigest(flip(signed.order))]) }))],
    ['an order that is not of its batch', 'ORDER_UNSIGNED', () => gateway.order({ commands }, (signed): SignedOrder => ({ ...buildSignedOrders([buildOrder(makeOrder({ commands }))], gateway.signer)[0]!, order: signed.order }))],
    ['a batch that is cut', 'ORDER_UNSIGNED', () => gateway.order({ commands }, (signed): SignedOrder => ({ ...signed, batch: signed.batch.subarray(1) }))],
    ['an order without a batch', 'ORDER_UNSIGNED', () => gateway.order({ commands }, (signed): SignedOrder => ({ ...signed, batch: Buffer.alloc(0) }))],
    ['another node’s order', 'ORDER_UNSIGNED', () => gateway.order({ commands, nodeId: 'node-2' })],
    ['an expired order', 'ORDER_EXPIRED', () => gateway.order({ commands, expiresAt: Date.now() - 1 })],
    ['commands with another digest', 'ORDER_MALFORMED', () => gateway.send({ $case: 'order', value: buildSignedOrders([{ ...buildOrder(makeOrder({ commands })), commandsDigest: Buffer.alloc(32) }], gateway.signer)[0]! })],
    ['an unknown command kind', 'ORDER_MALFORMED', () => gateway.order({ commands: [{ name: 'x', kind: 'teleport', timeoutMs: 1, spec: {} } as never] })],
    ['a field the kind does not have', 'ORDER_MALFORMED', () => gateway.order({ commands: [makeCommand('file', { path, content: '', colour: 'red' } as never)] })],
    ['bytes that are no order', 'ORDER_MALFORMED', () => gateway.send({ $case: 'order', value: { order: Buffer.from('garbage'), keyId: 'key-1', signature: Buffer.alloc(64), batch: orderDigest(Buffer.from('garbage')) } })],
  ]
  for (const [title, code, send] of cases) {
    const before = gateway.refused.length
    send()
    const refused = await eventually(t, title, () => gateway.refused[before])
    t.equal(refused.code, code, title)
    t.ok(refused.message.length > 20, refused.message)
  }
  t.notOk(existsSync(path))
  t.same(gateway.results, [])
  t.same(gateway.accepted, [])
})

t.test('an order of which nothing is for this node is answered at once, and has changed nothing', async (t) => {
  const gateway = await startGateway(t)
  await startTestAgent(t, gateway)
  const key = gateway.order({ commands: [] })
  t.match(await eventually(t, 'the result', () => gateway.resultOf(key)), { result: { outcome: 'succeeded', changed: false, commands: [] } })
})

t.test('one signature stands for all orders of a batch, whichever of them a node gets, and for none beside', async (t) => {
  const gateway = await startGateway(t)
  await startTestAgent(t, gateway)
  const orders = Array.from({ length: 40 }, (_, index) => makeOrder({ commands: [makeCommand('note', { text: 'x' })], ...(index % 4 === 3 ? { nodeId: 'node-2' } : {}) }))
  const signed = buildSignedOrders(orders.map(buildOrder), gateway.signer)
  t.equal(new Set(signed.map(({ signature }) => signature)).size, 3, 'of sixteen at most')
  const mine = signed.filter((_, index) => index % 4 !== 3)
  // A forged one between them must not profit from the one before, which was verified.
  const forged = { ...mine[5]!, order: mine[29]!.order }
  for (const value of [...mine.slice(0, 5), forged, ...mine.slice(5, 10)]) gateway.send({ $case: 'order', value })
  await eventually(t, 'ten results', () => gateway.results.length === 10)
  t.match(gateway.refused, [{ code: 'ORDER_UNSIGNED' }])
  gateway.send({ $case: 'order', value: signed[3]! })
  await eventually(t, 'the order of another node is refused', () => gateway.refused.length === 2)
  t.match(gateway.refused[1], { code: 'ORDER_UNSIGNED', message: /node-2/ })
})

t.test('an order or a cancel with a lower epoch than the node has seen for the task is refused, also after a restart', async (t) => {
  const gateway = await startGateway(t)
  const agent = await startTestAgent(t, gateway)
  const key = gateway.order({ epoch: 7, commands: [makeCommand('note', { text: 'x' })] })
  await eventually(t, 'the result', () => gateway.resultOf(key))
  gateway.order({ epoch: 6, commands: [makeCommand('note', { text: 'x' })] })
  t.match(await eventually(t, 'a refusal', () => gateway.refused[0]), { code: 'ORDER_STALE_EPOCH' })
  gateway.cancel(key, 6)
  t.match(await eventually(t, 'a refusal', () => gateway.refused[1]), { code: 'ORDER_STALE_EPOCH' })
  await agent.stop()
  await startTestAgent(t, gateway, { dataDirectory: agent.directory })
  gateway.order({ epoch: 6, commands: [makeCommand('note', { text: 'x' })] })
  t.match(await eventually(t, 'a refusal', () => gateway.refused[2]), { code: 'ORDER_STALE_EPOCH' })
  const other = gateway.order({ epoch: 1, key: { taskId: 't-2', actionId: 'a', attempt: 1 }, commands: [makeCommand('note', { text: 'x' })] })
  await eventually(t, 'another task has its own epochs', () => gateway.resultOf(other))
})

t.test('a duplicate order runs nothing: it gets the stored answer, while it runs, after it, after the acknowledgement and after a restart', async (t) => {
  const gateway = await startGateway(t)
  const agent = await startTestAgent(t, gateway)
  const trace = join(agent.directory, 'trace')
  const order = makeOrder({ commands: [makeCommand('run', { shell: `echo ran >> ${trace}; while [ ! -e ${trace}.go ]; do sleep 0.02; done; wc -l < ${trace}`, uncheckable: true, outputs: { lines: { from: 'stdout' } } })] })
  gateway.acknowledges = false
  gateway.order(order)
  await eventually(t, 'it runs', () => existsSync(trace))
  gateway.order(order)
  await eventually(t, 'accepted twice', () => gateway.accepted.length === 2)
  const go = gateway.order({ commands: [makeCommand('file', { path: `${trace}.go`, content: '' })] })
  await eventually(t, 'the other result', () => gateway.resultOf(go))
  await eventually(t, 'the result', () => gateway.resultOf(order.key))
  const count = (): number => gateway.results.filter(({ key }) => key.actionId === order.key.actionId).length
  gateway.order(order)
  await eventually(t, 'the stored answer', () => count() === 2)
  gateway.acknowledgeResult(order.key)
  gateway.order({ ...order, epoch: 3 })
  await eventually(t, 'the stored answer after the acknowledgement', () => count() === 3)
  t.equal(gateway.results.at(-1)?.epoch, 3, 'with the epoch of who asks now')
  gateway.acknowledgeResult(order.key)
  gateway.acknowledgeResult(go)
  const probe = gateway.order({ epoch: 3, commands: [makeCommand('note', { text: 'x' })] })
  await eventually(t, 'the acknowledgements were read', () => gateway.resultOf(probe))
  await agent.stop()
  await startTestAgent(t, gateway, { dataDirectory: agent.directory })
  gateway.order({ ...order, epoch: 3 })
  await eventually(t, 'the stored answer after a restart', () => count() === 4)
  for (const { result } of gateway.results.filter(({ key }) => key.actionId === order.key.actionId)) t.match(result, { outcome: 'succeeded', outputs: { lines: '1' } })
})

t.test('an attempt that was cancelled before its order came is answered as cancelled and never runs', async (t) => {
  const gateway = await startGateway(t)
  const agent = await startTestAgent(t, gateway)
  const path = join(agent.directory, 'must-not-exist')
  const order = makeOrder({ commands: [makeCommand('file', { path, content: '' })] })
  gateway.cancel(order.key)
  t.match(await eventually(t, 'the result', () => gateway.resultOf(order.key)), { result: { outcome: 'cancelled', changed: false, commands: [] } })
  gateway.order(order)
  await eventually(t, 'the stored answer', () => gateway.results.length === 2)
  t.match(gateway.results[1], { result: { outcome: 'cancelled' } })
  t.notOk(existsSync(path))
})

t.test('attempts wait for a slot, and one that waits can be cancelled at once', async (t) => {
  const gateway = await startGateway(t)
  const agent = await startTestAgent(t, gateway, { concurrency: 1 })
  const hold = join(agent.directory, 'hold')
  const first = gateway.order({ commands: [makeCommand('run', { shell: `while [ ! -e ${hold} ]; do sleep 0.02; done`, uncheckable: true })] })
  const second = gateway.order({ commands: [makeCommand('run', { argv: ['touch', hold], creates: hold })] })
  const third = gateway.order({ commands: [makeCommand('run', { argv: ['true'], uncheckable: true })] })
  await eventually(t, 'all are journaled', () => gateway.accepted.length === 3)
  gateway.cancel(second)
  t.match(await eventually(t, 'the result', () => gateway.resultOf(second)), { result: { outcome: 'cancelled', commands: [] } })
  t.equal(gateway.resultOf(first), undefined)
  t.equal(gateway.resultOf(third), undefined)
  gateway.cancel(first)
  t.match(await eventually(t, 'the result', () => gateway.resultOf(first)), { result: { outcome: 'cancelled', failure: { code: 'COMMAND_CANCELLED', message: 'the operator said so' } } })
  t.match(await eventually(t, 'the result', () => gateway.resultOf(third)), { result: { outcome: 'succeeded' } })
  t.notOk(existsSync(hold))
})
