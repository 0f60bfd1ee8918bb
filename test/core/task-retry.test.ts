import { actionId, applyEvents, buildTaskView, nodeId, rebaseGraph, summarizeTask, taskId, type Action, type ActionGraph, type TaskEvent } from '@lichen/core'
import t from 'tap'
import { makeAction, makeGate, makeGraph, startTask, stateOf, type DrivenTask } from './task-fixture.js'

const sentBy = (task: DrivenTask): string[] => task.settle().flatMap((effect) => (effect.type === 'send' ? [effect.action.id as string] : []))
const retryOn = (...nodes: string[]): TaskEvent => ({ type: 'retryRequested', by: 'ann', nodes: nodes.map(nodeId) })
const stateOfGate = (task: DrivenTask, gate: string) => task.view.gates.get(actionId(gate))?.state

/** n1 succeeded, n2 and n3 failed, and what comes after them is skipped. */
function startFailed(rollout = {}) {
  const nodes = ['n1', 'n2', 'n3']
  const task = startTask(makeGraph(nodes.flatMap((node) => [makeAction(`a/i@${node}`), makeAction(`b/i@${node}`, [`a/i@${node}`])]), { maxFailures: 5, ...rollout }))
  task.settle()
  for (const node of nodes) task.end(`a/i@${node}`, node === 'n1' ? 'succeeded' : 'failed')
  task.settle()
  task.end('b/i@n1', 'succeeded')
  task.settle()
  t.match(task.view, { outcome: 'failed', counts: { succeeded: 2, failed: 2, skipped: 2 } })
  return task
}

t.test('a retry of one node starts over what did not succeed there; the end is the truth about all', async (t) => {
  const task = startFailed()
  task.now = 9_000
  task.record(retryOn('n2'))
  t.match(task.view, { state: 'running', runSince: 9_000, counts: { succeeded: 2, pending: 2, failed: 1, skipped: 1 } })
  t.strictSame(sentBy(task), ['a/i@n2'])
  task.end('a/i@n2', 'succeeded')
  task.settle()
  task.end('b/i@n2', 'succeeded')
  task.settle()
  t.match(task.view, {
    state: 'ended', outcome: 'failed', counts: { succeeded: 4, failed: 1, skipped: 1 }, failure: { code: 'COMMAND_FAILED' },
    reason: 'in an earlier run, and not tried again: component a: action install on node n3 failed at command "say": exit code 1 (and 1 more action without success)',
  })
  task.record(retryOn('n3'))
  t.strictSame(sentBy(task), ['a/i@n3'])
  task.end('a/i@n3', 'succeeded')
  t.strictSame(sentBy(task), ['b/i@n3'])
  task.end('b/i@n3', 'succeeded')
  task.settle()
  t.equal(task.view.outcome, 'succeeded')
  t.strictSame(buildTaskView(task.events, task.graph), task.view)
})

t.test('failures that a retry leaves as they are do not count against the limit of the new run', async (t) => {
  const task = startTask(makeGraph([makeAction('a/i@n1'), makeAction('a/i@n2'), makeAction('b/i@n1', ['a/i@n1'])]))
  task.settle()
  task.end('a/i@n1', 'failed')
  task.end('a/i@n2', 'failed')
  task.settle()
  task.record(retryOn('n1'))
  t.strictSame(sentBy(task), ['a/i@n1'])
  task.end('a/i@n1', 'succeeded')
  t.strictSame(sentBy(task), ['b/i@n1'])
})

t.test('what comes after something that stays failed cannot run, and says so', async (t) => {
  const gates = [makeGate('g', ['a/i@n1', 'a/i@n2'])]
  const task = startTask(makeGraph([makeAction('a/i@n1'), makeAction('a/i@n2'), makeAction('b/i@n1', ['a/i@n2']), makeAction('c/i@n1', ['g'])], { maxFailures: 5 }, { gates }))
  task.settle()
  task.end('a/i@n1', 'failed')
  task.end('a/i@n2', 'failed')
  task.settle()
  task.record(retryOn('n1'))
  t.equal(stateOfGate(task, 'g'), 'failed')
  t.strictSame(sentBy(task), ['a/i@n1'])
  t.equal(task.view.actions.get(actionId('b/i@n1'))?.reason, 'not started: it comes after a/i@n2, which failed')
  t.match(task.view.actions.get(actionId('c/i@n1')), { state: 'skipped', reason: /1 action failed \(a\/i@n2\), and 0 may$/ })
})

t.test('a gate that had opened within its tolerance is open still when another node is tried again', async (t) => {
  const gates = [makeGate('g', ['a/i@n1', 'a/j@n1', 'a/i@n2'], { maxFailures: 1 })]
  const task = startTask(makeGraph([makeAction('a/i@n1'), makeAction('a/j@n1', ['a/i@n1']), makeAction('a/i@n2'), makeAction('b/i@n3', ['g'])], { maxFailures: 5 }, { gates }))
  task.settle()
  task.end('a/i@n1', 'failed')
  task.end('a/i@n2', 'succeeded')
  task.settle()
  task.end('b/i@n3', 'failed')
  task.settle()
  task.record(retryOn('n3'))
  t.equal(stateOfGate(task, 'g'), 'open')
  t.strictSame(sentBy(task), ['b/i@n3'])
  task.end('b/i@n3', 'failed')
  task.settle()
  task.record(retryOn('n1'))
  t.equal(stateOfGate(task, 'g'), 'closed')
})

t.test('an unknown outcome on another node stays so, and does not hold the end up', async (t) => {
  const task = startTask(makeGraph([makeAction('a/i@n1'), makeAction('a/i@n2')], { maxFailures: 5 }))
  task.settle()
  task.end('a/i@n1', 'unknown')
  task.end('a/i@n2', 'failed')
  task.record({ type: 'cancelRequested', by: 'ann', reason: '' })
  task.settle()
  task.record(retryOn('n2'))
  task.settle()
  task.end('a/i@n2', 'succeeded')
  task.settle()
  t.match(task.view, { outcome: 'failed', counts: { unknown: 1, succeeded: 1 }, reason: /^in an earlier run, and not tried again: component a: action install on node n1 ended with an unknown outcome/ })
})

const withCommands = (graph: ActionGraph, id: string, text: string, digest: string): ActionGraph => ({
  ...graph, digest, actions: graph.actions.map((action) => (action.id === id ? { ...action, key: text, commands: [{ name: 'say', kind: 'note', timeoutMs: 1_000, spec: { text } }] } : action)),
})

t.test('a retry with new parameters runs the commands of the new graph, and old events fold over it', async (t) => {
  const before = makeGraph([makeAction('a/i@n1'), makeAction('b/i@n1', ['a/i@n1'])])
  const task = startTask(before)
  task.settle()
  task.end('a/i@n1', 'succeeded')
  task.settle()
  task.end('b/i@n1', 'failed')
  task.settle()
  const ended = [...task.events]
  const after = withCommands(before, 'b/i@n1', 'other', 'digest 2')
  t.throws(() => task.record({ type: 'retryRequested', by: 'ann', graphDigest: 'digest 2' }), { code: 'TASK_ILLEGAL_EVENT' }, 'another graph is beside it')
  task.graph = after
  task.record({ type: 'retryRequested', by: 'ann', graphDigest: 'digest 2' })
  t.equal(task.view.graph, after)
  t.match(task.settle(), [{ type: 'send', action: { id: 'b/i@n1', commands: [{ spec: { text: 'other' } }] }, attempt: 2 }])
  task.end('b/i@n1', 'failed')
  task.settle()
  t.strictSame(buildTaskView(task.events, after), task.view)
  t.throws(() => buildTaskView(task.events, before), { code: 'TASK_ILLEGAL_EVENT' }, 'an old graph is not the one in force')

  task.graph = withCommands(after, 'b/i@n1', 'third', 'digest 3')
  task.record({ type: 'retryRequested', by: 'ann', graphDigest: 'digest 3' })
  t.strictSame(buildTaskView(task.events, task.graph), task.view, 'over two changes')
  const followed = applyEvents(buildTaskView(ended, before), task.events.slice(ended.length), task.graph)
  t.strictSame(summarizeTask(followed), summarizeTask(task.view), 'a reader that lagged behind both changes')
  t.equal(followed.graph, task.graph)
  const fromPlanned = applyEvents(buildTaskView(ended.slice(0, 2), null), task.events.slice(2), task.graph)
  t.strictSame(summarizeTask(fromPlanned), summarizeTask(task.view), 'one that had no graph yet')
})

t.test('a graph with other actions, gates or arrows does not take the place of the one before', async (t) => {
  const before = makeGraph([makeAction('a/i@n1'), makeAction('b/i@n1', ['g'])], {}, { gates: [makeGate('g', ['a/i@n1'])] })
  const others: ActionGraph[] = [
    { ...before, actions: before.actions.slice(0, 1) }, { ...before, gates: [] }, { ...before, gates: [makeGate('g')] }, { ...before, gates: [makeGate('g', ['a/i@n1'], { maxFailures: 1 })] },
    { ...before, actions: [makeAction('a/i@n1'), makeAction('b/i@n1')] }, { ...before, actions: [makeAction('a/i@n1', [], { node: nodeId('n2') }), makeAction('b/i@n1', ['g'])] },
  ]
  for (const other of others) {
    const task = startTask(before)
    task.settle()
    task.end('a/i@n1', 'failed')
    task.settle()
    task.graph = { ...other, digest: 'other' }
    t.throws(() => task.record({ type: 'retryRequested', by: 'ann', graphDigest: 'other' }), { code: 'TASK_ILLEGAL_EVENT' })
    t.match(task.view, { state: 'ended', graph: { digest: 'digest' } })
  }
})

t.test('a graph that was planned anew keeps what the task knew of unchanged actions, and only that', async (t) => {
  const look = actionId('verify/look@n1')
  const since = taskId('t-1')
  const unchanged = { since, outputs: {}, check: look }
  const known: Action = makeAction('a/i@n1', [look], { unchanged })
  const before = makeGraph([makeAction(look, [], { mode: 'check', verifies: [{ action: known.id, commands: 1 }, { action: actionId('b/i@n1'), commands: 1 }] }), known, makeAction('b/i@n1', [known.id, look], { unchanged })], {}, { gates: [makeGate('g2', ['b/i@n1']), makeGate('g1', ['a/i@n1'])] })
  const fresh = makeGraph([makeAction('a/i@n1'), makeAction('b/i@n1', ['a/i@n1'], { key: 'another', timeoutMs: 7 })], {}, { gates: [...before.gates].reverse(), digest: 'fresh' })
  const rebased = rebaseGraph(before, fresh)
  t.strictSame(rebased.actions.map(({ id }) => id), before.actions.map(({ id }) => id))
  t.strictSame(rebased.gates, before.gates)
  t.match(rebased.actions, [{ verifies: [{}, {}] }, { unchanged, after: [look] }, { unchanged: null, key: 'another', timeoutMs: 7, after: ['a/i@n1', look] }])
  t.not(rebased.digest, before.digest)
  t.equal(rebaseGraph(before, rebased).digest, rebased.digest, 'it is its own')
  for (const other of [{ ...fresh, actions: fresh.actions.slice(0, 1) }, { ...fresh, gates: [] }, { ...fresh, actions: [makeAction('a/i@n1'), makeAction('b/i@n1')] }]) t.equal(rebaseGraph(before, other), other, 'what moved is for answerRequest to say')
})

t.test('an action that is tried again with new parameters is not the one that was unchanged', async (t) => {
  const unchanged = { since: taskId('t-1'), outputs: {}, check: null }
  const before = makeGraph([makeAction('x/i@n2'), makeAction('a/i@n1', ['x/i@n2'], { unchanged })])
  const task = startTask(before)
  task.settle()
  task.end('x/i@n2', 'failed')
  task.settle()
  t.equal(stateOf(task, 'a/i@n1'), 'skipped')
  task.graph = rebaseGraph(before, withCommands({ ...before, actions: before.actions.map((action) => ({ ...action, unchanged: null })) }, 'a/i@n1', 'other', 'fresh'))
  task.record({ type: 'retryRequested', by: 'ann', graphDigest: task.graph.digest })
  task.record({ type: 'actionSent', action: actionId('x/i@n2'), attempt: 2, node: nodeId('n2'), epoch: 1, timeoutMs: 1, deadline: 1 })
  task.end('x/i@n2', 'succeeded')
  t.strictSame(sentBy(task), ['a/i@n1'])
})
