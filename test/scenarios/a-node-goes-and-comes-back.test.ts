import { actionId, nodeId, waitingFor } from '@lichen/core'
import t from 'tap'
import { eventually } from '../eventually.js'
import { actionOf, makePlan, startSystem } from './system.js'

/** The same deployment with another text: what has not changed would not be run again. */
const changed = (plan: object): object => JSON.parse(JSON.stringify(plan).replaceAll('"note"', '"note","with":{"text":"another"}')) as object

t.test('a node that is silent is recorded as lost, work for it waits with a reason, and goes on when it is back', async (t) => {
  const system = await startSystem(t)
  const agent = await system.startAgent('n1')
  const plan = makePlan('lost', [{ name: 'app', blueprint: 'note' }])
  t.equal((await system.ended(await system.submit(plan))).outcome, 'succeeded', 'the node was chosen while it was there')
  await agent.stop()
  await eventually(t, 'it is lost', async () => (await system.store.nodes.listNodes())[0]?.state === 'lost')
  const task = await system.submit(changed(plan))
  await eventually(t, 'it is planned', async () => (await system.readView(task)).state === 'running')
  const view = await system.readView(task)
  t.equal(actionOf(view, 'app/').state, 'pending')
  const nodes = new Map((await system.store.nodes.listNodes()).map((node) => [node.id, node]))
  t.match(waitingFor(view, actionId('app/say@n1'), { nodes, now: Date.now() }), { reason: /^node n1 is out of reach since /, owner: 'node n1' })
  await system.startAgent('n1')
  t.equal((await system.ended(task)).outcome, 'succeeded')
})

t.test('a node that comes back while its task is being recorded as planned is not overlooked', async (t) => {
  let isHeld = false
  let isSlow = false
  let release: () => void = () => undefined
  const released = new Promise<void>((resolve) => (release = resolve))
  const system = await startSystem(t, {
    // Slow when it records the plan of the second task.
    wrapStore: (store) => ({
      ...store,
      tasks: {
        ...store.tasks,
        async append(appends) {
          if (isSlow && appends.some(({ events }) => events.some(({ type }) => type === 'taskPlanned'))) {
            isHeld = true
            await released
          }
          return store.tasks.append(appends)
        },
      },
    }),
  })
  const agent = await system.startAgent('n1')
  const plan = makePlan('overlooked', [{ name: 'app', blueprint: 'note' }])
  await system.ended(await system.submit(plan))
  await agent.stop()
  await eventually(t, 'it is lost', async () => (await system.store.nodes.listNodes())[0]?.state === 'lost')
  isSlow = true
  const task = await system.submit(changed(plan))
  await eventually(t, 'the plan is being recorded', () => isHeld)
  await system.startAgent('n1')
  release()
  t.equal((await system.ended(task)).outcome, 'succeeded')
})

t.test('work for a node that stays away ends with the truth: it never began', async (t) => {
  const system = await startSystem(t, { limits: { task: { nodeWaitMs: 1_500 } } })
  const agent = await system.startAgent('n1')
  const plan = makePlan('gone', [{ name: 'app', blueprint: 'note' }])
  await system.ended(await system.submit(plan))
  await agent.stop()
  await eventually(t, 'it is lost', async () => (await system.store.nodes.listNodes())[0]?.state === 'lost')
  const view = await system.ended(await system.submit(changed(plan)))
  t.match(view, { outcome: 'failed', failure: { code: 'ACTION_NODE_LOST' } })
})

t.test('a cordoned node gets nothing new until it is released', async (t) => {
  const system = await startSystem(t)
  await system.startAgent('n1')
  const plan = makePlan('cordon', [{ name: 'app', blueprint: 'note' }])
  t.equal((await system.ended(await system.submit(plan))).outcome, 'succeeded')
  await system.store.nodes.setNode(nodeId('n1'), { cordoned: true })
  const task = await system.submit(changed(plan))
  await eventually(t, 'it is planned', async () => (await system.readView(task)).state === 'running')
  const view = await system.readView(task)
  t.equal(actionOf(view, 'app/').state, 'pending')
  const nodes = new Map((await system.store.nodes.listNodes()).map((node) => [node.id, node]))
  t.match(waitingFor(view, actionId('app/say@n1'), { nodes, now: Date.now() }), { reason: /^node n1 is cordoned/, owner: 'operator', until: null })
  await system.store.nodes.setNode(nodeId('n1'), { cordoned: false })
  t.equal((await system.ended(task)).outcome, 'succeeded')
})

t.test('an order that was lost with its stream is sent again on the next one', async (t) => {
  const system = await startSystem(t)
  const agent = await system.startAgent('n1')
  const file = `${system.directory}/runs`
  const task = await system.submit(makePlan('cut', [{ name: 'app', blueprint: 'checked', with: { script: `echo x >> ${file}; sleep 0.5; touch ${system.directory}/done`, creates: `${system.directory}/done` } }]))
  await eventually(t, 'it is sent', async () => actionOf(await system.readView(task), 'app/').state === 'sent')
  await agent.stop()
  await system.startAgent('n1')
  const view = await system.ended(task)
  t.equal(view.outcome, 'succeeded')
  t.equal(actionOf(view, 'app/').attempt, 1, 'the same attempt')
})
