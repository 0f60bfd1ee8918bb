import t from 'tap'
import { admitNodes, createTask, makePlan, playEngine, startTestApi, type TestApi } from './api-fixture.js'
import { checkProblem } from './problem.js'

const ids = (answer: { json(): unknown }) => (answer.json() as { items: { id: string }[] }).items.map(({ id }) => id)

async function readAll(app: TestApi, path: string): Promise<string[]> {
  const all: string[] = []
  for (let url: string | undefined = path; url !== undefined; ) {
    const answer = await app.call('GET', url)
    all.push(...ids(answer))
    url = /^<([^>]+)>; rel="next"$/.exec(String(answer.headers.link ?? ''))?.[1]
  }
  return all
}

t.test('tasks are listed newest first, page by page, and new ones do not shift the pages', async (t) => {
  const app = await startTestApi(t)
  for (let index = 10; index < 20; index++) await createTask(app.store, `t-${index}`)
  const first = await app.call('GET', '/v1/tasks?limit=4')
  t.same(ids(first), ['t-19', 't-18', 't-17', 't-16'])
  t.equal(first.json().next, 't-16')
  t.equal(first.headers.link, '</v1/tasks?limit=4&after=t-16>; rel="next"')
  await createTask(app.store, 't-20')
  t.same(ids(await app.call('GET', '/v1/tasks?limit=4&after=t-16')), ['t-15', 't-14', 't-13', 't-12'])
  const last = await app.call('GET', '/v1/tasks?limit=4&after=t-12')
  t.same(ids(last), ['t-11', 't-10'])
  t.equal(last.json().next, null)
  t.equal(last.headers.link, undefined)
  t.same(await readAll(app, '/v1/tasks?limit=11'), ids(await app.call('GET', '/v1/tasks?limit=500')))
})

t.test('tasks are filtered by project, deployment and state, and the link keeps the filter', async (t) => {
  const app = await startTestApi(t)
  await admitNodes(app.store, ['node-1'])
  for (let index = 0; index < 6; index++) await createTask(app.store, `t-${index}`, { project: index % 2 === 0 ? 'even' : 'odd', deployment: index < 3 ? 'low' : 'high' })
  t.same(ids(await app.call('GET', '/v1/tasks?project=even')), ['t-4', 't-2', 't-0'])
  t.same(ids(await app.call('GET', '/v1/tasks?project=even&deployment=low')), ['t-2', 't-0'])
  t.same(await readAll(app, '/v1/tasks?project=odd&limit=1'), ['t-5', 't-3', 't-1'])
  const engine = await playEngine(app, 't-3' as never)
  await engine.run(0, 'failed')
  t.same(ids(await app.call('GET', '/v1/tasks?state=running')), ['t-3'])
  t.same(ids(await app.call('GET', '/v1/tasks?state=ended')), [])
  checkProblem(t, await app.call('GET', '/v1/tasks?state=asleep'), 'REQUEST_SHAPE')
})

t.test('a task says what it waits for, from the first moment to its end', async (t) => {
  const app = await startTestApi(t)
  await admitNodes(app.store, ['node-1', 'node-2'])
  const id = await createTask(app.store, 't-1')
  const accepted = (await app.call('GET', '/v1/tasks/t-1')).json()
  t.match(accepted, { id: 't-1', state: 'accepted', outcome: null, actionCount: 0, graphDigest: null, waiting: [], waitingFor: { reason: 'no engine has taken the task yet', owner: 'engine' }, by: 'test' })
  const engine = await playEngine(app, id)
  const total = engine.graph.actions.length
  await app.store.nodes.setNode('node-2' as never, { cordoned: true })
  const planned = (await app.call('GET', '/v1/tasks/t-1')).json()
  t.match(planned, { state: 'running', actionCount: total, counts: { pending: total }, waitingCount: total, graphDigest: engine.graph.digest, timing: { startedAt: null, endedAt: null } })
  t.equal(planned.waiting.length, total)
  for (const waiting of planned.waiting) t.match(waiting, { action: String, node: String, state: 'pending', reason: /\w+ \w+/, owner: String })
  const first = engine.graph.actions[0]!
  await engine.append({ type: 'actionSent', action: first.id, attempt: 1, node: first.node, epoch: 1, timeoutMs: 4_000, deadline: Date.now() + 5_000 })
  const sent = (await app.call('GET', '/v1/tasks/t-1')).json()
  t.match(sent, { counts: { sent: 1, pending: total - 1 }, timing: { startedAt: Number } })
  t.match(sent.waiting[0], { action: first.id, state: 'sent', reason: `attempt 1 is with node ${first.node}`, owner: `node ${first.node}` })
  await engine.append({ type: 'cancelRequested', by: 'test', reason: '' })
  t.match((await app.call('GET', '/v1/tasks/t-1')).json(), { state: 'cancelling', waitingFor: { reason: /asked to cancel/ } })
  checkProblem(t, await app.call('GET', '/v1/tasks/t-unknown'), 'REQUEST_NOT_FOUND')
})

t.test('actions are listed in the order of the graph with their results, paged and filtered', async (t) => {
  const app = await startTestApi(t)
  await admitNodes(app.store, ['node-1', 'node-2', 'node-3'])
  const id = await createTask(app.store, 't-1')
  t.same((await app.call('GET', '/v1/tasks/t-1/actions')).json(), { items: [], next: null })
  const engine = await playEngine(app, id)
  await engine.run(0, 'succeeded')
  await engine.run(1, 'failed')
  const order = engine.graph.actions.map((action) => action.id)
  t.same(await readAll(app, '/v1/tasks/t-1/actions?limit=2'), order)
  const [first, second] = (await app.call('GET', '/v1/tasks/t-1/actions')).json().items
  t.match(first, {
    id: order[0], component: 'hello', mode: 'do', state: 'succeeded', attempt: 1, sentAt: Number, endedAt: Number, waitingFor: null,
    result: { outcome: 'succeeded', changed: true, outputs: { port: '80' }, commands: [{ name: 'write the greeting', kind: 'file', diff: /\+Hello/, durationMs: 12 }] },
  })
  t.match(second, { state: 'failed', reason: 'exit code 1', result: { outcome: 'failed', failure: { code: 'COMMAND_FAILED', command: 'write the greeting' } } })
  t.equal('failure' in first.result, false)
  t.same(ids(await app.call('GET', '/v1/tasks/t-1/actions?state=succeeded')), [order[0]])
  t.same(ids(await app.call('GET', '/v1/tasks/t-1/actions?node=node-2')), engine.graph.actions.filter(({ node }) => node === 'node-2').map((action) => action.id))
  t.same(ids(await app.call('GET', `/v1/tasks/t-1/actions?action=${encodeURIComponent(order[1]!)}`)), [order[1]])
  t.same(ids(await app.call('GET', '/v1/tasks/t-1/actions?component=other')), [])
  checkProblem(t, await app.call('GET', '/v1/tasks/t-9/actions'), 'REQUEST_NOT_FOUND')
})

t.test('a view of a task follows it through failure and retry, also for readers at the same time', async (t) => {
  const app = await startTestApi(t)
  await admitNodes(app.store, ['node-1'])
  const id = await createTask(app.store, 't-1')
  const engine = await playEngine(app, id)
  for (let attempt = 1; attempt <= 2; attempt++) {
    await engine.run(0, 'failed', attempt)
    const answers = await Promise.all(Array.from({ length: 5 }, () => app.call('GET', '/v1/tasks/t-1')))
    for (const answer of answers) t.match(answer.json(), { seq: 3 + 3 * attempt - 1, counts: { failed: 1 } })
    await engine.append({ type: 'actionRetryPlanned', action: engine.graph.actions[0]!.id, attempt, notBefore: Date.now() + 60_000, reason: 'exit code 1; next attempt in 60 s' })
  }
  const waiting = (await app.call('GET', '/v1/tasks/t-1')).json().waiting[0]
  t.match(waiting, { state: 'waitingRetry', reason: /next attempt/ })
})

t.test('plan and graph of a task are given as they are stored', async (t) => {
  const app = await startTestApi(t)
  await admitNodes(app.store, ['node-1'])
  const id = await createTask(app.store, 't-1')
  t.same((await app.call('GET', '/v1/tasks/t-1/plan')).json(), makePlan())
  checkProblem(t, await app.call('GET', '/v1/tasks/t-1/graph'), 'REQUEST_NOT_FOUND')
  const engine = await playEngine(app, id)
  t.same((await app.call('GET', '/v1/tasks/t-1/graph')).json(), JSON.parse(JSON.stringify(engine.graph)))
  checkProblem(t, await app.call('GET', '/v1/tasks/t-2/plan'), 'REQUEST_NOT_FOUND')
  checkProblem(t, await app.call('GET', '/v1/tasks/t-2/graph'), 'REQUEST_NOT_FOUND')
})
