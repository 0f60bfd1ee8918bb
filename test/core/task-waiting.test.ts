import { actionId, type ActionId, buildTaskView, type NodeId, nodeId, type NodeRecord, waitingFor } from '@lichen/core'
import t from 'tap'
import { allReady, makeAction, makeGraph, makeLimits, startTask, type DrivenTask } from './task-fixture.js'

const makeNode = (id: string, change: Partial<NodeRecord> = {}): [NodeId, NodeRecord] => [
  nodeId(id),
  { id: nodeId(id), labels: {}, state: 'ready', cordoned: false, agentVersion: 'x', joinedAt: 0, lastSeenAt: 900, facts: {} as NodeRecord['facts'], ...change },
]
const nodes = new Map([makeNode('n1'), makeNode('n2')])
const waits = (task: DrivenTask, action: string | null, registered: ReadonlyMap<NodeId, NodeRecord> = nodes, limits = makeLimits()) => waitingFor(task.view, action === null ? null : actionId(action), registered, task.now, limits)

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
  const ofTask = (count: number) => waitingFor(buildTaskView(events.slice(0, count), null), null, nodes, 1_000)
  t.match(ofTask(1), { reason: 'no engine has taken the task yet', owner: 'engine', until: 31_000 })
  t.match(ofTask(2), { reason: 'the engine plans the task', owner: 'engine' })
})

t.test('in a random state nothing that waits is without a reason', async (t) => {
  const actions = Array.from({ length: 30 }, (_, index) => makeAction(`c${index}/i@n${1 + (index % 2)}`, index < 4 ? [] : [`c${index - 4}/i@n${1 + (index % 2)}`], { retry: { attempts: 2, backoffMs: 100 } }))
  const task = startTask(makeGraph(actions, { maxFailures: 30 }))
  for (let step = 0; task.view.state !== 'ended' && step < 500; step++) {
    task.settle(allReady, makeLimits({ actionsPerNode: 2 }))
    for (const [id, action] of task.view.actions) {
      const isOpen = action.state === 'pending' || action.state === 'sent' || action.state === 'waitingRetry'
      const waiting = waitingFor(task.view, id as ActionId, nodes, task.now)
      if (isOpen !== (waiting !== null) || waiting?.reason === '') t.fail(`${id} is ${action.state}: ${JSON.stringify(waiting)}`)
    }
    const live = [...task.view.actions.values()].filter((action) => action.state === 'sent')
    const next = live[step % Math.max(1, live.length)]
    if (next) task.end(next.id, step % 5 === 0 ? 'failed' : 'succeeded')
    task.now += 60
  }
  t.equal(task.view.state, 'ended')
})
