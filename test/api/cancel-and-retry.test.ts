import t from 'tap'
import { admitNodes, createTask, playEngine, startTestApi } from './api-fixture.js'
import { checkProblem } from './problem.js'

const lastEvent = async (app: Awaited<ReturnType<typeof startTestApi>>, task: string) => (await app.store.tasks.readEvents(task as never, 0)).at(-1)!.event

t.test('cancel records who and why, once, and tells the engines', async (t) => {
  const app = await startTestApi(t)
  await createTask(app.store, 't-1')
  const rung: string[] = []
  const stop = await app.broker.consume('tasks', 10, async (message) => {
    rung.push(message.body)
    return { verdict: 'ack' }
  })
  t.teardown(stop)
  const answer = await app.call('POST', '/v1/tasks/t-1/cancel', { payload: { reason: 'wrong version' } })
  t.equal(answer.statusCode, 202, answer.body)
  t.match(answer.json(), { state: 'cancelling', reason: 'cancel requested by admin: wrong version', seq: 2 })
  t.same(await lastEvent(app, 't-1'), { type: 'cancelRequested', by: 'admin', reason: 'wrong version' })
  t.match((await app.call('GET', '/v1/tasks?state=cancelling')).json().items, [{ id: 't-1' }])
  const again = await app.call('POST', '/v1/tasks/t-1/cancel')
  t.match(again.json(), { state: 'cancelling', seq: 2 })
  checkProblem(t, await app.call('POST', '/v1/tasks/t-2/cancel'), 'REQUEST_NOT_FOUND')
  checkProblem(t, await app.call('POST', '/v1/tasks/t-1/cancel', { payload: { why: 'x' } }), 'REQUEST_SHAPE')
  const audit = rung.length
  t.ok(audit >= 1)
})

t.test('cancel gets through although the engine writes to the task all the time', async (t) => {
  const app = await startTestApi(t)
  await admitNodes(app.store, ['node-1'])
  const id = await createTask(app.store, 't-1')
  const engine = await playEngine(app, id)
  let isWriting = true
  let written = 0
  const writing = (async () => {
    for (let attempt = 1; isWriting; attempt++) {
      // What a conflict with the cancel means to an engine: read again. Here it is the end of the writing.
      await engine.run(0, 'failed', attempt).catch(() => (isWriting = false))
      if (isWriting) await engine.append({ type: 'actionRetryPlanned', action: engine.graph.actions[0]!.id, attempt, notBefore: 0, reason: 'again' }).catch(() => (isWriting = false))
      written = attempt
    }
  })()
  const answer = await app.call('POST', '/v1/tasks/t-1/cancel')
  isWriting = false
  await writing
  t.equal(answer.statusCode, 202, answer.body)
  t.ok(written > 0)
  t.equal((await app.store.tasks.readEvents(id, 0)).filter(({ event }) => event.type === 'cancelRequested').length, 1)
})

t.test('twenty cancels at the same time are one event', async (t) => {
  const app = await startTestApi(t)
  const id = await createTask(app.store, 't-1')
  const answers = await Promise.all(Array.from({ length: 20 }, () => app.call('POST', '/v1/tasks/t-1/cancel')))
  t.same(new Set(answers.map(({ statusCode }) => statusCode)), new Set([202]))
  t.equal((await app.store.tasks.readEvents(id, 0)).length, 2)
})

t.test('retry starts what did not succeed over; only an ended task without success can be retried', async (t) => {
  const app = await startTestApi(t)
  await admitNodes(app.store, ['node-1', 'node-2'])
  const id = await createTask(app.store, 't-1')
  checkProblem(t, await app.call('POST', '/v1/tasks/t-1/retry'), 'TASK_NOT_ENDED')
  const engine = await playEngine(app, id)
  const total = engine.graph.actions.length
  await engine.run(0, 'succeeded')
  for (const action of engine.graph.actions.slice(1)) await engine.append({ type: 'actionSkipped', action: action.id, reason: 'too many failures' })
  await engine.end('failed')
  for (const verb of ['cancel', 'pause', 'resume', 'approve']) checkProblem(t, await app.call('POST', `/v1/tasks/t-1/${verb}`), 'TASK_ENDED')
  const answer = await app.call('POST', '/v1/tasks/t-1/retry')
  t.equal(answer.statusCode, 202, answer.body)
  t.match(answer.json(), { state: 'running', outcome: null, reason: `${total - 1} pending, 1 succeeded`, counts: { succeeded: 1, pending: total - 1 } })
  t.same(await lastEvent(app, 't-1'), { type: 'retryRequested', by: 'admin' })
  t.match((await app.call('GET', '/v1/tasks/t-1')).json(), { state: 'running', outcome: null, counts: { succeeded: 1, pending: total - 1 } })
  checkProblem(t, await app.call('POST', '/v1/tasks/t-1/retry'), 'TASK_NOT_ENDED')
})

t.test('a task that succeeded cannot be retried', async (t) => {
  const app = await startTestApi(t)
  await admitNodes(app.store, ['node-1'])
  const engine = await playEngine(app, await createTask(app.store, 't-1'))
  for (const index of engine.graph.actions.keys()) await engine.run(index, 'succeeded')
  await engine.end('succeeded')
  checkProblem(t, await app.call('POST', '/v1/tasks/t-1/retry'), 'TASK_NOTHING_TO_RETRY')
  checkProblem(t, await app.call('POST', '/v1/tasks/t-2/retry'), 'REQUEST_NOT_FOUND')
})

t.test('a task is not retried when a newer one of its deployment would be undone by it', async (t) => {
  const app = await startTestApi(t)
  await admitNodes(app.store, ['node-1', 'node-2'])
  const older = await playEngine(app, await createTask(app.store, 't-1'))
  await older.run(0, 'failed')
  for (const action of older.graph.actions.slice(1)) await older.append({ type: 'actionSkipped', action: action.id, reason: 'too many failures' })
  await older.end('failed')
  const newer = await createTask(app.store, 't-2')
  const answer = await app.call('POST', '/v1/tasks/t-1/retry')
  checkProblem(t, answer, 'TASK_SUPERSEDED')
  t.match(answer.json().detail, /task t-2 of deployment hello came after t-1/)
  // One that ended before it was planned is not in the way, nor is a check, or one of another deployment.
  const summary = { state: 'ended', outcome: 'cancelled', reason: '', counts: {} } as const
  await app.store.tasks.append([{ task: newer, expectedSeq: 1, epoch: null, events: [{ type: 'taskEnded', outcome: 'cancelled', reason: '' }], at: Date.now(), summary }])
  await createTask(app.store, 't-3', { kind: 'check' })
  await createTask(app.store, 't-4', { deployment: 'another' })
  t.equal((await app.call('POST', '/v1/tasks/t-1/retry')).statusCode, 202)
})
