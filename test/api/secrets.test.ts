import t from 'tap'
import { admitNodes, createTask, playEngine, startTestApi } from './api-fixture.js'
import { checkProblem } from './problem.js'

const path = '/v1/deployments/default/hello/secrets'

t.test('a rotation is refused where there is nothing to rotate, and where nothing is applied', async (t) => {
  const app = await startTestApi(t)
  await admitNodes(app.store, ['node-1', 'node-2'])
  checkProblem(t, await app.call('GET', path), 'OPERATION_NO_DEPLOYMENT')
  checkProblem(t, await app.call('POST', `${path}/rotate`, { payload: {} }), 'OPERATION_NO_DEPLOYMENT')
  await playEngine(app, await createTask(app.store, 't-1')).then((engine) => engine.end('succeeded'))
  t.same((await app.call('GET', path)).json(), { items: [] })
  checkProblem(t, await app.call('POST', `${path}/rotate`, { payload: {} }), 'SECRET_UNKNOWN')
  checkProblem(t, await app.call('POST', `${path}/rotate/preview`, { payload: { secrets: ['hello.password'] } }), 'SECRET_UNKNOWN')
  checkProblem(t, await app.call('POST', `${path}/rotate`, { payload: { secrets: [] } }), 'REQUEST_SHAPE')
  checkProblem(t, await app.call('POST', `${path}/rotate`, { payload: { secret: 'x' } }), 'REQUEST_SHAPE')
})
