import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { actionOf, makePlan, startSystem } from './system.js'

t.test('an action that fails is tried again by its policy, with the reason in words, and succeeds', async (t) => {
  const system = await startSystem(t)
  await system.startAgent('n1')
  const counter = join(system.directory, 'counter')
  const task = await system.submit(makePlan('retry', [{ name: 'app', blueprint: 'retried', with: { script: `echo x >> ${counter}; test $(wc -l < ${counter}) -ge 3` } }]))
  const view = await system.ended(task)
  t.match(view, { outcome: 'succeeded' })
  t.match(actionOf(view, 'app/run'), { attempt: 3, attemptsInRun: 3, state: 'succeeded' })
  const planned = (await system.readEvents(task)).flatMap(({ event }) => (event.type === 'actionRetryPlanned' ? [event.reason] : []))
  t.equal(planned.length, 2)
  t.match(planned[0], /^attempt 1 failed at command "the script": .+; the next one \(2 of 3\) begins in 0.05 s$/)
})

t.test('an action that keeps failing ends the task with a reason that names it, and a retry of the task begins there', async (t) => {
  const system = await startSystem(t)
  await system.startAgent('n1')
  const gate = join(system.directory, 'gate')
  const once = join(system.directory, 'once')
  const task = await system.submit(makePlan('fails', [
    { name: 'base', blueprint: 'script', with: { script: `echo x >> ${once}` } },
    { name: 'app', blueprint: 'retried', after: ['base'], with: { script: `echo no gate >&2; test -e ${gate}` } },
    { name: 'last', blueprint: 'note', after: ['app'] },
  ]))
  const view = await system.ended(task)
  t.match(view, { outcome: 'failed', counts: { succeeded: 1, failed: 1, skipped: 1 } })
  t.match(view.reason, /^component app: action run on node n1 failed at command "the script": /)
  t.match(actionOf(view, 'last/').reason, /not started: it comes after app\/run@n1, which failed/)

  writeFileSync(gate, '')
  await system.store.tasks.append([{ task, expectedSeq: view.seq, epoch: null, at: Date.now(), events: [{ type: 'retryRequested', by: 'test' }], announce: true, summary: { state: 'running', outcome: null, reason: 'tried again', counts: view.counts } }])
  await system.ring(JSON.stringify({ v: 1, task }))
  const again = await system.ended(task)
  t.match(again, { outcome: 'succeeded', counts: { succeeded: 3 } })
  t.equal(actionOf(again, 'app/').attempt, 4)
  t.equal(readFileSync(once, 'utf8'), 'x\n', 'what had succeeded was not run again')
})

t.test('a plan that does not fit any more ends the task as rejected, with every problem', async (t) => {
  const system = await startSystem(t)
  const task = await system.submit(makePlan('late', [{ name: 'app', blueprint: 'gone', with: {} }]))
  const view = await system.ended(task)
  t.match(view, { outcome: 'rejected', failure: { code: 'TASK_PLAN_REJECTED' } })
  t.match(view.problems, [{ code: 'PLAN_UNKNOWN_BLUEPRINT' }])
})

t.test('a task whose preview has another digest touches no node', async (t) => {
  const system = await startSystem(t)
  await system.startAgent('n1')
  const task = await system.submit(makePlan('previewed', [{ name: 'app', blueprint: 'note' }]), 'apply', { previewDigest: 'of another graph' })
  const view = await system.ended(task)
  t.match(view, { outcome: 'rejected', failure: { code: 'PREVIEW_MOVED' } })
  t.notOk((await system.readEvents(task)).some(({ event }) => event.type === 'actionSent'))
})

t.test('a task that was rejected is planned anew when it is tried again', async (t) => {
  const system = await startSystem(t)
  const task = await system.submit(makePlan('no-nodes', [{ name: 'app', blueprint: 'note' }]))
  const rejected = await system.ended(task)
  t.match(rejected, { outcome: 'rejected', problems: [{ code: 'PLAN_TOO_FEW_NODES' }] })
  await system.startAgent('n1')
  await system.store.tasks.append([{ task, expectedSeq: rejected.seq, epoch: null, at: Date.now(), events: [{ type: 'retryRequested', by: 'test' }], announce: true, summary: { state: 'accepted', outcome: null, reason: 'tried again', counts: {} } }])
  await system.ring(JSON.stringify({ v: 1, task }))
  t.match(await system.ended(task), { outcome: 'succeeded', counts: { succeeded: 1 } })
})
