import { actionId, answerRequest, buildTaskView, nodeId, type RequestAnswer, type TaskRequest } from '@lichen/core'
import t from 'tap'
import { makeAction, makeGate, makeGraph, startTask, type DrivenTask } from './task-fixture.js'

const ask = (task: DrivenTask, request: TaskRequest): RequestAnswer => answerRequest(task.view, request)
const cancel: TaskRequest = { type: 'cancel', by: 'bob', reason: 'no' }
const pause: TaskRequest = { type: 'pause', by: 'bob', reason: 'lunch' }
const resume: TaskRequest = { type: 'resume', by: 'bob' }
const retry: TaskRequest = { type: 'retry', by: 'bob' }
const approve = (gate?: string): TaskRequest => ({ type: 'approve', by: 'bob', reason: 'fine', ...(gate !== undefined && { gate: actionId(gate) }) })
const settle = (action: string, answer: 'succeeded' | 'failed' | 'runAgain' = 'succeeded'): TaskRequest => ({ type: 'settle', by: 'bob', action: actionId(action), answer, reason: 'seen' })
const refused = (code: string, message: RegExp, path = '') => ({ ok: false, problems: [{ code, message, path }] })

/** Does what the answer says. */
function grant(task: DrivenTask, request: TaskRequest): void {
  const answer = ask(task, request)
  if (!answer.ok || answer.event === null) throw new Error(`refused: ${JSON.stringify(answer)}`)
  task.record(answer.event)
}

const startPlain = () => startTask(makeGraph([makeAction('a/i@n1'), makeAction('b/i@n1', ['a/i@n1'])]))

t.test('cancel, pause and resume give the events that record them', async (t) => {
  const task = startPlain()
  t.strictSame(ask(task, pause), { ok: true, event: { type: 'pauseRequested', by: 'bob', reason: 'lunch' } })
  grant(task, pause)
  t.strictSame(ask(task, pause), { ok: true, event: null }, 'it is so already')
  t.strictSame(ask(task, resume), { ok: true, event: { type: 'resumeRequested', by: 'bob' } })
  grant(task, resume)
  t.match(ask(task, resume), refused('TASK_NOT_PAUSED', /it is running$/))
  t.strictSame(ask(task, cancel), { ok: true, event: { type: 'cancelRequested', by: 'bob', reason: 'no' } })
  grant(task, cancel)
  t.strictSame(ask(task, cancel), { ok: true, event: null })
  for (const request of [pause, resume, approve('g'), settle('a/i@n1')]) t.match(ask(task, request), refused('TASK_ENDED', /coming to its end \(cancel requested by bob: no\)/))
})

t.test('after the end nothing but a retry is granted, and before it no retry', async (t) => {
  const task = startPlain()
  t.match(ask(task, retry), refused('TASK_NOT_ENDED', /it is running$/))
  task.settle()
  task.end('a/i@n1', 'failed')
  task.settle()
  for (const request of [cancel, pause, resume, approve('g'), settle('a/i@n1')]) t.match(ask(task, request), refused('TASK_ENDED', /^the task has ended \(failed: component a: .*\)$/))
  t.strictSame(ask(task, retry), { ok: true, event: { type: 'retryRequested', by: 'bob' } })
})

t.test('an approval goes to the gate that waits, and a second one is told who was first and when', async (t) => {
  const gates = [makeGate('g1', [], { approve: true, meaning: 'approval of a' }), makeGate('g2', ['a/i@n1'], { approve: true }), makeGate('g3', ['a/i@n1'])]
  const task = startTask(makeGraph([makeAction('a/i@n1', ['g1']), makeAction('b/i@n1', ['g2']), makeAction('c/i@n1', ['g3'])], {}, { gates }))
  t.strictSame(ask(task, approve()), { ok: true, event: { type: 'gateApproved', gate: 'g1', by: 'bob', reason: 'fine' } })
  t.match(ask(task, approve('nothing')), refused('TASK_UNKNOWN_GATE', /^no gate "nothing" in this task.*; g1 waits for an approval$/, 'gate'))
  t.match(ask(task, approve('g2')), refused('TASK_GATE_NOT_WAITING', /^gate g2 \(g2\): 1 of the 1 that it comes after are not complete$/, 'gate'))
  t.match(ask(task, approve('g3')), refused('TASK_GATE_NOT_WAITING', /not complete, and it needs no approval$/, 'gate'))
  grant(task, approve('g1'))
  t.match(ask(task, approve('g1')), refused('TASK_GATE_NOT_WAITING', /^approval of a \(g1\): bob approved it at 1970-01-01T00:00:01.000Z$/, 'gate'))
  t.match(ask(task, approve()), refused('TASK_UNKNOWN_GATE', /^no gate waits for an approval now; the next that will is g2, after 1 more/, 'gate'))
  task.settle()
  task.end('a/i@n1', 'succeeded')
  t.match(ask(task, approve('g3')), refused('TASK_GATE_NOT_WAITING', /it is open since .*, and needs no approval$/, 'gate'))
})

t.test('which of several gates is meant must be said, and a failed one is not opened', async (t) => {
  const gates = [makeGate('g1', [], { approve: true }), makeGate('g2', [], { approve: true }), makeGate('g3', ['a/i@n1'], { approve: true })]
  const task = startTask(makeGraph([makeAction('a/i@n1'), makeAction('b/i@n1', ['g1', 'g2', 'g3'])], { maxFailures: 5 }, { gates }))
  t.match(ask(task, approve()), refused('TASK_UNKNOWN_GATE', /^2 gates wait for an approval: name one of g1, g2$/, 'gate'))
  task.settle()
  task.end('a/i@n1', 'failed')
  t.match(ask(task, approve('g3')), refused('TASK_GATE_NOT_WAITING', /it has failed, and will not open in this run: 1 action failed \(a\/i@n1\), and 0 may$/, 'gate'))
})

t.test('in a task of thousands of actions a name that is nearly right is helped with, too', async (t) => {
  const task = startTask(makeGraph(Array.from({ length: 4_000 }, (_, index) => makeAction(`c${Math.floor(index / 400)}/install@node-${1_000 + (index % 400)}`))))
  t.match(ask(task, settle('c3/instal@node-1017')), refused('TASK_UNKNOWN_ACTION', /did you mean "c3\/install@node-1017"\?/, 'action'))
  t.match(ask(task, settle('c3/install@node-11017')), refused('TASK_UNKNOWN_ACTION', /did you mean "c3\/install@node-1017"\?/, 'action'))
})

t.test('an unknown outcome is settled once, and the second person is told who did it and when', async (t) => {
  const task = startTask(makeGraph([makeAction('a/i@n1'), makeAction('b/i@n2'), makeAction('c/i@n3')], { maxFailures: 5 }))
  t.match(ask(task, settle('zzz')), refused('TASK_UNKNOWN_ACTION', /^no action "zzz"/, 'action'))
  t.match(ask(task, settle('a/j@n1')), refused('TASK_UNKNOWN_ACTION', /did you mean "a\/i@n1"\?/, 'action'))
  task.settle()
  t.match(ask(task, settle('a/i@n1')), refused('TASK_NOT_UNKNOWN', /^a\/i@n1: attempt 1 is running$/, 'action'))
  for (const id of ['a/i@n1', 'b/i@n2', 'c/i@n3']) task.end(id, 'unknown')
  t.strictSame(ask(task, settle('a/i@n1', 'runAgain')), { ok: true, event: { type: 'actionRunAgain', action: 'a/i@n1', attempt: 1, by: 'bob', reason: 'seen' } })
  t.strictSame(ask(task, settle('b/i@n2', 'failed')), { ok: true, event: { type: 'actionSettled', action: 'b/i@n2', attempt: 1, as: 'failed', by: 'bob', reason: 'seen' } })
  grant(task, settle('a/i@n1', 'runAgain'))
  grant(task, settle('b/i@n2', 'failed'))
  grant(task, settle('c/i@n3', 'succeeded'))
  t.match(ask(task, settle('a/i@n1')), refused('TASK_NOT_UNKNOWN', /it is pending \(bob lets it run again: seen\)$/, 'action'))
  for (const [id, state] of [['b/i@n2', 'failed'], ['c/i@n3', 'succeeded']] as const) {
    t.match(ask(task, settle(id)), refused('TASK_NOT_UNKNOWN', new RegExp(`its outcome is not unknown: it is ${state} since 1970-01-01T00:00:01.000Z \\(settled as ${state} by bob at 1970-01-01T00:00:01.000Z: seen\\)$`), 'action'))
  }
})

t.test('an outcome that an earlier run left unknown is for a retry', async (t) => {
  const task = startTask(makeGraph([makeAction('a/i@n1'), makeAction('a/i@n2')]))
  task.settle()
  task.end('a/i@n1', 'unknown')
  task.end('a/i@n2', 'failed')
  task.record({ type: 'cancelRequested', by: 'ann', reason: '' })
  task.settle()
  grant(task, { ...retry, nodes: [nodeId('n2')] } as TaskRequest)
  t.match(ask(task, settle('a/i@n1')), refused('TASK_NOT_UNKNOWN', /from a run that has ended: it starts over with a retry/, 'action'))
})

t.test('a retry names nodes of the task that have something left to do', async (t) => {
  const task = startTask(makeGraph([makeAction('a/i@n1'), makeAction('a/i@n2')], { maxFailures: 5 }))
  task.settle()
  task.end('a/i@n1', 'succeeded')
  task.end('a/i@n2', 'failed')
  task.settle()
  const on = (...nodes: string[]): TaskRequest => ({ type: 'retry', by: 'bob', nodes: nodes.map(nodeId) })
  t.strictSame(ask(task, on('n2', 'n1')), { ok: true, event: { type: 'retryRequested', by: 'bob', nodes: ['n2', 'n1'] } })
  t.match(ask(task, on('n1', 'n8', 'n9')), { ok: false, problems: [{ code: 'TASK_UNKNOWN_NODE', path: 'nodes[1]' }, { code: 'TASK_UNKNOWN_NODE', path: 'nodes[2]' }] })
  t.match(ask(task, on('n1')), refused('TASK_NOTHING_TO_RETRY', /^every action on n1 has succeeded$/, 'nodes'))
  grant(task, retry)
  task.settle()
  task.end('a/i@n2', 'succeeded')
  task.settle()
  t.match(ask(task, retry), refused('TASK_NOTHING_TO_RETRY', /^every action of the task has succeeded/))
})

t.test('new parameters may change what did not succeed; up to three actions that they change otherwise are named', async (t) => {
  const ids = ['a/i@n1', 'a/i@n2', 'a/i@n3', 'a/i@n4', 'b/i@n1']
  const before = makeGraph(ids.map((id) => makeAction(id)), { maxFailures: 5 })
  const task = startTask(before)
  task.settle()
  for (const id of ids) task.end(id, id === 'b/i@n1' ? 'failed' : 'succeeded')
  task.settle()
  const change = (...changed: string[]) => ({ ...before, digest: 'new', actions: before.actions.map((action) => (changed.includes(action.id) ? { ...action, key: 'new' } : action)) })
  const withGraph = (graph: typeof before): TaskRequest => ({ type: 'retry', by: 'bob', graph })
  t.strictSame(ask(task, withGraph(change('b/i@n1'))), { ok: true, event: { type: 'retryRequested', by: 'bob', graphDigest: 'new' } })
  t.match(ask(task, withGraph(change('a/i@n2', 'b/i@n1'))), refused('TASK_INPUTS_MOVED', /change an action that has succeeded, or which actions there are: a\/i@n2; apply the plan anew instead$/, 'parameters'))
  t.match(ask(task, withGraph(change(...ids))), refused('TASK_INPUTS_MOVED', /change 4 actions that have succeeded.*: a\/i@n1, a\/i@n2, a\/i@n3 and 1 more; /, 'parameters'))
  t.match(ask(task, withGraph({ ...before, actions: [...before.actions.slice(1), makeAction('c/i@n1')] })), refused('TASK_INPUTS_MOVED', /2 actions that .*: c\/i@n1, a\/i@n1; /, 'parameters'))
  t.match(ask(task, withGraph({ ...before, gates: [makeGate('g')] })), refused('TASK_INPUTS_MOVED', /: g; /, 'parameters'))
  t.match(ask(task, withGraph({ ...before, actions: [...before.actions].reverse() })), refused('TASK_INPUTS_MOVED', /4 actions/, 'parameters'))
})

t.test('a task that was never planned can be cancelled, paused and tried again, and has no actions', async (t) => {
  const { events } = startPlain()
  const early = () => buildTaskView(events.slice(0, 1), null)
  t.match(answerRequest(early(), pause), { ok: true, event: { type: 'pauseRequested' } })
  t.match(answerRequest(early(), resume), refused('TASK_NOT_PAUSED', /it is accepted$/))
  t.match(answerRequest(early(), settle('a/i@n1')), refused('TASK_UNKNOWN_ACTION', /not planned yet/, 'action'))
  const rejected = buildTaskView([...events.slice(0, 1), { seq: 2, at: 1, event: { type: 'taskEnded', outcome: 'rejected', reason: 'no' } }], null)
  t.match(answerRequest(rejected, retry), { ok: true, event: { type: 'retryRequested' } })
  t.match(answerRequest(rejected, { type: 'retry', by: 'bob', graph: makeGraph([]) }), refused('TASK_INPUTS_MOVED', /never planned/, 'parameters'))
})
