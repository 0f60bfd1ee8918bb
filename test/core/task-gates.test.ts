import { actionId, applyEvent, type GateView } from '@lichen/core'
import t from 'tap'
import { makeAction, makeGate, makeGraph, startTask, stateOf, type DrivenTask } from './task-fixture.js'

const gateOf = (task: DrivenTask, id: string): GateView => task.view.gates.get(actionId(id)) as GateView
const sentBy = (task: DrivenTask): string[] => task.settle().flatMap((effect) => (effect.type === 'send' ? [effect.action.id as string] : []))
const approve = (task: DrivenTask, gate: string): void => task.record({ type: 'gateApproved', gate: actionId(gate), by: 'ann', reason: 'looks well' })

/** Two waves of two nodes. */
const makeWaves = (gate = {}, rollout = {}) =>
  makeGraph(
    [makeAction('a/i@n1'), makeAction('a/i@n2'), makeAction('a/i@n3', ['a/wave-1']), makeAction('a/i@n4', ['a/wave-1'])],
    { maxFailures: 9, ...rollout },
    { gates: [makeGate('a/wave-1', ['a/i@n1', 'a/i@n2'], { meaning: 'wave 1 of 2 of a (n1, n2)', ...gate })] },
  )

t.test('a gate opens by itself when everything that it comes after has succeeded', async (t) => {
  const task = startTask(makeWaves())
  t.strictSame(sentBy(task), ['a/i@n1', 'a/i@n2'])
  task.end('a/i@n1', 'succeeded')
  t.strictSame(sentBy(task), [])
  t.match(gateOf(task, 'a/wave-1'), { state: 'closed', since: 1_000 })
  task.now = 5_000
  task.end('a/i@n2', 'succeeded')
  t.match(gateOf(task, 'a/wave-1'), { state: 'open', since: 5_000, approvedBy: null })
  t.strictSame(sentBy(task), ['a/i@n3', 'a/i@n4'])
})

t.test('a gate that allows no failure fails at the first one, and what comes after says why', async (t) => {
  const task = startTask(makeWaves())
  task.settle()
  task.end('a/i@n1', 'failed')
  t.match(gateOf(task, 'a/wave-1'), { state: 'failed', reason: '1 action failed (a/i@n1), and 0 may' }, 'although n2 is still running')
  task.settle()
  t.match(task.view.actions.get(actionId('a/i@n3')), { state: 'skipped', reason: 'not started: it comes after wave 1 of 2 of a (n1, n2): 1 action failed (a/i@n1), and 0 may' })
  t.equal(stateOf(task, 'a/i@n2'), 'sent')
})

t.test('a failed attempt that is tried again is no failure for a gate', async (t) => {
  const retry = { retry: { attempts: 2, backoffMs: 0 } }
  const task = startTask(makeGraph([makeAction('a/i@n1', [], retry), makeAction('b/i@n1', ['g'])], {}, { gates: [makeGate('g', ['a/i@n1'])] }))
  task.settle()
  task.end('a/i@n1', 'failed')
  t.equal(gateOf(task, 'g').state, 'closed')
  task.settle()
  task.end('a/i@n1', 'succeeded')
  t.strictSame(sentBy(task), ['b/i@n1'])
})

t.test('within its tolerance a gate opens once all is settled, and an action that was skipped because of a counted failure is not counted again', async (t) => {
  const actions = [makeAction('a/i@n1'), makeAction('a/j@n1', ['a/i@n1']), makeAction('a/i@n2'), makeAction('a/j@n2', ['a/i@n2']), makeAction('b/i@n1', ['g'])]
  const task = startTask(makeGraph(actions, { maxFailures: 9 }, { gates: [makeGate('g', ['a/i@n1', 'a/i@n2', 'a/j@n1', 'a/j@n2'], { maxFailures: 1 })] }))
  task.settle()
  task.end('a/i@n1', 'failed')
  task.settle()
  t.equal(stateOf(task, 'a/j@n1'), 'skipped')
  t.equal(gateOf(task, 'g').state, 'closed', 'n2 is not settled')
  task.end('a/i@n2', 'succeeded')
  task.settle()
  task.end('a/j@n2', 'succeeded')
  t.equal(gateOf(task, 'g').state, 'open')
  t.strictSame(sentBy(task), ['b/i@n1'])
  task.end('b/i@n1', 'succeeded')
  task.settle()
  t.match(task.view, { outcome: 'failed', counts: { failed: 1, skipped: 1, succeeded: 3 } }, 'the failure is still the truth about the task')
})

t.test('a gate that comes after the last actions alone does not open when an earlier one failed and they were skipped', async (t) => {
  const actions = [makeAction('a/i@n1'), makeAction('a/j@n1', ['a/i@n1']), makeAction('b/i@n2', ['g'])]
  const task = startTask(makeGraph(actions, { maxFailures: 9 }, { gates: [makeGate('g', ['a/j@n1'])] }))
  task.settle()
  task.end('a/i@n1', 'failed')
  task.settle()
  t.match(gateOf(task, 'g'), { state: 'failed', reason: '1 action failed (a/i@n1), and 0 may' })
  t.equal(stateOf(task, 'b/i@n2'), 'skipped')
})

t.test('a gate with an approval waits for a person, and what comes after begins then', async (t) => {
  const task = startTask(makeWaves({ approve: true }))
  task.settle()
  t.throws(() => approve(task, 'a/wave-1'), { code: 'TASK_ILLEGAL_EVENT' }, 'not before it waits')
  task.end('a/i@n1', 'succeeded')
  task.now = 2_000
  task.end('a/i@n2', 'succeeded')
  t.strictSame(sentBy(task), [])
  t.match(gateOf(task, 'a/wave-1'), { state: 'waiting', since: 2_000 })
  t.equal(task.view.state, 'running', 'the task waits, too')
  task.now = 9_000
  approve(task, 'a/wave-1')
  t.match(gateOf(task, 'a/wave-1'), { state: 'open', since: 9_000, approvedBy: 'ann', reason: 'approved by ann: looks well' })
  t.throws(() => approve(task, 'a/wave-1'), { code: 'TASK_ILLEGAL_EVENT' }, 'once is enough')
  t.strictSame(sentBy(task), ['a/i@n3', 'a/i@n4'])
})

t.test('a gate before everything waits for its approval from the first moment', async (t) => {
  const task = startTask(makeGraph([makeAction('a/i@n1', ['a/approval'])], {}, { gates: [makeGate('a/approval', [], { approve: true })] }))
  t.strictSame(sentBy(task), [])
  approve(task, 'a/approval')
  t.strictSame(sentBy(task), ['a/i@n1'])
})

t.test('gates after gates open and fail one after the other, and the reason names the first that failed', async (t) => {
  const gates = [makeGate('g1', ['a/i@n1'], { meaning: 'wave 1' }), makeGate('g2', ['g1'], { approve: true, meaning: 'approval of wave 2' }), makeGate('g3', ['b/i@n2', 'g2'], { maxFailures: 5 })]
  const actions = [makeAction('a/i@n1'), makeAction('b/i@n2', ['g2']), makeAction('c/i@n3', ['g3'])]
  const good = startTask(makeGraph(actions, { maxFailures: 9 }, { gates }))
  good.settle()
  good.end('a/i@n1', 'succeeded')
  t.strictSame(['g1', 'g2', 'g3'].map((id) => gateOf(good, id).state), ['open', 'waiting', 'closed'])
  approve(good, 'g2')
  t.strictSame(sentBy(good), ['b/i@n2'])
  const bad = startTask(makeGraph(actions, { maxFailures: 9 }, { gates }))
  bad.settle()
  bad.end('a/i@n1', 'failed')
  t.strictSame(['g1', 'g2', 'g3'].map((id) => gateOf(bad, id).state), ['failed', 'failed', 'failed'], 'nobody is asked about what cannot be')
  t.equal(gateOf(bad, 'g3').reason, 'it comes after wave 1: 1 action failed (a/i@n1), and 0 may')
  bad.settle()
  t.match(bad.view, { state: 'ended', outcome: 'failed', counts: { failed: 1, skipped: 2 } })
})

t.test('an approval that nothing waits for does not hold the end up, and nobody is asked afterwards', async (t) => {
  const task = startTask(makeGraph([makeAction('a/i@n1')], {}, { gates: [makeGate('g', ['a/i@n1'], { approve: true })] }))
  task.settle()
  task.end('a/i@n1', 'succeeded')
  task.settle()
  t.equal(task.view.outcome, 'succeeded')
  t.equal(gateOf(task, 'g').state, 'closed')
})

t.test('a cancel withdraws the question and opens nothing', async (t) => {
  const task = startTask(makeWaves({ approve: true }))
  task.settle()
  task.end('a/i@n1', 'succeeded')
  task.end('a/i@n2', 'succeeded')
  task.record({ type: 'cancelRequested', by: 'ann', reason: '' })
  t.equal(gateOf(task, 'a/wave-1').state, 'closed')
  t.throws(() => approve(task, 'a/wave-1'), { code: 'TASK_ILLEGAL_EVENT' })
  task.settle()
  t.match(task.view, { state: 'ended', outcome: 'cancelled' })
  task.record({ type: 'retryRequested', by: 'ann' })
  t.equal(gateOf(task, 'a/wave-1').state, 'waiting', 'asked again in the next run')
})

t.test('after a retry an approval holds where nothing that was approved starts over, and is asked for anew where something does', async (t) => {
  const gates = [makeGate('g1', ['a/i@n1'], { approve: true }), makeGate('g2', ['a/i@n1', 'a/i@n2'], { approve: true, maxFailures: 1 })]
  const actions = [makeAction('a/i@n1'), makeAction('a/i@n2'), makeAction('b/i@n3', ['g1']), makeAction('c/i@n4', ['g2'])]
  const task = startTask(makeGraph(actions, { maxFailures: 9 }, { gates }))
  task.settle()
  task.end('a/i@n1', 'succeeded')
  task.end('a/i@n2', 'failed')
  approve(task, 'g1')
  approve(task, 'g2')
  task.settle()
  task.end('b/i@n3', 'failed')
  task.end('c/i@n4', 'failed')
  task.settle()
  task.now = 50_000
  task.record({ type: 'retryRequested', by: 'ann' })
  t.match(gateOf(task, 'g1'), { state: 'open', since: 1_000, approvedBy: 'ann' })
  t.match(gateOf(task, 'g2'), { state: 'closed', since: 50_000, approvedBy: null })
  t.strictSame(sentBy(task), ['a/i@n2', 'b/i@n3'])
  task.end('a/i@n2', 'succeeded')
  t.equal(gateOf(task, 'g2').state, 'waiting')
})

t.test('a graph whose gates have a circle, name nothing or share a name is refused', async (t) => {
  const actions = [makeAction('a/i@n1', ['g1'])]
  for (const gates of [[makeGate('g1', ['g2']), makeGate('g2', ['g1'])], [makeGate('g1', ['a/i@n1'])], [makeGate('g1', ['nothing'])], [makeGate('g1'), makeGate('g1')], [makeGate('g1'), makeGate('a/i@n1')]]) {
    t.throws(() => startTask(makeGraph(actions, {}, { gates })), { code: 'TASK_ILLEGAL_EVENT' })
  }
})

t.test('a gate between two thousand actions costs their number, not their product', async (t) => {
  // Not a timed test: 20,000 × 20,000 arrows would not fit into memory.
  const size = 20_000
  const first = Array.from({ length: size }, (_, index) => makeAction(`a${index}/i@n${index % 100}`))
  const second = Array.from({ length: size }, (_, index) => makeAction(`b${index}/i@n${index % 100}`, ['g']))
  const task = startTask(makeGraph([...first, ...second], { maxParallelNodes: 100 }, { gates: [makeGate('g', first.map(({ id }) => id))] }))
  for (let live = task.settle(); live.length > 0; live = task.settle()) for (const effect of live) task.end(effect.action.id, 'succeeded')
  t.match(task.view, { outcome: 'succeeded', counts: { succeeded: 2 * size } })
})

t.test('a retry that a stricter policy of today would not plan closes the gate again that failed by it', async (t) => {
  const task = startTask(makeWaves())
  task.settle()
  task.end('a/i@n1', 'failed')
  t.equal(gateOf(task, 'a/wave-1').state, 'failed')
  applyEvent(task.view, { seq: task.view.seq + 1, at: 1_000, event: { type: 'actionRetryPlanned', action: actionId('a/i@n1'), attempt: 1, notBefore: 2_000, reason: '' } })
  t.equal(gateOf(task, 'a/wave-1').state, 'closed')
  task.end('a/i@n2', 'succeeded')
  task.now = 2_000
  t.strictSame(sentBy(task), ['a/i@n1'])
  task.end('a/i@n1', 'succeeded')
  t.strictSame(sentBy(task), ['a/i@n3', 'a/i@n4'])
})
