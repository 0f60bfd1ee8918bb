import { actionId } from '@lichen/core'
import t from 'tap'
import { allReady, makeAction, makeGraph, makeLimits, startTask, stateOf, type DrivenTask } from './task-fixture.js'

const sentBy = (task: DrivenTask, limits = makeLimits()): string[] => task.settle(allReady, limits).flatMap((effect) => (effect.type === 'send' ? [effect.action.id as string] : []))
const inGroup = (group: string, id: string, after: string[] = []) => makeAction(id, after, { group })

t.test('more failures in a group than it allows skip what is pending of it, and the others go on', async (t) => {
  const actions = [inGroup('east', 'a/i@e1'), inGroup('east', 'a/i@e2'), inGroup('east', 'b/i@e2', ['a/i@e2']), inGroup('west', 'a/i@w1'), inGroup('west', 'b/i@w1', ['a/i@w1'])]
  const task = startTask(makeGraph(actions, { maxFailures: null, groups: { east: { maxFailures: 0, maxParallelNodes: null } } }))
  task.settle()
  task.end('a/i@e1', 'failed')
  task.settle()
  t.match(task.view.actions.get(actionId('b/i@e2')), { state: 'skipped', reason: 'not started: 1 action failed in group east, and its rollout.maxFailures allows 0' })
  t.equal(stateOf(task, 'a/i@e2'), 'sent', 'what runs is awaited')
  task.end('a/i@w1', 'succeeded')
  t.strictSame(sentBy(task), ['b/i@w1'])
  task.end('b/i@w1', 'succeeded')
  task.end('a/i@e2', 'succeeded')
  task.settle()
  t.match(task.view, { state: 'ended', outcome: 'failed', counts: { failed: 1, skipped: 1, succeeded: 3 } })
})

t.test('what comes after something that was skipped with its group is skipped too, in whatever group', async (t) => {
  const actions = [inGroup('east', 'a/i@e1'), inGroup('east', 'a/i@e2'), inGroup('east', 'b/i@e2', ['a/i@e2']), inGroup('west', 'c/i@w1', ['b/i@e2'])]
  const task = startTask(makeGraph(actions, { maxFailures: null, groups: { east: { maxFailures: 0, maxParallelNodes: null } } }))
  task.settle()
  task.end('a/i@e1', 'failed')
  task.settle()
  t.match(task.view.actions.get(actionId('c/i@w1')), { state: 'skipped', reason: 'not started: it comes after b/i@e2, which was skipped' })
})

t.test('no limit of the whole means none, and a limit of the whole stops every group', async (t) => {
  const actions = [1, 2, 3, 4].map((number) => inGroup(number < 3 ? 'east' : 'west', `a/i@n${number}`))
  for (const [maxFailures, states] of [[null, ['failed', 'failed', 'sent', 'sent']], [1, ['failed', 'failed', 'skipped', 'skipped']]] as const) {
    const task = startTask(makeGraph(actions, { maxFailures, maxParallelNodes: 2 }))
    task.settle()
    task.end('a/i@n1', 'failed')
    task.end('a/i@n2', 'failed')
    task.settle()
    t.strictSame([1, 2, 3, 4].map((number) => stateOf(task, `a/i@n${number}`)), states)
  }
})

t.test('a group runs on no more nodes at once than it allows, and does not hold up others on the same node', async (t) => {
  const nodes = ['n1', 'n2', 'n3']
  const actions = nodes.flatMap((node) => [inGroup('db', `db/i@${node}`), inGroup('db', `db/j@${node}`), inGroup('web', `web/i@${node}`)])
  const task = startTask(makeGraph(actions, { groups: { db: { maxFailures: null, maxParallelNodes: 1 } } }))
  const limits = makeLimits({ actionsPerNode: 2 })
  t.strictSame(sentBy(task, limits), ['db/i@n1', 'db/j@n1', 'web/i@n2', 'web/i@n3'])
  task.end('db/i@n1', 'succeeded')
  t.strictSame(sentBy(task, limits), ['web/i@n1'], 'the group is still busy on n1')
  task.end('db/j@n1', 'succeeded')
  t.strictSame(sentBy(task, limits), ['db/i@n2'], 'one place is free on n2, and n3 must wait')
  task.end('db/i@n2', 'succeeded')
  t.strictSame(sentBy(task, limits), ['db/j@n2'])
})

t.test('a retry keeps within the limit of its group', async (t) => {
  const actions = [1, 2].map((number) => makeAction(`a/i@n${number}`, [], { group: 'db', retry: { attempts: 2, backoffMs: 1_000 } }))
  const task = startTask(makeGraph(actions, { groups: { db: { maxFailures: null, maxParallelNodes: 1 } } }))
  t.strictSame(sentBy(task), ['a/i@n1'])
  task.end('a/i@n1', 'failed')
  t.strictSame(sentBy(task), ['a/i@n2'])
  task.now = 60_000
  t.strictSame(sentBy(task), [])
  task.end('a/i@n2', 'succeeded')
  t.strictSame(sentBy(task), ['a/i@n1'])
})
