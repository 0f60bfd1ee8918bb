import { actionId, buildTaskView, decide, nextWakeup, summarizeTask } from '@lichen/core'
import t from 'tap'
import { allReady, makeAction, makeGraph, makeLimits, startTask, stateOf, worldWhere, type DrivenTask } from './task-fixture.js'

const pause = (task: DrivenTask): void => task.record({ type: 'pauseRequested', by: 'ann', reason: 'lunch' })
const resume = (task: DrivenTask): void => task.record({ type: 'resumeRequested', by: 'ann' })
const sentBy = (task: DrivenTask): string[] => task.settle().flatMap((effect) => (effect.type === 'send' ? [effect.action.id as string] : []))

t.test('a paused task records what ends and begins nothing until it is resumed', async (t) => {
  const task = startTask(makeGraph([makeAction('a/i@n1'), makeAction('b/i@n1', ['a/i@n1'])]))
  task.settle()
  task.now = 2_000
  pause(task)
  t.match(task.view, { state: 'paused', pausedAt: 2_000, reason: 'paused by ann: lunch' })
  pause(task)
  t.equal(task.view.pausedAt, 2_000, 'the first pause counts')
  task.end('a/i@n1', 'succeeded')
  t.strictSame(task.settle(), [])
  t.equal(summarizeTask(task.view).reason, 'paused by ann: lunch; 1 pending, 1 succeeded')
  resume(task)
  t.match(task.view, { state: 'running', pausedAt: null })
  t.strictSame(sentBy(task), ['b/i@n1'])
  t.throws(() => resume(task), { code: 'TASK_ILLEGAL_EVENT' })
})

t.test('while it is paused retries are planned and not sent, and nothing is skipped because of failures', async (t) => {
  const task = startTask(makeGraph([makeAction('a/i@n1', [], { retry: { attempts: 2, backoffMs: 1_000 } }), makeAction('b/i@n2'), makeAction('c/i@n2', ['b/i@n2'])]))
  task.settle()
  pause(task)
  task.end('a/i@n1', 'failed')
  task.end('b/i@n2', 'failed')
  task.settle()
  t.equal(stateOf(task, 'a/i@n1'), 'waitingRetry')
  t.equal(stateOf(task, 'c/i@n2'), 'pending')
  task.now = 90_000
  t.strictSame(task.settle(), [])
  t.equal(nextWakeup(task.view, allReady, task.now, makeLimits()), undefined)
  resume(task)
  t.strictSame(sentBy(task), ['a/i@n1'])
  t.equal(stateOf(task, 'c/i@n2'), 'skipped')
})

t.test('an attempt without an answer ends unknown at its deadline although the task is paused, and questions can be answered', async (t) => {
  const task = startTask(makeGraph([makeAction('a/i@n1'), makeAction('b/i@n1', ['a/i@n1'])]))
  task.settle()
  pause(task)
  task.now = task.view.actions.get(actionId('a/i@n1'))?.deadline ?? 0
  t.equal(nextWakeup(task.view, allReady, 0, makeLimits()), task.now)
  task.settle()
  t.equal(stateOf(task, 'a/i@n1'), 'unknown')
  task.record({ type: 'actionSettled', action: actionId('a/i@n1'), attempt: 1, as: 'succeeded', by: 'ann', reason: '' })
  t.strictSame(task.settle(), [])
  resume(task)
  t.strictSame(sentBy(task), ['b/i@n1'])
})

t.test('a paused task whose actions are all settled ends when it is resumed, not by itself', async (t) => {
  const task = startTask(makeGraph([makeAction('a/i@n1')]))
  task.settle()
  pause(task)
  task.end('a/i@n1', 'succeeded')
  task.settle()
  t.equal(task.view.state, 'paused')
  resume(task)
  task.settle()
  t.equal(task.view.outcome, 'succeeded')
})

t.test('cancel works while the task is paused', async (t) => {
  const task = startTask(makeGraph([makeAction('a/i@n1'), makeAction('b/i@n1', ['a/i@n1'])]))
  task.settle()
  pause(task)
  task.record({ type: 'cancelRequested', by: 'ann', reason: '' })
  t.match(task.settle(), [{ type: 'cancel', action: { id: 'a/i@n1' } }])
  t.throws(() => pause(task), { code: 'TASK_ILLEGAL_EVENT' })
  task.end('a/i@n1', 'cancelled')
  task.settle()
  t.equal(task.view.outcome, 'cancelled')
})

t.test('a task can be paused before it is planned, and stays so', async (t) => {
  const { events, graph } = startTask(makeGraph([makeAction('a/i@n1')]))
  const [accepted] = events
  const early = buildTaskView([accepted!, { seq: 2, at: 1_001, event: { type: 'pauseRequested', by: 'ann', reason: '' } }], null)
  t.match(early, { state: 'paused', graph: null })
  t.strictSame(decide(early, allReady, 1_002, makeLimits()), [])
  const planned = buildTaskView([accepted!, { seq: 2, at: 1_001, event: { type: 'pauseRequested', by: 'ann', reason: '' } }, { seq: 3, at: 1_002, event: { type: 'taskPlanned', graphDigest: graph.digest, actionCount: 1 } }], graph)
  t.match(planned, { state: 'paused', counts: { pending: 1 } })
  t.strictSame(decide(planned, allReady, 1_003, makeLimits()), [])
  const resumed = buildTaskView([accepted!, { seq: 2, at: 1_001, event: { type: 'pauseRequested', by: 'ann', reason: '' } }, { seq: 3, at: 1_002, event: { type: 'resumeRequested', by: 'ann' } }], null)
  t.equal(resumed.state, 'accepted')
})

t.test('a pause is no waiting for a turn: its limits count anew from the resumption', async (t) => {
  const queued = startTask(makeGraph([makeAction('a/i@n1')], {}, { limits: { queuedMs: 10_000, taskMs: null } }))
  const lost = startTask(makeGraph([makeAction('a/i@n1')]))
  for (const [task, code] of [[queued, 'ACTION_QUEUED_TOO_LONG'], [lost, 'ACTION_NODE_LOST']] as const) {
    const world = worldWhere({ n1: { state: 'lost', since: 500 } })
    pause(task)
    task.now = 10_000_000
    task.settle(world)
    t.equal(stateOf(task, 'a/i@n1'), 'pending')
    resume(task)
    task.settle(world)
    t.equal(stateOf(task, 'a/i@n1'), 'pending')
    task.now += 600_000
    task.settle(world)
    t.match(task.view.actions.get(actionId('a/i@n1')), { state: 'failed', result: { failure: { code } } })
  }
})
