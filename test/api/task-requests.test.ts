import t from 'tap'
import { buildGraph, nodeId, parsePlan, type ActionId } from '@lichen/core'
import { admitNodes, createTask, makePlan, playEngine, startTestApi, type TestApi } from './api-fixture.js'
import { checkProblem } from './problem.js'

const lastEvent = async (app: TestApi, task: string) => (await app.store.tasks.readEvents(task as never, 0)).at(-1)!.event
const readTask = async (app: TestApi, task: string) => (await app.call('GET', `/v1/tasks/${task}`)).json()
const ask = (app: TestApi, task: string, verb: string, payload?: object) => app.call('POST', `/v1/tasks/${task}/${verb}`, payload === undefined ? {} : { payload })
const ids = (answer: { json(): unknown }) => (answer.json() as { items: { id: string }[] }).items.map(({ id }) => id)

/** A plan whose only component waits for approval. */
const approvedPlan = makePlan('approved', { components: [{ name: 'hello', blueprint: 'hello@^1', on: 'all', approve: true }] })

t.test('a task is paused and goes on; asking again changes nothing, and what is not paused cannot be resumed', async (t) => {
  const app = await startTestApi(t)
  await admitNodes(app.store, ['node-1'])
  const id = await createTask(app.store, 't-1')
  await playEngine(app, id)
  checkProblem(t, await ask(app, id, 'resume'), 'TASK_NOT_PAUSED')
  const paused = await ask(app, id, 'pause', { reason: 'lunch' })
  t.equal(paused.statusCode, 202, paused.body)
  t.equal(paused.headers.location, '/v1/tasks/t-1')
  t.match(paused.json(), { state: 'paused', outcome: null, reason: 'paused by admin: lunch', seq: 4 })
  t.same(await lastEvent(app, id), { type: 'pauseRequested', by: 'admin', reason: 'lunch' })
  t.match(await readTask(app, id), { state: 'paused', reason: 'paused by admin: lunch', waitingFor: { reason: /paused/, owner: 'operator', until: null } })
  t.equal((await ask(app, id, 'pause')).json().seq, 4, 'paused already')
  t.same(ids(await app.call('GET', '/v1/tasks?state=paused')), ['t-1'])
  const resumed = await ask(app, id, 'resume')
  t.match(resumed.json(), { state: 'running', seq: 5 })
  t.match(await readTask(app, id), { state: 'running' })
  checkProblem(t, await ask(app, id, 'resume', { reason: 'x' }), 'REQUEST_SHAPE')
  checkProblem(t, await ask(app, 't-9', 'pause'), 'REQUEST_NOT_FOUND')
})

t.test('a row after a request says what the fold of the events says', async (t) => {
  const app = await startTestApi(t)
  await admitNodes(app.store, ['node-1'])
  const id = await createTask(app.store, 't-1')
  const engine = await playEngine(app, id)
  await engine.run(0, 'unknown')
  const requests: [string, object][] = [['pause', { reason: 'x' }], ['resume', {}], ['settle', { action: engine.graph.actions[0]!.id, answer: 'succeeded', reason: 'I looked' }], ['pause', {}], ['cancel', { reason: 'enough' }]]
  for (const [verb, body] of requests) {
    const row = (await ask(app, id, verb, body)).json()
    const { state, outcome, reason, counts } = await readTask(app, id)
    t.match(row, { state, outcome, counts }, verb)
    if (state !== 'running') t.equal(row.reason, reason, verb)
  }
})

t.test('an unknown outcome stands in the task with its answers, and a person gives one of them, once and with a reason', async (t) => {
  const app = await startTestApi(t)
  await admitNodes(app.store, ['node-1', 'node-2', 'node-3'])
  const id = await createTask(app.store, 't-1')
  const engine = await playEngine(app, id)
  const greets = engine.graph.actions.flatMap((action, index) => (action.name === 'greet' ? [{ index, action: action.id }] : []))
  for (const { index } of greets) await engine.run(index, 'unknown')
  const before = await readTask(app, id)
  t.match(before, { counts: { unknown: 3 }, waitingFor: { owner: 'operator', until: null } })
  t.same(before.unknown.map((entry: { action: string }) => entry.action), greets.map(({ action }) => action))
  t.match(before.unknown[0], { node: 'node-1', attempt: 1, reason: 'exit code 1', since: Number, answers: ['succeeded', 'failed', 'runAgain'] })
  t.match((await app.call('GET', `/v1/tasks/${id}/actions?state=unknown`)).json().items[0], { answers: ['succeeded', 'failed', 'runAgain'], waitingFor: { owner: 'operator' } })
  t.match((await app.call('GET', `/v1/tasks/${id}/actions?state=pending`)).json().items[0], { answers: [] })

  for (const [index, answer] of (['succeeded', 'failed', 'runAgain'] as const).entries()) {
    const { action } = greets[index]!
    const settled = await ask(app, id, 'settle', { action, answer, reason: 'I looked' })
    t.equal(settled.statusCode, 202, settled.body)
    t.match(await lastEvent(app, id), answer === 'runAgain' ? { type: 'actionRunAgain', action, attempt: 1, by: 'admin', reason: 'I looked' } : { type: 'actionSettled', action, attempt: 1, as: answer, by: 'admin', reason: 'I looked' })
    checkProblem(t, await ask(app, id, 'settle', { action, answer, reason: 'again' }), 'TASK_NOT_UNKNOWN')
  }
  t.match(await readTask(app, id), { unknown: [], counts: { succeeded: 1, failed: 1 } })
  t.match((await app.call('GET', `/v1/tasks/${id}/actions?state=succeeded`)).json().items[0], { reason: /settled as succeeded by admin/ })
})

t.test('a settling needs a reason and an action that there is; a name nearly right is helped with', async (t) => {
  const app = await startTestApi(t)
  await admitNodes(app.store, ['node-1'])
  const id = await createTask(app.store, 't-1')
  const engine = await playEngine(app, id)
  await engine.run(0, 'unknown')
  const { id: action } = engine.graph.actions[0]!
  for (const body of [{ action, answer: 'succeeded' }, { action, answer: 'succeeded', reason: '' }, { action, answer: 'maybe', reason: 'x' }, { answer: 'failed', reason: 'x' }]) checkProblem(t, await ask(app, id, 'settle', body), 'REQUEST_SHAPE')
  const unknown = await ask(app, id, 'settle', { action: action.replace('greet', 'gret'), answer: 'failed', reason: 'x' })
  checkProblem(t, unknown, 'TASK_UNKNOWN_ACTION')
  t.match(unknown.json().detail, `did you mean "${action}"`)
  checkProblem(t, await ask(app, id, 'settle', { action: engine.graph.actions[1]!.id, answer: 'failed', reason: 'x' }), 'TASK_NOT_UNKNOWN')
})

t.test('a gate that waits stands in the task with its meaning; it is approved once, by its name or as the only one', async (t) => {
  const app = await startTestApi(t)
  await admitNodes(app.store, ['node-1'])
  for (const [id, body] of [['t-1', {}], ['t-2', { gate: 'hello/approval' }]] as const) {
    await createTask(app.store, id, { plan: approvedPlan, deployment: id })
    const { graph } = await playEngine(app, id as never)
    const gate = graph.gates.find(({ approve }) => approve)!
    const before = await readTask(app, id)
    t.match(before.gates.find((entry: { id: string }) => entry.id === gate.id), { component: 'hello', meaning: gate.meaning, state: 'waiting', approve: true, approvedBy: null, since: Number })
    t.match(before, { gateCounts: { waiting: 1 }, waitingFor: { owner: 'operator' } })
    const named = 'gate' in body ? { gate: gate.id } : {}
    const answer = await ask(app, id, 'approve', { ...named, reason: 'looks good' })
    t.equal(answer.statusCode, 202, answer.body)
    t.same(await lastEvent(app, id), { type: 'gateApproved', gate: gate.id, by: 'admin', reason: 'looks good' })
    t.match((await readTask(app, id)).gates.find((entry: { id: string }) => entry.id === gate.id), { state: 'open', approvedBy: 'admin', reason: /looks good/ })
    checkProblem(t, await ask(app, id, 'approve', { gate: gate.id }), 'TASK_GATE_NOT_WAITING')
    const wrong = await ask(app, id, 'approve', { gate: gate.id.replace('approval', 'aproval') })
    checkProblem(t, wrong, 'TASK_UNKNOWN_GATE')
    t.match(wrong.json().detail, `did you mean "${gate.id}"`)
  }
  const line = await app.call('GET', '/v1/tasks/t-1/actions')
  t.match(line.json().items[0], { after: [/^hello\//], isUnchanged: false, unchangedSince: null, begunAt: null, group: 'all', limitMs: null })
})

t.test('tasks that wait for a person are found among those that run', async (t) => {
  const app = await startTestApi(t)
  await admitNodes(app.store, ['node-1'])
  for (const id of ['t-1', 't-2', 't-3', 't-4', 't-5']) await createTask(app.store, id, { deployment: id, ...(id === 't-2' ? { plan: approvedPlan } : {}) })
  const engines = new Map(await Promise.all(['t-1', 't-2', 't-3', 't-4'].map(async (id) => [id, await playEngine(app, id as never)] as const)))
  await ask(app, 't-1', 'pause')
  await engines.get('t-3')!.run(0, 'unknown')
  t.same(ids(await app.call('GET', '/v1/tasks?waiting=operator')), ['t-3', 't-2', 't-1'])
  const first = await app.call('GET', '/v1/tasks?waiting=operator&limit=2')
  t.same([ids(first), first.json().next], [['t-3', 't-2'], 't-2'])
  t.same(ids(await app.call('GET', '/v1/tasks?waiting=operator&limit=2&after=t-2')), ['t-1'])
  t.same(ids(await app.call('GET', '/v1/tasks?waiting=operator&state=paused')), ['t-1'])
  t.same(ids(await app.call('GET', '/v1/tasks?waiting=operator&deployment=t-3')), ['t-3'])
  checkProblem(t, await app.call('GET', '/v1/tasks?waiting=engine'), 'REQUEST_SHAPE')
})

t.test('tasks are filtered by how they ended', async (t) => {
  const app = await startTestApi(t)
  await admitNodes(app.store, ['node-1'])
  for (const id of ['t-1', 't-2']) {
    const engine = await playEngine(app, await createTask(app.store, id, { deployment: id }))
    if (id === 't-1') for (const index of engine.graph.actions.keys()) await engine.run(index, 'succeeded')
    else for (const action of engine.graph.actions) await engine.append({ type: 'actionSkipped', action: action.id, reason: 'the time limit of the task was over' })
    await engine.end(id === 't-1' ? 'succeeded' : 'timedOut')
  }
  t.same(ids(await app.call('GET', '/v1/tasks?outcome=succeeded')), ['t-1'])
  t.same(ids(await app.call('GET', '/v1/tasks?outcome=timedOut')), ['t-2'])
  t.match(await readTask(app, 't-2'), { state: 'ended', outcome: 'timedOut' })
})

/** A task on three nodes, of which the first succeeded and the others failed or were skipped. */
async function playFailure(app: TestApi, plan: object): Promise<void> {
  const engine = await playEngine(app, await createTask(app.store, 't-1', { plan }))
  for (const [index, action] of engine.graph.actions.entries()) {
    if (action.node === nodeId('node-1')) await engine.run(index, 'succeeded')
    else if (action.name === 'greet') await engine.run(index, 'failed')
    else await engine.append({ type: 'actionSkipped', action: action.id, reason: 'it comes after what failed' })
  }
  await engine.end('failed')
}

const greetingOf = async (app: TestApi, id: string): Promise<unknown> => (await app.call('GET', `/v1/tasks/${id}/plan`)).json().components[0].with

t.test('a retry on some nodes leaves those on others as they are', async (t) => {
  const app = await startTestApi(t)
  await admitNodes(app.store, ['node-1', 'node-2', 'node-3'])
  await playFailure(app, makePlan())
  const wrong = await ask(app, 't-1', 'retry', { nodes: ['node-4', 'node-2'] })
  checkProblem(t, wrong, 'TASK_UNKNOWN_NODE')
  t.match(wrong.json().detail, /node-4/)
  checkProblem(t, await ask(app, 't-1', 'retry', { nodes: ['node-1'] }), 'TASK_NOTHING_TO_RETRY')
  checkProblem(t, await ask(app, 't-1', 'retry', { nodes: [] }), 'REQUEST_SHAPE')
  const answer = await ask(app, 't-1', 'retry', { nodes: ['node-2'] })
  t.match(answer.json(), { state: 'running', counts: { succeeded: 2, pending: 2, failed: 1, skipped: 1 } }, answer.body)
  t.same(await lastEvent(app, 't-1'), { type: 'retryRequested', by: 'admin', nodes: ['node-2'] })
})

t.test('a retry with new parameters changes the plan of the task and the commands of what had not succeeded', async (t) => {
  const app = await startTestApi(t)
  await admitNodes(app.store, ['node-1', 'node-2', 'node-3'])
  // Two components, so that the parameters of the one that failed everywhere may change.
  const components = [{ name: 'first', blueprint: 'hello@^1', on: 'all' }, { name: 'second', blueprint: 'hello@^1', on: 'all', after: ['first'], with: { greeting: 'Hello', lines: 2 } }]
  const plan = makePlan('two', { components })
  const engine = await playEngine(app, await createTask(app.store, 't-1', { plan, deployment: 'two' }))
  for (const [index, action] of engine.graph.actions.entries()) await (action.component === 'first' ? engine.run(index, 'succeeded') : action.name === 'greet' ? engine.run(index, 'failed') : engine.append({ type: 'actionSkipped', action: action.id, reason: 'it comes after what failed' }))
  await engine.end('failed')
  const before = engine.graph

  const moved = await ask(app, 't-1', 'retry', { parameters: { first: { greeting: 'Hi' } } })
  checkProblem(t, moved, 'TASK_INPUTS_MOVED')
  t.match(moved.json().detail, /apply/)
  const unknown = checkProblem(t, await ask(app, 't-1', 'retry', { parameters: { secnd: { greeting: 'Hi' } } }), 'PLAN_UNKNOWN_COMPONENT')
  t.match(unknown, [{ path: 'parameters.secnd', message: /did you mean "second"/ }])
  t.match(checkProblem(t, await ask(app, 't-1', 'retry', { parameters: { second: { greeting: 5, lines: 'x' } } }), 'PLAN_BAD_PARAMETER'), [{ path: 'components[1].with.greeting' }, { path: 'components[1].with.lines' }])
  t.same((await app.call('GET', '/v1/tasks/t-1/plan')).json(), plan, 'a refused retry changes nothing')

  const answer = await ask(app, 't-1', 'retry', { parameters: { second: { greeting: 'Hi', lines: null } } })
  t.equal(answer.statusCode, 202, answer.body)
  const after = (await app.call('GET', '/v1/tasks/t-1/graph')).json()
  t.match(await lastEvent(app, 't-1'), { type: 'retryRequested', by: 'admin', graphDigest: after.digest })
  t.same((await app.call('GET', '/v1/tasks/t-1/plan')).json().components[1].with, { greeting: 'Hi' })
  t.not(after.digest, before.digest)
  t.same(after.actions.map(({ id }: { id: string }) => id), before.actions.map(({ id }) => id))
  const commandsOf = (graph: typeof before, id: string) => JSON.stringify(graph.actions.find((action) => action.id === (id as ActionId))!.commands)
  t.equal(commandsOf(after, 'first/greet@node-1'), commandsOf(before, 'first/greet@node-1'))
  t.match(commandsOf(after, 'second/greet@node-1'), /Hi from second/)
  const parsed = parsePlan((await app.call('GET', '/v1/tasks/t-1/plan')).json())
  if (!parsed.ok) throw new Error('the plan cannot be read')
  const rebuilt = buildGraph({ plan: parsed.value, catalog: app.catalog, nodes: await app.store.nodes.listNodes(), kind: 'apply' })
  t.match(rebuilt, { ok: true, value: { digest: after.digest } }, 'as the planner would make it of the changed plan')
  t.match(await readTask(app, 't-1'), { state: 'running', graphDigest: after.digest, counts: { succeeded: 6, pending: 6 } })
  const audit = await app.call('GET', '/v1/tasks/t-1/events?format=json')
  t.equal(audit.json().items.at(-1).event.type, 'retryRequested')
})

t.test('a task that was rejected takes new parameters with its retry, unless it is bound to a preview', async (t) => {
  const app = await startTestApi(t)
  await admitNodes(app.store, ['node-1'])
  for (const [id, previewDigest] of [['t-1', undefined], ['t-2', 'd'.repeat(64)]] as const) {
    await app.store.tasks.create({
      id: id as never, kind: 'apply', project: 'default', deployment: id, plan: JSON.stringify(makePlan(id)), at: Date.now(), requestDigest: id,
      event: { type: 'taskAccepted', kind: 'apply', project: 'default', deployment: id, planDigest: 'p'.repeat(64), by: 'test', ...(previewDigest === undefined ? {} : { previewDigest }) },
    })
    await app.store.tasks.append([{ task: id as never, expectedSeq: 1, epoch: null, at: Date.now(), events: [{ type: 'taskEnded', outcome: 'rejected', reason: 'no' }], summary: { state: 'ended', outcome: 'rejected', reason: 'no', counts: {} } }])
  }
  const answer = await ask(app, 't-1', 'retry', { parameters: { hello: { greeting: 'Hi' } } })
  t.match(answer.json(), { state: 'accepted', outcome: null }, answer.body)
  t.same(await greetingOf(app, 't-1'), { greeting: 'Hi' })
  checkProblem(t, await ask(app, 't-2', 'retry', { parameters: { hello: { greeting: 'Hi' } } }), 'TASK_INPUTS_MOVED')
})

t.test('of twenty approvals at the same time one is recorded and the others are told that the gate is open', async (t) => {
  const app = await startTestApi(t)
  await admitNodes(app.store, ['node-1'])
  await createTask(app.store, 't-1', { plan: approvedPlan })
  const { graph } = await playEngine(app, 't-1' as never)
  const gate = graph.gates.find(({ approve }) => approve)!.id
  const answers = await Promise.all(Array.from({ length: 20 }, () => ask(app, 't-1', 'approve', { gate })))
  t.equal(answers.filter(({ statusCode }) => statusCode === 202).length, 1)
  t.equal(answers.filter((answer) => answer.statusCode === 409 && answer.json().code === 'TASK_GATE_NOT_WAITING').length, 19)
  t.equal((await app.store.tasks.readEvents('t-1' as never, 0)).filter(({ event }) => event.type === 'gateApproved').length, 1)
})

t.test('engines are listed with what they hold, dead ones too; nodes say where their stream ends', async (t) => {
  const app = await startTestApi(t)
  const now = Date.now()
  await admitNodes(app.store, ['node-1', 'node-2'])
  await app.store.engines.registerEngine({ name: 'engine-b', instance: 'b', gateway: '10.0.0.2:8471', startedAt: now - 60_000, until: now + 60_000 }, now, false)
  await app.store.engines.registerEngine({ name: 'engine-a', instance: 'a', gateway: '10.0.0.1:8471', startedAt: now - 60_000, until: now - 1_000 }, now - 2_000, false)
  await app.store.nodes.updateNodes([{ node: nodeId('node-1'), seenAt: now, engine: 'engine-b' }])
  const { items, next } = (await app.call('GET', '/v1/engines')).json()
  t.same(items, [
    { name: 'engine-a', isAlive: false, gateway: '10.0.0.1:8471', nodes: 0, startedAt: now - 60_000, until: now - 1_000 },
    { name: 'engine-b', isAlive: true, gateway: '10.0.0.2:8471', nodes: 1, startedAt: now - 60_000, until: now + 60_000 },
  ])
  t.equal(next, null)
  t.match((await app.call('GET', '/v1/nodes')).json().items, [{ id: 'node-1', engine: 'engine-b' }, { id: 'node-2', engine: null }])
  const page = await app.call('GET', '/v1/engines?limit=1')
  t.equal(page.json().next, 'engine-a')
})
