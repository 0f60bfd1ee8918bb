import { actionId, buildTaskView, decide, nextWakeup, nodeId } from '@lichen/core'
import t from 'tap'
import { allReady, makeAction, makeGraph, makeLimits, startTask, stateOf, worldWhere, type DrivenTask } from './task-fixture.js'

const sentOf = (effects: ReturnType<DrivenTask['settle']>): string[] => effects.filter((effect) => effect.type === 'send').map((effect) => effect.action.id)

t.test('an action is sent when everything it comes after has succeeded, and the task succeeds when all have', async (t) => {
  const task = startTask(makeGraph([makeAction('a/i@n1'), makeAction('b/i@n2', ['a/i@n1'])]))
  t.strictSame(sentOf(task.settle()), ['a/i@n1'])
  t.strictSame(sentOf(task.settle()), [])
  task.end('a/i@n1', 'succeeded')
  t.strictSame(sentOf(task.settle()), ['b/i@n2'])
  task.end('b/i@n2', 'succeeded')
  task.settle()
  t.match(task.view, { state: 'ended', outcome: 'succeeded', reason: 'all 2 actions succeeded' })
})

t.test('a task without actions ends at once', async (t) => {
  const task = startTask(makeGraph([]))
  task.settle()
  t.match(task.view, { state: 'ended', outcome: 'succeeded', reason: 'nothing to do' })
})

t.test('no more actions than the limit are live on a node, and on no more nodes than the rollout allows', async (t) => {
  const actions = ['n1', 'n2', 'n3'].flatMap((node) => [1, 2, 3].map((index) => makeAction(`c${index}/i@${node}`)))
  const task = startTask(makeGraph(actions, { maxParallelNodes: 2 }))
  t.strictSame(sentOf(task.settle(allReady, makeLimits({ actionsPerNode: 2 }))), ['c1/i@n1', 'c2/i@n1', 'c1/i@n2', 'c2/i@n2'])
  task.end('c1/i@n1', 'succeeded')
  t.strictSame(sentOf(task.settle(allReady, makeLimits({ actionsPerNode: 2 }))), ['c3/i@n1'])
  task.end('c2/i@n1', 'succeeded')
  task.end('c3/i@n1', 'succeeded')
  t.strictSame(sentOf(task.settle(allReady, makeLimits({ actionsPerNode: 2 }))), ['c1/i@n3', 'c2/i@n3'])
})

t.test('of what may begin on a node, that goes first on which the longest chain waits, on whichever node', async (t) => {
  const one = makeLimits({ actionsPerNode: 1 })
  const actions = [makeAction('a/i@n1'), makeAction('b/i@n1'), makeAction('b/s@n1', ['b/i@n1']), makeAction('c/i@n1'), makeAction('c/s@n2', ['c/i@n1']), makeAction('c/s@n1', ['c/s@n2'])]
  const task = startTask(makeGraph(actions))
  const sent = (): string[] => sentOf(task.settle(allReady, one)).sort()
  t.strictSame(sent(), ['c/i@n1'])
  task.end('c/i@n1', 'succeeded')
  t.strictSame(sent(), ['b/i@n1', 'c/s@n2'])
  task.end('c/s@n2', 'succeeded')
  task.end('b/i@n1', 'succeeded')
  t.strictSame(sent(), ['a/i@n1'], 'nothing waits for any of them: the graph says the rest')
  task.end('a/i@n1', 'succeeded')
  t.strictSame(sent(), ['b/s@n1'])
  task.end('b/s@n1', 'succeeded')
  t.strictSame(sent(), ['c/s@n1'])
})

t.test('a failed attempt is tried again after a growing pause, and the reason says so', async (t) => {
  const task = startTask(makeGraph([makeAction('a/i@n1', [], { retry: { attempts: 3, backoffMs: 2_000 } })]))
  task.settle()
  task.end('a/i@n1', 'failed')
  t.strictSame(sentOf(task.settle()), [])
  t.match(task.view.actions.get(actionId('a/i@n1')), { state: 'waitingRetry', notBefore: 3_000, reason: 'attempt 1 failed at command "say": exit code 1; the next one (2 of 3) begins in 2 s' })
  t.equal(nextWakeup(task.view, allReady, task.now, makeLimits()), 3_000)
  task.now = 3_000
  t.strictSame(sentOf(task.settle()), ['a/i@n1'])
  task.end('a/i@n1', 'timedOut')
  task.settle()
  t.equal(task.view.actions.get(actionId('a/i@n1'))?.notBefore, 7_000)
  task.now = 7_000
  task.settle()
  task.end('a/i@n1', 'failed')
  task.settle()
  t.match(task.view, { state: 'ended', outcome: 'failed', failure: { code: 'COMMAND_FAILED' }, reason: 'component a: action install on node n1 failed at command "say": exit code 1' })
})

t.test('cancelled outcomes, and failures that another attempt cannot mend, are not tried again', async (t) => {
  for (const [outcome, code] of [['cancelled', 'X'], ['failed', 'ORDER_MALFORMED']] as const) {
    const task = startTask(makeGraph([makeAction('a/i@n1', [], { retry: { attempts: 3, backoffMs: 0 } })]))
    task.settle()
    task.end('a/i@n1', outcome, { failure: { code, message: 'no' } })
    task.settle()
    t.match(task.view, { state: 'ended', outcome: 'failed' }, outcome)
  }
})

t.test('what comes after a failed action is skipped with a reason that names it, directly or not', async (t) => {
  const task = startTask(makeGraph([makeAction('a/i@n1'), makeAction('b/i@n1', ['a/i@n1']), makeAction('c/i@n1', ['b/i@n1']), makeAction('d/i@n2')], { maxFailures: 5 }))
  task.settle()
  task.end('a/i@n1', 'failed')
  task.settle()
  t.equal(stateOf(task, 'b/i@n1'), 'skipped')
  t.equal(task.view.actions.get(actionId('c/i@n1'))?.reason, 'not started: it comes after a/i@n1, which failed')
  t.equal(task.view.state, 'running', 'd is still running')
  task.end('d/i@n2', 'succeeded')
  task.settle()
  t.match(task.view, { outcome: 'failed', counts: { failed: 1, skipped: 2, succeeded: 1 } })
})

t.test('more failures than allowed start nothing new, and what runs is awaited', async (t) => {
  const task = startTask(makeGraph([makeAction('a/i@n1'), makeAction('b/i@n2'), makeAction('c/i@n3', ['b/i@n2'])]))
  task.settle()
  task.end('a/i@n1', 'failed')
  task.settle()
  t.equal(stateOf(task, 'c/i@n3'), 'skipped')
  t.match(task.view.actions.get(actionId('c/i@n3'))?.reason, /1 action failed, and rollout.maxFailures allows 0/)
  t.equal(task.view.state, 'running')
  task.end('b/i@n2', 'succeeded')
  task.settle()
  t.match(task.view, { state: 'ended', outcome: 'failed' })
})

t.test('a cancel asks live attempts to stop, skips the rest, and the task ends cancelled', async (t) => {
  const task = startTask(makeGraph([makeAction('a/i@n1'), makeAction('b/i@n2', ['a/i@n1']), makeAction('r/i@n3', [], { retry: { attempts: 2, backoffMs: 60_000 } })]))
  task.settle()
  task.end('r/i@n3', 'failed')
  task.settle()
  task.record({ type: 'cancelRequested', by: 'ann', reason: 'wrong plan' })
  const effects = task.settle()
  t.match(effects, [{ type: 'cancel', action: { id: 'a/i@n1' }, attempt: 1, reason: 'cancel requested by ann: wrong plan' }])
  t.equal(task.view.actions.get(actionId('b/i@n2'))?.reason, 'cancelled')
  t.match(task.view.actions.get(actionId('r/i@n3')), { state: 'skipped', result: { outcome: 'failed' } }, 'its last result stays')
  task.end('a/i@n1', 'cancelled')
  task.settle()
  t.match(task.view, { state: 'ended', outcome: 'cancelled' })
})

t.test('a node that does not answer a cancel leaves the outcome unknown', async (t) => {
  const task = startTask(makeGraph([makeAction('a/i@n1')]))
  task.settle()
  task.record({ type: 'cancelRequested', by: 'ann', reason: '' })
  task.settle()
  const until = nextWakeup(task.view, allReady, task.now, makeLimits())
  t.equal(until, task.now + makeLimits().cancelWaitMs)
  task.now = until ?? 0
  task.settle()
  t.match(task.view.actions.get(actionId('a/i@n1')), { state: 'unknown', result: { failure: { code: 'ACTION_NO_ANSWER' } } })
  t.equal(task.view.outcome, 'cancelled')
})

t.test('a task that is cancelled before it is planned ends without touching a node', async (t) => {
  const [accepted] = startTask(makeGraph([])).events
  const early = buildTaskView([accepted!, { seq: 2, at: 1_001, event: { type: 'cancelRequested', by: 'ann', reason: '' } }], null)
  t.match(decide(early, allReady, 1_002, makeLimits()), [{ type: 'record', event: { type: 'taskEnded', outcome: 'cancelled' } }])
})

t.test('an attempt without an answer ends unknown at its deadline', async (t) => {
  const limits = makeLimits({ beginWithinMs: 100, answerGraceMs: 10 })
  const task = startTask(makeGraph([makeAction('a/i@n1', [], { timeoutMs: 1_000, retry: { attempts: 5, backoffMs: 0 } })]))
  task.settle(allReady, limits)
  t.equal(nextWakeup(task.view, allReady, task.now, limits), 1_000 + 1_110)
  task.now = 2_109
  task.settle(allReady, limits)
  t.equal(stateOf(task, 'a/i@n1'), 'sent')
  task.now = 2_110
  task.settle(allReady, limits)
  t.match(task.view.actions.get(actionId('a/i@n1')), { state: 'unknown', deadline: null, timeoutMs: null, result: { failure: { code: 'ACTION_NO_ANSWER' } } })
  t.equal(task.view.state, 'running', 'somebody is asked')
})

t.test('nothing is sent to a node that is out of reach or cordoned, and the wait for a lost one has an end', async (t) => {
  const task = startTask(makeGraph([makeAction('a/i@n1'), makeAction('b/i@n2')]))
  const world = worldWhere({ n1: { state: 'lost', since: 5_000 }, n2: { state: 'cordoned', since: 0 } })
  task.now = 6_000
  t.strictSame(task.settle(world), [])
  t.equal(nextWakeup(task.view, world, task.now, makeLimits()), 605_000)
  task.now = 605_000
  task.settle(world)
  t.match(task.view.actions.get(actionId('a/i@n1')), { state: 'failed', attempt: 1, result: { failure: { code: 'ACTION_NODE_LOST' } } })
  t.equal(task.view.state, 'ended', 'the cordoned one is skipped, because of the failure')
})

t.test('a cordoned node takes what makes it leave, and nothing else', async (t) => {
  const task = startTask(makeGraph([makeAction('a/i@n1'), makeAction('b/i@n1'), makeAction('c/i@n1'), makeAction('old/leave@n1', [], { isDeparture: true }), makeAction('old/remove@n1', ['old/leave@n1'], { isDeparture: true, retry: { attempts: 2, backoffMs: 1_000 } })]))
  const world = worldWhere({ n1: { state: 'cordoned', since: 0 } })
  const limits = makeLimits({ actionsPerNode: 2 })
  const sent = () => task.settle(world, limits).map((effect) => effect.action.id)
  t.strictSame(sent(), ['old/leave@n1'])
  task.end('old/leave@n1', 'succeeded')
  t.strictSame(sent(), ['old/remove@n1'])
  task.end('old/remove@n1', 'failed')
  sent()
  task.now += 1_000
  t.strictSame(sent(), ['old/remove@n1'], 'its retry too')
  t.strictSame(task.settle(allReady, limits).map((effect) => effect.action.id), ['a/i@n1'], 'the others when it is uncordoned')
})

t.test('a retry of the task starts over what did not succeed, and leaves the rest', async (t) => {
  const task = startTask(makeGraph([makeAction('a/i@n1'), makeAction('b/i@n1', ['a/i@n1']), makeAction('c/i@n1', ['b/i@n1'])]))
  task.settle()
  task.end('a/i@n1', 'succeeded')
  task.settle()
  task.end('b/i@n1', 'failed')
  task.settle()
  t.equal(task.view.outcome, 'failed')
  task.record({ type: 'retryRequested', by: 'ann' })
  t.match(task.view, { state: 'running', outcome: null, counts: { succeeded: 1, pending: 2 } })
  const effects = task.settle()
  t.match(effects, [{ type: 'send', action: { id: 'b/i@n1' }, attempt: 2 }])
  task.end('b/i@n1', 'succeeded')
  task.settle()
  task.end('c/i@n1', 'succeeded')
  task.settle()
  t.equal(task.view.outcome, 'succeeded')
})

t.test('a hundred thousand actions cost time by the event, not by their number squared', async (t) => {
  // Not a timed test: with work that grows with the number of actions for each event this would run for hours and be killed.
  const nodes = 200
  const actions = Array.from({ length: 100_000 }, (_, index) => makeAction(`c${index}/i@n${index % nodes}`, index < nodes ? [] : [`c${index - nodes}/i@n${index % nodes}`]))
  const task = startTask(makeGraph(actions, { maxParallelNodes: nodes }))
  let live = task.settle()
  let ended = 0
  while (live.length > 0) {
    for (const effect of live) task.end(effect.action.id, 'succeeded')
    ended += live.length
    live = task.settle()
  }
  t.equal(ended, 100_000)
  t.equal(task.view.outcome, 'succeeded')
})

t.test('a hundred thousand waiting actions are skipped in bounded steps', async (t) => {
  const actions = Array.from({ length: 100_000 }, (_, index) => makeAction(`c${index}/i@n1`, index === 0 ? [] : ['c0/i@n1']))
  const task = startTask(makeGraph(actions, { maxFailures: 1 }))
  task.settle()
  task.end('c0/i@n1', 'failed')
  t.equal(decide(task.view, allReady, task.now, makeLimits()).length, 1_000)
  task.settle()
  t.match(task.view, { outcome: 'failed', counts: { skipped: 99_999, failed: 1 } })
})

t.test('a lost node with a long queue gives all of it up', async (t) => {
  const task = startTask(makeGraph(Array.from({ length: 20_000 }, (_, index) => makeAction(`c${index}/i@n1`)), { maxFailures: 100_000 }))
  task.now = 10_000_000
  task.settle(worldWhere({ [nodeId('n1')]: { state: 'gone', since: 0 } }))
  t.match(task.view, { outcome: 'failed', counts: { failed: 20_000 } })
})
