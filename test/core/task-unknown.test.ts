import { actionId, type ActionView, isAwaited, nextWakeup } from '@lichen/core'
import t from 'tap'
import { allReady, makeAction, makeGraph, makeLimits, makeResult, startTask, stateOf, type DrivenTask } from './task-fixture.js'

const a = actionId('a/i@n1')
const viewOf = (task: DrivenTask, id: string): ActionView => task.view.actions.get(actionId(id)) as ActionView
const sentBy = (task: DrivenTask): string[] => task.settle().flatMap((effect) => (effect.type === 'send' ? [effect.action.id as string] : []))
const settleAs = (task: DrivenTask, as: 'succeeded' | 'failed', action = a): void => task.record({ type: 'actionSettled', action, attempt: viewOf(task, action).attempt, as, by: 'ann', reason: 'I looked' })
const runAgain = (task: DrivenTask, action = a): void => task.record({ type: 'actionRunAgain', action, attempt: viewOf(task, action).attempt, by: 'ann', reason: 'nothing there' })

/** `b` comes after `a`, whose outcome is unknown; `c` and `d` have nothing to do with them. */
function startUnknown(rollout = {}) {
  const task = startTask(makeGraph([makeAction(a, [], { retry: { attempts: 3, backoffMs: 0 } }), makeAction('b/i@n1', [a]), makeAction('c/i@n2'), makeAction('d/i@n2', ['c/i@n2'])], rollout))
  task.settle()
  task.end(a, 'unknown', { failure: { code: 'COMMAND_INTERRUPTED', message: 'the node restarted', command: 'say' } })
  return task
}

t.test('an unknown outcome stops what comes after it, is no failure, and the rest goes on', async (t) => {
  const task = startUnknown()
  t.strictSame(sentBy(task), [], 'it is not tried again')
  task.end('c/i@n2', 'succeeded')
  t.strictSame(sentBy(task), ['d/i@n2'], 'although no action may fail')
  task.end('d/i@n2', 'succeeded')
  t.strictSame(sentBy(task), [])
  t.match(task.view, { state: 'running', counts: { unknown: 1, pending: 1, succeeded: 2 } }, 'the task does not end')
  t.equal(nextWakeup(task.view, allReady, task.now, makeLimits()), undefined, 'only a person can help')
})

t.test('settled as succeeded, it is as if it had', async (t) => {
  const task = startUnknown()
  task.now = 60_000
  settleAs(task, 'succeeded')
  t.match(viewOf(task, a), { state: 'succeeded', endedAt: 60_000, reason: 'settled as succeeded by ann at 1970-01-01T00:01:00.000Z: I looked', result: { outcome: 'succeeded', changed: true, failure: undefined } })
  t.strictSame(sentBy(task), ['b/i@n1'])
})

t.test('settled as failed, it is a failure for good that says who and why', async (t) => {
  const task = startUnknown()
  settleAs(task, 'failed')
  t.match(viewOf(task, a), { state: 'failed', result: { outcome: 'failed', failure: { code: 'ACTION_SETTLED', command: 'say' } } })
  t.strictSame(sentBy(task), [], 'not even with attempts left')
  t.equal(stateOf(task, 'b/i@n1'), 'skipped')
  task.end('c/i@n2', 'succeeded')
  task.settle()
  t.match(task.view, { outcome: 'failed', failure: { code: 'ACTION_SETTLED' }, reason: /failed at command "say": attempt 1, whose outcome was unknown, was settled as failed by ann at .*: I looked; what was known: the node restarted$/ })
})

t.test('an action that is to run again starts over with all its attempts and its whole time', async (t) => {
  const task = startTask(makeGraph([makeAction(a, [], { limitMs: 10_000, retry: { attempts: 2, backoffMs: 0 } }), makeAction('b/i@n1', [a])]))
  task.settle()
  task.end(a, 'unknown')
  task.now = 500_000
  runAgain(task)
  t.match(viewOf(task, a), { state: 'pending', attempt: 1, attemptsInRun: 0, begunAt: null, reason: 'ann lets it run again: nothing there' })
  t.match(task.settle(), [{ type: 'send', attempt: 2, timeoutMs: 1_000 }])
  t.match(viewOf(task, a), { attemptsInRun: 1, begunAt: 500_000 })
  task.end(a, 'failed')
  t.match(task.settle(), [{ type: 'send', attempt: 3 }])
  task.end(a, 'succeeded')
  t.strictSame(sentBy(task), ['b/i@n1'])
})

t.test('an action that is to run again is skipped when too many others have failed, wherever it stands in the graph', async (t) => {
  const task = startUnknown()
  task.end('c/i@n2', 'failed')
  task.settle()
  t.equal(task.view.state, 'running', 'a question is open')
  runAgain(task)
  task.settle()
  t.match(viewOf(task, a), { state: 'skipped', reason: /^not started: 1 action failed/ })
  t.match(task.view, { state: 'ended', outcome: 'failed', counts: { skipped: 3, failed: 1 } })
})

t.test('an answer fits the newest attempt of an open question, and nothing else', async (t) => {
  const answer = { action: a, by: 'ann', reason: '' }
  const task = startUnknown()
  t.throws(() => task.record({ type: 'actionSettled', ...answer, attempt: 2, as: 'failed' }), { code: 'TASK_ILLEGAL_EVENT' })
  t.throws(() => task.record({ type: 'actionRunAgain', ...answer, action: actionId('c/i@n2'), attempt: 1 }), { code: 'TASK_ILLEGAL_EVENT' })
  settleAs(task, 'succeeded')
  t.throws(() => settleAs(task, 'succeeded'), { code: 'TASK_ILLEGAL_EVENT' })
  t.throws(() => runAgain(task), { code: 'TASK_ILLEGAL_EVENT' })
})

t.test('a node that answers late settles the question itself', async (t) => {
  const task = startUnknown()
  t.equal(isAwaited(task.view, a, 1, 'succeeded'), false, 'its node has said that it does not know')
  const silent = startTask(makeGraph([makeAction(a), makeAction('b/i@n1', [a])]))
  silent.settle()
  silent.now = silent.view.actions.get(a)?.deadline ?? 0
  silent.settle()
  t.equal(stateOf(silent, a), 'unknown')
  t.strictSame([isAwaited(silent.view, a, 1, 'succeeded'), isAwaited(silent.view, a, 1, 'unknown'), isAwaited(silent.view, a, 2, 'succeeded'), isAwaited(silent.view, actionId('x'), 1, 'failed')], [true, false, false, false])
  t.throws(() => silent.record({ type: 'actionEnded', action: a, attempt: 1, result: makeResult('unknown') }), { code: 'TASK_ILLEGAL_EVENT' })
  silent.end(a, 'succeeded')
  t.strictSame(sentBy(silent), ['b/i@n1'])
})

t.test('a check that ends unknown has had no effect: it is a failure, and nobody is asked', async (t) => {
  const task = startTask(makeGraph([makeAction(a, [], { mode: 'check' })]))
  task.settle()
  task.end(a, 'unknown')
  task.settle()
  t.match(task.view, { state: 'ended', outcome: 'failed', counts: { unknown: 1 } })
})

t.test('a cancel does not wait for answers, says how many outcomes are unknown, and a retry lets them start over', async (t) => {
  const task = startUnknown()
  task.end('c/i@n2', 'succeeded')
  task.record({ type: 'cancelRequested', by: 'ann', reason: 'enough' })
  t.throws(() => settleAs(task, 'succeeded'), { code: 'TASK_ILLEGAL_EVENT' })
  task.settle()
  t.match(task.view, { state: 'ended', outcome: 'cancelled', reason: 'cancel requested by ann: enough; 1 unknown, 2 skipped, 1 succeeded' })
  task.record({ type: 'retryRequested', by: 'ann' })
  t.match(task.settle(), [{ type: 'send', action: { id: a }, attempt: 2 }, { type: 'send', action: { id: 'd/i@n2' } }])
})

t.test('an attempt that only looks and is not answered has timed out: nothing can have happened, so it is tried again', async (t) => {
  const task = startTask(makeGraph([makeAction(a, [], { commands: [{ name: 'ask', kind: 'probe', timeoutMs: 1_000, spec: { command: ['ask'] } }], retry: { attempts: 2, backoffMs: 0 } })]))
  t.strictSame(sentBy(task), [a])
  task.now = (viewOf(task, a).deadline ?? 0) + 1
  t.strictSame(sentBy(task), [a])
  t.match(task.events.map(({ event }) => event).find((event) => event.type === 'actionEnded'), { result: { outcome: 'timedOut', failure: { code: 'ACTION_NO_ANSWER' } } })
  t.match(viewOf(task, a), { state: 'sent', attempt: 2 })
})
