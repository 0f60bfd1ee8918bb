import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { eventually } from '../eventually.js'
import { actionOf, makePlan, startSystem } from './system.js'

/** An engine without a gateway, and a gateway that takes no tasks. */
async function startApart(t: Test) {
  const system = await startSystem(t, { limits: { engineTtlMs: 1_000 } })
  await system.stopEngine()
  await system.startAnotherEngine('owner', { hasGateway: false })
  const gateway = await system.startAnotherEngine('gateway-1', { takesTasks: false })
  return { system, gateway, address: { gateway: `127.0.0.1:${gateway.gatewayPort}` } }
}

t.test('a task is driven by one engine and its nodes are connected to another', async (t) => {
  const { system, address } = await startApart(t)
  await system.startAgent('n1', address)
  await system.startAgent('n2', address)
  t.strictSame((await system.store.nodes.listNodes()).map((node) => node.engine), ['gateway-1', 'gateway-1'], 'the store says where their streams end')
  const file = join(system.directory, 'runs')
  const task = await system.submit(makePlan('apart', [
    { name: 'one', blueprint: 'script', with: { script: `echo one-$LICHEN_NODE >> ${file}; echo a line of $LICHEN_NODE` } },
    { name: 'two', blueprint: 'script', after: ['one'], with: { script: `echo two-$LICHEN_NODE >> ${file}` } },
  ]))
  const view = await system.ended(task)
  t.equal(view.outcome, 'succeeded', view.reason)
  t.strictSame(readFileSync(file, 'utf8').trim().split('\n').sort(), ['one-n1', 'one-n2', 'two-n1', 'two-n2'])
  t.match(await system.readLog(task), /a line of n1/)
  t.match(await system.readLog(task), /a line of n2/)
  const events = await system.readEvents(task)
  t.strictSame(events.flatMap(({ event }) => (event.type === 'taskClaimed' ? [event.engine] : [])), ['owner'])
  t.equal(events.filter(({ event }) => event.type === 'actionEnded').length, 4)
})

t.test('a cancel finds its way to a node whose stream ends at another engine', async (t) => {
  const { system, address } = await startApart(t)
  await system.startAgent('n1', address)
  const file = join(system.directory, 'runs')
  const task = await system.submit(makePlan('cancelled', [{ name: 'one', blueprint: 'script', with: { script: `echo began > ${file}; sleep 60` } }]))
  await eventually(t, 'it runs', () => existsSync(file))
  await system.cancel(task)
  const view = await system.ended(task)
  t.equal(view.outcome, 'cancelled')
  t.equal(actionOf(view, 'one/').state, 'cancelled')
})

t.test('a gateway that goes away takes no task with it: its nodes go to another, and what they ran is reported there', async (t) => {
  const { system, gateway, address } = await startApart(t)
  const gateways = new Map([['gateway-1', gateway], ['gateway-2', await system.startAnotherEngine('gateway-2', { takesTasks: false })]])
  const agent = await system.startAgent('n1', address)
  await eventually(t, 'the agent knows both gateways', () => (JSON.parse(readFileSync(join(system.directory, 'n1/identity.json'), 'utf8')) as { gateways?: string[] }).gateways?.length === 2)
  const file = join(system.directory, 'runs')
  const task = await system.submit(makePlan('moved', [
    { name: 'one', blueprint: 'script', with: { script: `echo began >> ${file}; until test -e ${file}.go; do sleep 0.05; done` } },
    { name: 'two', blueprint: 'script', after: ['one'], with: { script: `echo two >> ${file}` } },
  ]))
  await eventually(t, 'it runs', () => existsSync(file))
  const findEngine = async (): Promise<string | null | undefined> => (await system.store.nodes.listNodes())[0]?.engine
  const before = (await findEngine()) ?? ''
  await gateways.get(before)?.stop()
  await eventually(t, 'the agent is connected elsewhere', async () => agent.state === 'connected' && ![before, null].includes((await findEngine()) ?? null), { timeoutMs: 20_000 })
  writeFileSync(`${file}.go`, '')
  const view = await system.ended(task)
  t.equal(view.outcome, 'succeeded', view.reason)
  t.equal(readFileSync(file, 'utf8'), 'began\ntwo\n', 'nothing ran twice')
})

t.test('two engines of one name: the second one is refused while the first is alive', async (t) => {
  const system = await startSystem(t)
  await t.rejects(system.startAnotherEngine('engine-1', { isSuccessor: false }), { code: /ENGINE_NAME_TAKEN|BROKER_MAILBOX_TAKEN/ })
  const view = await system.ended(await system.submit(makePlan('still', [])).catch(() => system.submit(makePlan('still', [{ name: 'one', blueprint: 'note' }]))))
  t.ok(view.outcome)
})
