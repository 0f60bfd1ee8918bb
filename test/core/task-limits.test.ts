import { actionId, type ActionView, expiryOf, nextWakeup } from '@lichen/core'
import t from 'tap'
import { allReady, makeAction, makeGate, makeGraph, makeLimits, makeResult, startTask, stateOf, worldWhere, type DrivenTask } from './task-fixture.js'

const viewOf = (task: DrivenTask, id: string): ActionView => task.view.actions.get(actionId(id)) as ActionView
const wakeup = (task: DrivenTask, world = allReady) => nextWakeup(task.view, world, task.now, makeLimits())

t.test('an action that could begin and does not within the limit of the plan fails, whatever holds it back', async (t) => {
  const limits = { queuedMs: 60_000, taskMs: null }
  const world = worldWhere({ n2: { state: 'cordoned', since: 0 }, n3: { state: 'lost', since: 900 } })
  const task = startTask(makeGraph([makeAction('a/i@n1', [], { timeoutMs: 900_000 }), makeAction('b/i@n2'), makeAction('c/i@n3'), makeAction('d/i@n4')], { maxParallelNodes: 1, maxFailures: 9 }, { limits }))
  task.settle(world)
  t.equal(wakeup(task, world), 61_000)
  task.now = 60_999
  task.settle(world)
  t.equal(stateOf(task, 'b/i@n2'), 'pending')
  task.now = 61_000
  task.settle(world)
  for (const [id, why] of [['b/i@n2', 'node n2 is cordoned'], ['c/i@n3', 'node n3 has been out of reach since 1970-01-01T00:00:00.900Z'], ['d/i@n4', 'its turn did not come, because of the limits of the rollout']] as const) {
    t.match(viewOf(task, id), { state: 'failed', attempt: 1, result: { failure: { code: 'ACTION_QUEUED_TOO_LONG', message: `the action could begin since 1970-01-01T00:00:01.000Z and did not within 60 s, the limit of the plan (limits.queuedS): ${why}` } } })
  }
  t.equal(stateOf(task, 'a/i@n1'), 'sent')
})

t.test('what waits for others or at a gate is not queued', async (t) => {
  const limits = { queuedMs: 60_000, taskMs: null }
  const task = startTask(makeGraph([makeAction('a/i@n1', [], { timeoutMs: 900_000 }), makeAction('b/i@n1', ['a/i@n1']), makeAction('c/i@n1', ['g'])], {}, { limits, gates: [makeGate('g', ['b/i@n1'], { approve: true })] }))
  task.settle()
  task.now = 500_000
  task.settle()
  task.end('a/i@n1', 'succeeded')
  task.settle()
  task.end('b/i@n1', 'succeeded')
  task.now = 5_000_000
  task.settle()
  task.record({ type: 'gateApproved', gate: actionId('g'), by: 'ann', reason: '' })
  t.match(task.settle(), [{ type: 'send', action: { id: 'c/i@n1' } }])
})

t.test('a retry that is due and does not begin within the limit fails', async (t) => {
  const world = worldWhere({ n1: { state: 'cordoned', since: 0 } })
  const task = startTask(makeGraph([makeAction('a/i@n1', [], { retry: { attempts: 2, backoffMs: 10_000 } })], {}, { limits: { queuedMs: 60_000, taskMs: null } }))
  task.settle()
  task.end('a/i@n1', 'failed')
  task.settle(world)
  task.now = 11_000
  task.settle(world)
  t.equal(wakeup(task, world), 71_000)
  task.now = 71_000
  task.settle(world)
  t.match(viewOf(task, 'a/i@n1'), { state: 'failed', attempt: 2, result: { failure: { code: 'ACTION_QUEUED_TOO_LONG' } } })
})

t.test('a node that comes back within a longer limit of the plan is waited for, beyond that of the engine', async (t) => {
  const world = worldWhere({ n1: { state: 'lost', since: 0 } })
  const task = startTask(makeGraph([makeAction('a/i@n1')], {}, { limits: { queuedMs: 3_600_000, taskMs: null } }))
  task.now = 3_000_000
  task.settle(world)
  t.match(task.settle(), [{ type: 'send' }])
})

t.test('the limit of an attempt travels with the order, and an order that is sent again expires when it did', async (t) => {
  const limits = makeLimits({ beginWithinMs: 100, answerGraceMs: 10 })
  const task = startTask(makeGraph([makeAction('a/i@n1', [], { timeoutMs: 5_000 })]))
  const [order] = task.settle(allReady, limits)
  t.match(order, { type: 'send', timeoutMs: 5_000, expiresAt: 1_100, deadline: 6_110 })
  const { deadline, timeoutMs } = viewOf(task, 'a/i@n1')
  t.equal(expiryOf(deadline ?? 0, timeoutMs ?? 0, limits), 1_100)
})

t.test('each attempt of an action with a limit has what is left of it, and the last may not be planned beyond it', async (t) => {
  const limits = makeLimits({ beginWithinMs: 3_000, answerGraceMs: 0 })
  const task = startTask(makeGraph([makeAction('a/i@n1', [], { timeoutMs: 10_000, limitMs: 15_000, retry: { attempts: 9, backoffMs: 2_000 } })]))
  t.match(task.settle(allReady, limits), [{ timeoutMs: 10_000, expiresAt: 4_000, deadline: 14_000 }])
  t.equal(viewOf(task, 'a/i@n1').begunAt, 1_000)
  task.now = 9_000
  task.end('a/i@n1', 'timedOut')
  task.settle(allReady, limits)
  task.now = 11_000
  t.match(task.settle(allReady, limits), [{ attempt: 2, timeoutMs: 5_000, expiresAt: 14_000, deadline: 19_000 }])
  t.match(viewOf(task, 'a/i@n1'), { begunAt: 1_000, timeoutMs: 5_000 })
  task.now = 12_000
  task.end('a/i@n1', 'failed')
  task.settle(allReady, limits)
  t.match(viewOf(task, 'a/i@n1'), { state: 'failed', attempt: 2, result: { failure: { code: 'COMMAND_FAILED' } }, reason: 'exit code 1; no time is left for another attempt within the limit of the action, 15 s' }, '4 s of pause would end at the limit')
})

t.test('an order never begins after the limit of its action', async (t) => {
  const task = startTask(makeGraph([makeAction('a/i@n1', [], { timeoutMs: 1_000, limitMs: 5_000 })]))
  t.match(task.settle(allReady, makeLimits({ answerGraceMs: 0 })), [{ timeoutMs: 1_000, expiresAt: 6_000, deadline: 7_000 }])
})

t.test('a retry that cannot be sent before the limit of its action ends with that limit', async (t) => {
  const task = startTask(makeGraph([makeAction('a/i@n1', [], { limitMs: 30_000, retry: { attempts: 2, backoffMs: 1_000 } })]))
  task.settle()
  task.end('a/i@n1', 'failed')
  const world = worldWhere({ n1: { state: 'cordoned', since: 0 } })
  task.settle(world)
  task.now = 3_000
  task.settle(world)
  t.equal(wakeup(task, world), 31_000)
  task.record({ type: 'pauseRequested', by: 'ann', reason: '' })
  t.equal(wakeup(task, world), 31_000, 'a pause does not stop it')
  task.now = 31_000
  task.settle(world)
  t.match(viewOf(task, 'a/i@n1'), { state: 'failed', attempt: 2, result: { failure: { code: 'ACTION_LIMIT', message: /^the action did not succeed within 30 s of its first attempt, its limit; attempt 1 failed at command "say"/ } } })
})

t.test('the limit of a task asks what runs to stop, skips the rest, and the task ends timedOut', async (t) => {
  const task = startTask(makeGraph([makeAction('a/i@n1', [], { timeoutMs: 900_000 }), makeAction('b/i@n1', ['a/i@n1']), makeAction('c/i@n2')], {}, { limits: { queuedMs: null, taskMs: 60_000 } }))
  task.settle()
  task.end('c/i@n2', 'unknown')
  t.equal(wakeup(task), 61_000)
  task.now = 61_000
  t.match(task.settle(), [{ type: 'cancel', action: { id: 'a/i@n1' }, reason: 'the task did not end within 60 s, its limit (limits.taskS)' }])
  t.match(task.view, { state: 'cancelling', isOverLimit: true })
  t.equal(viewOf(task, 'b/i@n1').reason, 'the time limit of the task was over')
  task.record({ type: 'cancelRequested', by: 'ann', reason: 'too' })
  t.equal(wakeup(task), 121_000, 'the node has as long to answer as for a cancel')
  task.end('a/i@n1', 'cancelled')
  task.settle()
  t.match(task.view, { state: 'ended', outcome: 'timedOut', failure: { code: 'TASK_LIMIT' }, reason: 'the task did not end within 60 s, its limit (limits.taskS); 1 unknown, 1 cancelled, 1 skipped' })
})

t.test('the limit of a task counts through a pause, and from a retry anew', async (t) => {
  const task = startTask(makeGraph([makeAction('a/i@n1')], {}, { limits: { queuedMs: null, taskMs: 60_000 } }))
  task.record({ type: 'pauseRequested', by: 'ann', reason: 'lunch' })
  t.equal(wakeup(task), 61_000)
  task.now = 61_000
  task.settle()
  t.match(task.view, { outcome: 'timedOut', reason: /it was paused by ann: lunch, since 1970-01-01T00:00:01.000Z; 1 skipped$/ })
  task.now = 100_000
  task.record({ type: 'retryRequested', by: 'ann' })
  t.match(task.view, { state: 'running', runSince: 100_000, isOverLimit: false })
  task.settle()
  t.equal(wakeup(task), 160_000)
  task.end('a/i@n1', 'succeeded')
  task.now = 200_000
  task.settle()
  t.equal(task.view.outcome, 'succeeded', 'what is complete when the limit is noticed is complete')
})

t.test('a person who cancelled before the limit has cancelled', async (t) => {
  const task = startTask(makeGraph([makeAction('a/i@n1')], {}, { limits: { queuedMs: null, taskMs: 60_000 } }))
  task.settle()
  task.record({ type: 'cancelRequested', by: 'ann', reason: '' })
  task.now = 61_000
  task.settle()
  t.equal(task.view.outcome, 'cancelled')
})

t.test('a later retry wakes the engine although an earlier one waits for its node', async (t) => {
  const retry = { retry: { attempts: 2, backoffMs: 1_000 } }
  const task = startTask(makeGraph([makeAction('a/i@n1', [], retry), makeAction('b/i@n2', [], { retry: { attempts: 2, backoffMs: 9_000 } })], { maxFailures: 9 }))
  const world = worldWhere({ n1: { state: 'cordoned', since: 0 } })
  task.settle()
  task.end('a/i@n1', 'failed')
  task.end('b/i@n2', 'failed')
  task.settle(world)
  task.now = 5_000
  t.equal(wakeup(task, world), 10_000)
})

t.test('of an action with maxParallel only so many are begun and not ended, in the pauses before retries and while an outcome is unknown too', async (t) => {
  const makeUpgrade = (node: string) => makeAction(`w/upgrade@${node}`, [], { component: 'w', name: 'upgrade', maxParallel: 1, retry: { attempts: 2, backoffMs: 10_000 } })
  const task = startTask(makeGraph([makeUpgrade('n1'), makeUpgrade('n2'), makeUpgrade('n3'), makeAction('w/other@n2')], { maxFailures: 5 }))
  const sent = () => task.settle().flatMap((effect) => (effect.type === 'send' ? [effect.action.id] : []))
  t.strictSame(sent(), ['w/upgrade@n1', 'w/other@n2'], 'it holds back nothing else')
  task.end('w/upgrade@n1', 'failed')
  t.strictSame(sent(), [], 'n1 is in the middle of it')
  task.now = 11_000
  t.strictSame(sent(), ['w/upgrade@n1'])
  task.end('w/upgrade@n1', 'failed')
  t.strictSame(sent(), ['w/upgrade@n2'], 'its last attempt gives the place away')
  task.end('w/upgrade@n2', 'unknown')
  t.strictSame(sent(), [])
  task.record({ type: 'actionSettled', action: actionId('w/upgrade@n2'), attempt: 1, as: 'succeeded', by: 'ann', reason: '' })
  t.strictSame(sent(), ['w/upgrade@n3'])
})

t.test('an action that never was sent has no place: its node was out of reach', async (t) => {
  const makeUpgrade = (node: string) => makeAction(`w/upgrade@${node}`, [], { component: 'w', name: 'upgrade', maxParallel: 1, retry: { attempts: 2, backoffMs: 10_000 } })
  const task = startTask(makeGraph([makeUpgrade('n1'), makeUpgrade('n2')], { maxFailures: 5 }))
  task.record({ type: 'actionEnded', action: actionId('w/upgrade@n1'), attempt: 1, result: makeResult('failed') })
  t.match(task.settle(), [{ type: 'send', action: { id: 'w/upgrade@n2' } }])
  task.now = 20_000
  t.strictSame(task.settle(), [], 'its retry is due, and waits for the place')
  task.end('w/upgrade@n2', 'succeeded')
  t.match(task.settle(), [{ type: 'send', action: { id: 'w/upgrade@n1' } }])
})

t.test('a retry with new parameters takes the new maxParallel', async (t) => {
  const makeUpgrades = (extra: object, key: string) => ['n1', 'n2', 'n3'].map((node) => makeAction(`w/upgrade@${node}`, [], { component: 'w', name: 'upgrade', key: `${key} ${node}`, ...extra }))
  const task = startTask(makeGraph(makeUpgrades({}, 'a'), { maxFailures: 5 }))
  t.equal(task.settle().length, 3)
  for (const node of ['n1', 'n2', 'n3']) task.end(`w/upgrade@${node}`, 'failed')
  task.settle()
  for (const [most, expected] of [[2, 2], [undefined, 3], [1, 1]] as const) {
    task.graph = { ...makeGraph(makeUpgrades(most === undefined ? {} : { maxParallel: most }, String(most)), { maxFailures: 5 }), digest: `of ${most}` }
    task.record({ type: 'retryRequested', by: 'ann', graphDigest: task.graph.digest })
    const sent = task.settle().flatMap((effect) => (effect.type === 'send' ? [effect.action] : []))
    t.equal(sent.length, expected)
    task.record({ type: 'cancelRequested', by: 'ann', reason: '' })
    for (const { id } of sent) task.end(id, 'cancelled')
    task.settle()
  }
})
