import t from 'tap'
import { admitNodes, createTask, playEngine, startTestApi, type TestApi } from './api-fixture.js'
import { checkProblem } from './problem.js'

const path = '/v1/deployments/default/hello/operations'
const run = (app: TestApi, payload: object, headers: Record<string, string> = {}) => app.call('POST', path, { payload, headers })

async function startApplied(t: Parameters<typeof startTestApi>[0]): Promise<TestApi> {
  const app = await startTestApi(t)
  await admitNodes(app.store, ['node-1', 'node-2'])
  await playEngine(app, await createTask(app.store, 't-1')).then((engine) => engine.end('succeeded'))
  return app
}

t.test('operations of a deployment are listed, previewed and run', async (t) => {
  const app = await startApplied(t)
  t.match((await app.call('GET', path)).json(), { items: [{ name: 'greet', component: 'hello', summary: /greeting/ }] })
  const preview = await app.call('POST', `${path}/preview`, { payload: { operation: 'greet', nodes: ['node-2'] } })
  t.match(preview.json(), { kind: 'operation', counts: { toRun: 2 } }, preview.body)
  const answer = await run(app, { operation: 'greet', nodes: ['node-2'], previewDigest: preview.json().digest }, { 'idempotency-key': 'k' })
  t.equal(answer.statusCode, 202, answer.body)
  const task = answer.json()
  t.match(task, { kind: 'operation', deployment: 'hello', state: 'accepted' })
  t.equal(answer.headers.location, `/v1/tasks/${task.id}`)
  const [event] = await app.store.tasks.readEvents(task.id, 0)
  t.match(event?.event, { kind: 'operation', operation: { name: 'greet', base: 't-1', components: null, nodes: ['node-2'], parameters: {} } })
  t.match((await run(app, { operation: 'greet', nodes: ['node-2'], previewDigest: preview.json().digest }, { 'idempotency-key': 'k' })).json(), { id: task.id }, 'once for a key')
  checkProblem(t, await run(app, { operation: 'greet' }, { 'idempotency-key': 'k' }), 'REQUEST_IDEMPOTENCY_CONFLICT')
  checkProblem(t, await run(app, { operation: 'greet', previewDigest: 'a'.repeat(64) }), 'PREVIEW_MOVED')
  t.match((await app.call('GET', `/v1/tasks/${task.id}`)).json(), { kind: 'operation' })
})

t.test('what cannot be run is refused with its code', async (t) => {
  const app = await startApplied(t)
  checkProblem(t, await run(app, { operation: 'explode' }), 'OPERATION_UNKNOWN')
  checkProblem(t, await run(app, { operation: 'greet', components: ['other'] }), 'OPERATION_UNKNOWN_COMPONENT')
  checkProblem(t, await run(app, { operation: 'greet', nodes: ['node-9'] }), 'OPERATION_UNKNOWN_NODE')
  checkProblem(t, await run(app, { operation: 'greet', parameters: { colour: 'red' } }), 'OPERATION_BAD_PARAMETER')
  checkProblem(t, await run(app, {}), 'REQUEST_SHAPE')
  checkProblem(t, await app.call('POST', '/v1/deployments/default/nothing/operations', { payload: { operation: 'greet' } }), 'OPERATION_NO_DEPLOYMENT')
  checkProblem(t, await app.call('POST', '/v1/tasks', { payload: { kind: 'operation', task: 't-1' } }), 'REQUEST_SHAPE')
  await playEngine(app, await createTask(app.store, 't-2', { kind: 'destroy' }))
  checkProblem(t, await run(app, { operation: 'greet' }), 'OPERATION_DESTROYED')
  checkProblem(t, await app.call('GET', path), 'OPERATION_DESTROYED')
})
