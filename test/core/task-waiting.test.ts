import { actionId, type ActionId, buildTaskView, type NodeId, nodeId, type NodeRecord, summarizeTask, taskId, waitingFor } from '@lichen/core'
import t from 'tap'
import { allReady, makeAction, makeGate, makeGraph, makeLimits, startTask, type DrivenTask } from './task-fixture.js'

const makeNode = (id: string, change: Partial<NodeRecord> = {}): [NodeId, NodeRecord] => [
  nodeId(id),
  { id: nodeId(id), labels: {}, state: 'ready', cordoned: false, agentVersion: 'x', joinedAt: 0, lastSeenAt: 900, facts: {} as NodeRecord['facts'], ...change },
]
const nodes = new Map([makeNode('n1'), makeNode('n2')])
const waits = (task: DrivenTask, action: string | null, registered: ReadonlyMap<NodeId, NodeRecord> = nodes, limits = makeLimits()) => waitingFor(task.view, action === null ? null : actionId(action), { nodes: registered, now: task.now, limits })

t.test('everything that waits says why, since when, until when, and who can help', async (t) => {
  const task = startTask(makeGraph([makeAction('a/i@n1', [], { retry: { attempts: 2, backoffMs: 5_000 } }), makeAction('b/i@n2', ['a/i@n1']), makeAction('c/i@n2', ['b/i@n2'])]))
  t.match(waits(task, 'a/i@n1'), { reason: 'about to be sent to node n1', since: 1_000, owner: 'engine' })
  task.settle()
  const deadline = task.view.actions.get(actionId('a/i@n1'))?.deadline
  t.match(waits(task, 'a/i@n1'), { reason: 'attempt 1 is with node n1', since: 1_000, until: deadline, owner: 'node n1' })
  t.match(waits(task, 'b/i@n2'), { reason: 'comes after a/i@n1; attempt 1 is with node n1', until: deadline, owner: 'node n1' })
  t.match(waits(task, 'c/i@n2'), { reason: 'comes after b/i@n2; a/i@n1: attempt 1 is with node n1', until: deadline, owner: 'node n1' }, 'through the whole chain')
  t.match(waits(task, null), { reason: 'attempt 1 is with node n1', owner: 'node n1' }, 'the task as a whole')
  task.now = 2_000
  task.end('a/i@n1', 'failed')
  t.match(waits(task, 'a/i@n1'), { owner: 'engine' }, 'between the failure and the plan to try again')
  task.settle()
  t.match(waits(task, 'a/i@n1'), { reason: /^attempt 1 failed at command "say": exit code 1; the next one \(2 of 2\) begins in 5 s$/, since: 2_000, until: 7_000, owner: 'engine' })
  task.now = 7_000
  task.settle()
  task.end('a/i@n1', 'failed')
  t.match(waits(task, 'b/i@n2'), { reason: 'cannot run: it comes after a/i@n1, which did not succeed' })
  task.settle()
  t.equal(waits(task, 'a/i@n1'), null)
  t.equal(waits(task, null), null, 'it has ended')
})

t.test('a node that is lost, cordoned, gone or busy is named', async (t) => {
  const task = startTask(makeGraph([makeAction('a/i@n1'), makeAction('b/i@n1'), makeAction('c/i@n2')], { maxParallelNodes: 1 }))
  const limits = makeLimits({ actionsPerNode: 1 })
  t.match(waits(task, 'a/i@n1', new Map([makeNode('n1', { state: 'lost', lastSeenAt: 5_000 })])), { reason: 'node n1 is out of reach since 1970-01-01T00:00:05.000Z', since: 5_000, until: 605_000, owner: 'node n1' })
  t.match(waits(task, 'a/i@n1', new Map([makeNode('n1', { cordoned: true })])), { reason: /^node n1 is cordoned/, until: null, owner: 'operator' })
  const leaving = startTask(makeGraph([makeAction('a/leave@n1', [], { isDeparture: true })]))
  t.match(waits(leaving, 'a/leave@n1', new Map([makeNode('n1', { cordoned: true })])), { reason: 'about to be sent to node n1' }, 'what makes it leave is not waited for')
  t.match(waits(task, 'a/i@n1', new Map()), { reason: 'node n1 is not registered any more', until: 601_000, owner: 'operator' })
  task.settle(allReady, limits)
  t.match(waits(task, 'b/i@n1', nodes, limits), { reason: 'node n1 has 1 action of this task, and takes no more at once', owner: 'node n1' })
  t.match(waits(task, 'c/i@n2', nodes, limits), { reason: '1 node is busy, and rollout.maxParallelNodes allows no more', owner: 'engine' })
  t.match(waits(task, 'a/i@n1', new Map([makeNode('n1', { state: 'lost' })])), { reason: /^attempt 1 is with node n1, which is out of reach since/ })
  task.record({ type: 'cancelRequested', by: 'ann', reason: '' })
  t.match(waits(task, 'a/i@n1'), { reason: 'node n1 was asked to cancel attempt 1', until: task.now + limits.cancelWaitMs, owner: 'node n1' })
})

t.test('a task waits for an engine, then for its plan', async (t) => {
  const events = startTask(makeGraph([])).events
  const ofTask = (count: number) => waitingFor(buildTaskView(events.slice(0, count), null), null, { nodes, now: 1_000 })
  t.match(ofTask(1), { reason: 'no engine has taken the task yet', owner: 'engine', until: 16_000 })
  t.match(ofTask(2), { reason: 'the engine plans the task', owner: 'engine' })
})

t.test('who waits at a gate is led to what the gate waits for, and an approval names its gate and who can give it', async (t) => {
  const gates = [makeGate('a/wave-1', ['a/i@n1', 'a/i@n2'], { approve: true, meaning: 'wave 1 of 2 of a (n1, n2)' })]
  const task = startTask(makeGraph([makeAction('a/i@n1'), makeAction('a/i@n2'), makeAction('b/i@n1', ['a/wave-1']), makeAction('c/i@n1', ['b/i@n1'])], {}, { gates, limits: { queuedMs: null, taskMs: 900_000 } }))
  task.settle()
  t.match(waits(task, 'b/i@n1'), { reason: 'comes after wave 1 of 2 of a (n1, n2); a/i@n1: attempt 1 is with node n1', owner: 'node n1' })
  t.match(waits(task, 'a/wave-1'), { reason: 'comes after a/i@n1, a/i@n2; attempt 1 is with node n1', since: 1_000 }, 'of a gate, too')
  task.now = 5_000
  task.end('a/i@n1', 'succeeded')
  task.end('a/i@n2', 'succeeded')
  task.settle()
  const approval = { reason: 'waits for approval of wave 1 of 2 of a (n1, n2): answer with `lichen approve` (gate a/wave-1)', since: 5_000, until: 901_000, owner: 'operator' }
  t.strictSame(waits(task, 'a/wave-1'), approval)
  t.strictSame(waits(task, null), approval)
  t.match(waits(task, 'c/i@n1'), { reason: `comes after b/i@n1; wave 1 of 2 of a (n1, n2): ${approval.reason}`, until: 901_000, owner: 'operator' })
  t.equal(summarizeTask(task.view).reason, 'waits for approval of wave 1 of 2 of a (n1, n2); 2 pending, 2 succeeded')
  task.record({ type: 'gateApproved', gate: actionId('a/wave-1'), by: 'ann', reason: '' })
  t.equal(waits(task, 'a/wave-1'), null)
  task.record({ type: 'cancelRequested', by: 'ann', reason: '' })
  t.equal(waits(task, 'a/wave-1'), null)
})

t.test('what cannot run because of a gate says which, and why it failed', async (t) => {
  const task = startTask(makeGraph([makeAction('a/i@n1'), makeAction('b/i@n1', ['g'])], { maxFailures: 5 }, { gates: [makeGate('g', ['a/i@n1'], { meaning: 'everything of a' })] }))
  task.settle()
  task.end('a/i@n1', 'failed')
  t.match(waits(task, 'b/i@n1'), { reason: 'cannot run: it comes after everything of a: 1 action failed (a/i@n1), and 0 may', owner: 'engine' })
})

t.test('an unknown outcome waits for a person, with the answers', async (t) => {
  const task = startTask(makeGraph([makeAction('a/i@n1'), makeAction('b/i@n2', ['a/i@n1']), makeAction('c/i@n2')]))
  task.settle()
  task.now = 4_000
  task.end('a/i@n1', 'unknown', { failure: { code: 'COMMAND_INTERRUPTED', message: 'the node restarted' } })
  task.settle()
  const reason = 'whether attempt 1 on node n1 had its effect is unknown (the node restarted); look there, and answer with `lichen settle`: a/i@n1 succeeded, failed, or is to run again'
  t.strictSame(waits(task, 'a/i@n1'), { reason, since: 4_000, until: null, owner: 'operator' })
  t.match(waits(task, 'b/i@n2'), { reason: `comes after a/i@n1; ${reason}`, owner: 'operator' })
  t.match(waits(task, null), { reason: 'attempt 1 is with node n2; 1 action unknown, waiting for an answer', owner: 'node n2' }, 'something still runs')
  t.equal(summarizeTask(task.view).reason, '1 action unknown, waiting for an answer; 1 unknown, 1 running, 1 pending')
  task.end('c/i@n2', 'unknown')
  t.match(waits(task, null), { reason: `2 actions unknown, waiting for an answer; first: ${reason}`, owner: 'operator' })
})

t.test('in a paused task everything that could go on waits for the person who resumes it', async (t) => {
  const task = startTask(makeGraph([makeAction('a/i@n1', [], { retry: { attempts: 2, backoffMs: 5_000 } }), makeAction('b/i@n2'), makeAction('c/i@n2', ['b/i@n2'])]))
  task.settle(allReady, makeLimits({ actionsPerNode: 1 }))
  task.end('a/i@n1', 'failed')
  task.now = 3_000
  task.record({ type: 'pauseRequested', by: 'ann', reason: 'lunch' })
  task.settle()
  const resume = { reason: 'paused by ann: lunch; 1 still running; go on with `lichen resume`', since: 3_000, until: null, owner: 'operator' }
  t.strictSame(waits(task, null), resume)
  t.strictSame(waits(task, 'a/i@n1'), resume)
  t.match(waits(task, 'b/i@n2'), { reason: 'attempt 1 is with node n2', owner: 'node n2' })
  task.end('b/i@n2', 'succeeded')
  t.match(waits(task, 'c/i@n2'), { reason: 'paused by ann: lunch; go on with `lichen resume`' })
  const done = startTask(makeGraph([makeAction('a/i@n1')]))
  done.settle()
  done.record({ type: 'pauseRequested', by: 'ann', reason: '' })
  done.end('a/i@n1', 'succeeded')
  t.match(waits(done, null), { reason: 'paused by ann; every action is settled, and the task ends when it is resumed; go on with `lichen resume`' })
})

t.test('a limit of the plan for waiting is the end of each wait for a turn, and the limits of a group are named', async (t) => {
  const actions = [makeAction('a/i@n1', [], { group: 'db' }), makeAction('b/i@n2', [], { group: 'db' })]
  const task = startTask(makeGraph(actions, { groups: { db: { maxFailures: null, maxParallelNodes: 1 } } }, { limits: { queuedMs: 60_000, taskMs: null } }))
  for (const change of [{ cordoned: true }, { state: 'lost' as const }]) t.match(waits(task, 'a/i@n1', new Map([makeNode('n1', change)])), { until: 61_000 })
  task.settle()
  t.match(waits(task, 'b/i@n2'), { reason: '1 node is busy in group db, and its rollout.maxParallelNodes allows no more', until: 61_000, owner: 'engine' })
})

t.test('in a random state nothing that waits is without a reason', async (t) => {
  const actions = Array.from({ length: 30 }, (_, index) => makeAction(`c${index}/i@n${1 + (index % 2)}`, index < 4 ? [] : [`c${index - 4}/i@n${1 + (index % 2)}`], { retry: { attempts: 2, backoffMs: 100 } }))
  const task = startTask(makeGraph(actions, { maxFailures: 30 }))
  for (let step = 0; task.view.state !== 'ended' && step < 500; step++) {
    task.settle(allReady, makeLimits({ actionsPerNode: 2 }))
    for (const [id, action] of task.view.actions) {
      const isOpen = action.state === 'pending' || action.state === 'sent' || action.state === 'waitingRetry'
      const waiting = waitingFor(task.view, id as ActionId, { nodes, now: task.now })
      if (isOpen !== (waiting !== null) || waiting?.reason === '') t.fail(`${id} is ${action.state}: ${JSON.stringify(waiting)}`)
    }
    const live = [...task.view.actions.values()].filter((action) => action.state === 'sent')
    const next = live[step % Math.max(1, live.length)]
    if (next) task.end(next.id, step % 5 === 0 ? 'failed' : 'succeeded')
    task.now += 60
  }
  t.equal(task.view.state, 'ended')
})

t.test('a task whose turn it is not says behind which other one it waits, and so does each action that could begin', async (t) => {
  const task = startTask(makeGraph([makeAction('a/i@n1'), makeAction('b/i@n1', ['a/i@n1'])]))
  const wait = (id: string | null) => waitingFor(task.view, id === null ? null : actionId(id), { nodes, now: task.now, behind: taskId('t-7') })
  t.match(wait(null), { reason: 'task t-7 of the same deployment comes first, and has not ended', owner: 'task t-7', until: null })
  t.match(wait('a/i@n1'), { owner: 'task t-7' })
  t.match(wait('b/i@n1'), { reason: /^comes after a\/i@n1; task t-7/, owner: 'task t-7' })
  task.record({ type: 'pauseRequested', by: 'admin', reason: 'lunch' })
  t.match(wait(null), { owner: 'operator' }, 'a paused one waits for a person first')
  task.record({ type: 'cancelRequested', by: 'admin', reason: 'no' })
  t.match(wait(null), { owner: 'engine' }, 'one that is being cancelled waits for nobody')
})

t.test('who waits for its turn of an action with maxParallel is told which node has it', async (t) => {
  const makeUpgrade = (node: string) => makeAction(`workers/upgrade@${node}`, [], { component: 'workers', name: 'upgrade', maxParallel: 1 })
  const task = startTask(makeGraph([makeUpgrade('n1'), makeUpgrade('n2')]))
  task.settle()
  t.match(waits(task, 'workers/upgrade@n2'), { reason: 'waits for its turn: upgrade of workers runs on 1 node at a time (now: n1)', owner: 'node n1' })
  task.end('workers/upgrade@n1', 'unknown')
  task.settle()
  t.match(waits(task, 'workers/upgrade@n2'), { reason: 'waits for its turn: upgrade of workers runs on 1 node at a time (now: n1 with an unknown outcome)', owner: 'operator' })
})
