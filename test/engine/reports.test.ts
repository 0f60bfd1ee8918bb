import t, { type Test } from 'tap'
import { eventually } from '../eventually.js'
import { actionOf, makePlan, startSystem, type SystemOptions } from '../scenarios/system.js'
import { connectNode, type FakeIdentity, type FakeNode, joinNode, makeResult } from './fake-node.js'

async function startWithNodes(t: Test, names: readonly string[], options: SystemOptions = {}) {
  const system = await startSystem(t, options)
  const token = await system.makeToken()
  const nodes: Record<string, FakeNode> = {}
  const identities: Record<string, FakeIdentity> = {}
  for (const name of names) {
    const identity = await joinNode(t, system.gateway(), system.authority.caCertificatePem, token, name)
    identities[name] = identity
    nodes[name] = await connectNode(t, system.gateway(), identity, name)
  }
  await eventually(t, 'they are ready', async () => (await system.store.nodes.listNodes()).filter((node) => node.state === 'ready').length === names.length)
  return { system, nodes, identities }
}
const nextOrder = (t: Test, node: FakeNode, index = 0) => eventually(t, 'an order comes', () => node.orders[index])

t.test('an order says all that the node must know', async (t) => {
  const { system, nodes } = await startWithNodes(t, ['n1'])
  const task = await system.submit(makePlan('p', [{ name: 'app', blueprint: 'note', with: { text: 'hi' } }]))
  const order = await nextOrder(t, nodes.n1!)
  t.match(order, { key: { taskId: task, actionId: 'app/say@n1', attempt: 1 }, nodeId: 'n1', epoch: 1, secrets: [], parsed: [{ kind: 'note', spec: { text: 'hi' } }] })
  t.ok(order.expiresAt > Date.now())
  const sent = (await system.readEvents(task)).find(({ event }) => event.type === 'actionSent')
  t.ok(sent, 'the intent is durable before the order is out')
  nodes.n1!.result(order.key!)
  t.equal((await system.ended(task)).outcome, 'succeeded')
  await eventually(t, 'the result is acknowledged', () => nodes.n1!.resultAcks.length === 1)
})

t.test('a result that cannot be read ends the attempt as unknown, and the node need not send it again', async (t) => {
  const { system, nodes } = await startWithNodes(t, ['n1'])
  for (const [index, bad] of ['', '{', '{"outcome":"great"}', '[]'].entries()) {
    const task = await system.submit(makePlan(`p${index}`, [{ name: 'app', blueprint: 'script', with: { script: 'true' } }]))
    const order = await nextOrder(t, nodes.n1!, index)
    nodes.n1!.result(order.key!, bad)
    await eventually(t, 'it is unknown', async () => actionOf(await system.readView(task), 'app/').state === 'unknown')
    t.match(actionOf(await system.readView(task), 'app/'), { result: { failure: { code: 'ORDER_MALFORMED' } } }, bad)
    await eventually(t, 'acknowledged', () => nodes.n1!.resultAcks.length === index + 1)
  }
})

t.test('a node can report its own attempts alone', async (t) => {
  const { system, nodes } = await startWithNodes(t, ['n1', 'n2'])
  const task = await system.submit(makePlan('p', [{ name: 'app', blueprint: 'note' }]))
  const first = await nextOrder(t, nodes.n1!)
  const second = await nextOrder(t, nodes.n2!)
  nodes.n2!.result(first.key!)
  await eventually(t, 'the false report is answered', () => nodes.n2!.resultAcks.length === 1)
  t.equal(actionOf(await system.readView(task), 'app/say@n1').state, 'sent', 'and changes nothing')
  nodes.n2!.log(first.key!, 0, 'lies\n')
  nodes.n2!.log({ taskId: task, actionId: 'no/such@n2', attempt: 1 }, 0, 'lies\n')
  nodes.n2!.log({ ...second.key!, attempt: 7 }, 0, 'lies\n')
  nodes.n2!.log({ taskId: 't-none', actionId: 'x', attempt: 1 }, 0, 'lies\n')
  nodes.n2!.log(second.key!, 0, 'truth\n')
  await eventually(t, 'all are acknowledged', () => nodes.n2!.logAcks.length === 5)
  t.equal(await system.readLog(task), 'truth\n')
  nodes.n1!.result(first.key!)
  nodes.n2!.result(second.key!)
  t.equal((await system.ended(task)).outcome, 'succeeded')
})

t.test('a result that comes again, or late, or of an older attempt, changes nothing and is acknowledged', async (t) => {
  const { system, nodes } = await startWithNodes(t, ['n1'])
  const node = nodes.n1!
  const task = await system.submit(makePlan('p', [{ name: 'app', blueprint: 'retried', with: { script: 'true' } }]))
  const first = await nextOrder(t, node)
  node.result(first.key!, makeResult({ outcome: 'failed', failure: { code: 'COMMAND_FAILED', message: 'no' } }))
  const second = await nextOrder(t, node, 1)
  t.equal(second.key!.attempt, 2)
  node.result(first.key!)
  node.result(second.key!)
  node.result(second.key!, makeResult({ outcome: 'failed' }))
  const view = await system.ended(task)
  t.match(actionOf(view, 'app/'), { state: 'succeeded', attempt: 2 })
  node.result(second.key!, makeResult({ outcome: 'failed' }))
  await eventually(t, 'each is acknowledged', () => node.resultAcks.length === 5)
  t.equal((await system.readEvents(task)).at(-1)?.event.type, 'taskEnded')
})

t.test('log lines that come twice are stored once, and acknowledged as far as they are durable', async (t) => {
  const { system, nodes } = await startWithNodes(t, ['n1'])
  const node = nodes.n1!
  const task = await system.submit(makePlan('p', [{ name: 'app', blueprint: 'note' }]))
  const { key } = await nextOrder(t, node)
  node.log(key!, 0, 'one\n')
  await eventually(t, 'durable', () => node.logAcks.at(-1)?.position === 4)
  node.log(key!, 0, 'one\n')
  node.log(key!, 0, 'one\ntwo\n')
  node.log(key!, 8, 'three\n')
  await eventually(t, 'durable', () => node.logAcks.at(-1)?.position === 14)
  t.equal(await system.readLog(task), 'one\ntwo\nthree\n')
  node.log(key!, 100, 'after a hole\n')
  await eventually(t, 'a node that lost lines can go on', () => node.logAcks.at(-1)?.position === 113)
  t.ok(system.logged.some((line) => line.level === 'error' && /log lines are missing/.test(line.message)))
  node.result(key!)
  await system.ended(task)
  node.log(key!, 14, 'late\n')
  await eventually(t, 'lines that come after the end are stored too', () => node.logAcks.at(-1)?.position === 19)
  t.equal(await system.readLog(task), 'one\ntwo\nthree\nlate\n')
})

t.test('an order is sent again on a new stream unless the node says that it runs, and never once its result is here', async (t) => {
  const { system, nodes, identities } = await startWithNodes(t, ['n1'])
  const task = await system.submit(makePlan('p', [{ name: 'app', blueprint: 'note' }]))
  const { key } = await nextOrder(t, nodes.n1!)
  const second = await connectNode(t, system.gateway(), identities.n1!, 'n1')
  t.match((await nextOrder(t, second)).key, { attempt: 1 }, 'the same attempt')
  const third = await connectNode(t, system.gateway(), identities.n1!, 'n1', [key!])
  third.result(key!)
  t.equal((await system.ended(task)).outcome, 'succeeded')
  t.strictSame(third.orders, [])
  const fourth = await connectNode(t, system.gateway(), identities.n1!, 'n1')
  const next = await system.submit(makePlan('q', [{ name: 'app', blueprint: 'note' }]))
  t.match((await nextOrder(t, fourth)).key, { taskId: next }, 'only the next one')
})

t.test('what a stream said before a newer one took its place does not count twice', async (t) => {
  const { system, nodes, identities } = await startWithNodes(t, ['n1'])
  const task = await system.submit(makePlan('p', [{ name: 'app', blueprint: 'note' }]))
  const { key } = await nextOrder(t, nodes.n1!)
  nodes.n1!.result(key!)
  const second = await connectNode(t, system.gateway(), identities.n1!, 'n1')
  second.result(key!)
  t.equal((await system.ended(task)).outcome, 'succeeded')
  await eventually(t, 'the newer stream is answered', () => second.resultAcks.length > 0)
  t.equal((await system.readEvents(task)).filter(({ event }) => event.type === 'actionEnded').length, 1)
})

t.test('an attempt that nobody answers is unknown at its deadline, and a late result settles it', async (t) => {
  const { system, nodes } = await startWithNodes(t, ['n1'], { limits: { task: { beginWithinMs: 0, answerGraceMs: -609_000 } } })
  const task = await system.submit(makePlan('p', [{ name: 'app', blueprint: 'script', with: { script: 'true' } }]))
  const { key } = await nextOrder(t, nodes.n1!)
  await eventually(t, 'it is unknown', async () => actionOf(await system.readView(task), 'app/').state === 'unknown')
  t.match(actionOf(await system.readView(task), 'app/'), { result: { failure: { code: 'ACTION_NO_ANSWER' } } })
  t.equal((await system.readView(task)).state, 'running', 'the task waits for an answer')
  nodes.n1!.result(key!)
  t.equal((await system.ended(task)).outcome, 'succeeded')
  await eventually(t, 'acknowledged', () => nodes.n1!.resultAcks.length === 1)
})

t.test('metrics count what happened', async (t) => {
  const { system, nodes } = await startWithNodes(t, ['n1'])
  const task = await system.submit(makePlan('p', [{ name: 'app', blueprint: 'note' }]))
  const { key } = await nextOrder(t, nodes.n1!)
  nodes.n1!.log(key!, 0, 'hello\n')
  await eventually(t, 'stored', () => nodes.n1!.logAcks.length === 1)
  nodes.n1!.result(key!)
  await system.ended(task)
  const text = await system.registry().metrics()
  for (const line of ['lichen_actions_ended_total{outcome="succeeded"} 1', 'lichen_tasks_ended_total{outcome="succeeded"} 1', 'lichen_orders_sent_total 1', 'lichen_log_bytes_total 6', 'lichen_agent_sessions 1', 'lichen_joins_total{answer="ok"} 1']) t.ok(text.includes(line), line)
})

