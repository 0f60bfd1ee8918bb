import { actionId, applyEvent, buildTaskView, nodeId, taskId, type TaskEvent } from '@lichen/core'
import t from 'tap'
import { makeAction, makeGraph, makeResult, startTask } from './task-fixture.js'

const a = actionId('a/i@n1')
const makeTask = () => startTask(makeGraph([makeAction(a), makeAction('b/i@n1', [a])]))

t.test('the fold of the recorded events is the live view', async (t) => {
  const task = makeTask()
  task.settle()
  task.end(a, 'succeeded')
  task.settle()
  task.end('b/i@n1', 'failed')
  task.settle()
  t.strictSame(buildTaskView(task.events, task.graph), task.view)
})

t.test('an event that does not fit is refused and changes nothing', async (t) => {
  const sent: TaskEvent = { type: 'actionSent', action: a, attempt: 1, node: nodeId('n1'), epoch: 1, timeoutMs: 1_000, deadline: 9 }
  const cases: [string, (task: ReturnType<typeof makeTask>) => void, TaskEvent][] = [
    ['the first event again', () => undefined, { type: 'taskAccepted', kind: 'apply', project: 'p', deployment: 'd', planDigest: 'x', by: 'me' }],
    ['a second graph', () => undefined, { type: 'taskPlanned', graphDigest: 'digest', actionCount: 2 }],
    ['an unknown action', () => undefined, { ...sent, action: actionId('zzz') }],
    ['an action before what it comes after', () => undefined, { ...sent, action: actionId('b/i@n1') }],
    ['an attempt that is not the next', () => undefined, { ...sent, attempt: 2 }],
    ['another node', () => undefined, { ...sent, node: 'n9' as never }],
    ['sending twice', (task) => void task.settle(), { ...sent, attempt: 2 }],
    ['a result of another attempt', (task) => void task.settle(), { type: 'actionEnded', action: a, attempt: 2, result: makeResult('succeeded') }],
    ['success without being sent', () => undefined, { type: 'actionEnded', action: a, attempt: 1, result: makeResult('succeeded') }],
    ['a retry of what has not failed', (task) => void task.settle(), { type: 'actionRetryPlanned', action: a, attempt: 1, notBefore: 0, reason: '' }],
    ['skipping what runs', (task) => void task.settle(), { type: 'actionSkipped', action: a, reason: '' }],
    ['an end with open actions', () => undefined, { type: 'taskEnded', outcome: 'succeeded', reason: '' }],
    ['a retry of a task that runs', () => undefined, { type: 'retryRequested', by: 'me' }],
    ['sending while it is paused', (task) => task.record({ type: 'pauseRequested', by: 'me', reason: '' }), sent],
    ['leaving out what runs', (task) => void task.settle(), { type: 'actionUnchanged', action: a, since: taskId('t-1'), reason: '' }],
    ['leaving out before what it comes after', () => undefined, { type: 'actionUnchanged', action: actionId('b/i@n1'), since: taskId('t-1'), reason: '' }],
    ['settling what is not unknown', (task) => void task.settle(), { type: 'actionSettled', action: a, attempt: 1, as: 'succeeded', by: 'me', reason: '' }],
    ['running again what is not unknown', (task) => void task.settle(), { type: 'actionRunAgain', action: a, attempt: 1, by: 'me', reason: '' }],
    ['approving a gate that is not there', () => undefined, { type: 'gateApproved', gate: a, by: 'me', reason: '' }],
    ['resuming what is not paused', () => undefined, { type: 'resumeRequested', by: 'me' }],
    ['a pause while it is cancelled', (task) => task.record({ type: 'cancelRequested', by: 'me', reason: '' }), { type: 'pauseRequested', by: 'me', reason: '' }],
    ['an end with an open question', (task) => (task.settle(), task.end(a, 'unknown')), { type: 'taskEnded', outcome: 'failed', reason: '' }],
    ['a retry with a graph that is not there', (task) => (task.settle(), task.end(a, 'failed', { failure: { code: 'ORDER_MALFORMED', message: '' } }), void task.settle()), { type: 'retryRequested', by: 'me', graphDigest: 'other' }],
    ['a lower epoch', () => undefined, { type: 'taskClaimed', engine: 'e', epoch: 0 }],
  ]
  for (const [name, prepare, event] of cases) {
    const task = makeTask()
    prepare(task)
    const before = withoutIndex(task.view)
    t.throws(() => applyEvent(task.view, { seq: task.view.seq + 1, at: 5, event }, task.graph), { code: 'TASK_ILLEGAL_EVENT' }, name)
    t.strictSame(withoutIndex(task.view), before, `${name}: nothing changed`)
  }
})

t.test('nothing but a retry follows the end', async (t) => {
  const task = startTask(makeGraph([]))
  task.settle()
  t.throws(() => task.record({ type: 'cancelRequested', by: 'me', reason: '' }), { code: 'TASK_ILLEGAL_EVENT' })
  task.record({ type: 'retryRequested', by: 'me' })
  t.equal(task.view.state, 'running')
})

t.test('a gap in the numbers is refused', async (t) => {
  const task = makeTask()
  t.throws(() => applyEvent(task.view, { seq: task.view.seq + 2, at: 5, event: { type: 'taskClaimed', engine: 'e', epoch: 2 } }), { code: 'TASK_ILLEGAL_EVENT' })
  t.throws(() => buildTaskView([], null), { code: 'TASK_ILLEGAL_EVENT' })
  t.throws(() => buildTaskView(task.events.slice(1), task.graph), { code: 'TASK_ILLEGAL_EVENT' })
})

t.test('a graph that is not the one recorded, or has a circle, is refused', async (t) => {
  const task = makeTask()
  t.throws(() => buildTaskView(task.events, null), { code: 'TASK_ILLEGAL_EVENT' })
  t.throws(() => buildTaskView(task.events, { ...task.graph, digest: 'other' }), { code: 'TASK_ILLEGAL_EVENT' })
  t.throws(() => startTask(makeGraph([makeAction('x/i@n1', ['y/i@n1']), makeAction('y/i@n1', ['x/i@n1'])])), { code: 'TASK_ILLEGAL_EVENT' })
})

t.test('a retry that a stricter policy of today would not plan is still replayed', async (t) => {
  const task = makeTask()
  task.settle()
  task.end(a, 'failed')
  task.record({ type: 'actionRetryPlanned', action: a, attempt: 1, notBefore: 2_000, reason: 'as it was decided then' })
  t.match(task.view, { counts: { waitingRetry: 1, pending: 1, failed: 0 } })
  task.now = 2_000
  t.match(task.settle(), [{ type: 'send', attempt: 2 }])
  task.end(a, 'succeeded')
  t.match(task.settle(), [{ type: 'send', action: { id: 'b/i@n1' } }])
})

t.test('an end that an older version recorded while this one would try again is still replayed', async (t) => {
  const task = startTask(makeGraph([makeAction(a, [], { retry: { attempts: 2, backoffMs: 0 } })]))
  task.record({ type: 'actionSent', action: a, attempt: 1, node: nodeId('n1'), epoch: 1, timeoutMs: 1, deadline: 9 })
  task.end(a, 'failed')
  task.record({ type: 'taskEnded', outcome: 'failed', reason: 'as it was decided then' })
  t.match(task.view, { state: 'ended', outcome: 'failed', counts: { failed: 1 } })
})

// The view without its index, whose heaps hold each other in circles.
function withoutIndex(view: ReturnType<typeof makeTask>['view']) {
  const { index: _index, ...rest } = view
  return structuredClone(rest)
}
