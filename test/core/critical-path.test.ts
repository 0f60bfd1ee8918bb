// Where the time of a task went.
import { actionId, findCriticalPath } from '@lichen/core'
import t from 'tap'
import { type DrivenTask, makeAction, makeGate, makeGraph, startTask } from './task-fixture.js'

/** `step: waited + took`, of each link. */
const pathOf = ({ view }: DrivenTask): string[] => findCriticalPath(view).map(({ id, beganAt, endedAt, waitedMs }) => `${id}: ${waitedMs} + ${endedAt - beganAt}`)

function pass(task: DrivenTask, ms: number, ...ended: string[]): void {
  task.now += ms
  for (const action of ended) task.end(action, 'succeeded')
  task.settle()
}

t.test('the chain of what ended last, through gates, with what each waited for', async (t) => {
  const graph = makeGraph(
    [makeAction('a/i@n1'), makeAction('a/i@n2'), makeAction('a/i@n3', ['a/wave-1']), makeAction('b/i@n1', ['a/complete', 'b/approval']), makeAction('c/i@n9')],
    {},
    { gates: [makeGate('a/wave-1', ['a/i@n1', 'a/i@n2'], { isOrderOnly: true }), makeGate('a/complete', ['a/i@n1', 'a/i@n2', 'a/i@n3']), makeGate('b/approval', ['a/complete'], { approve: true })] },
  )
  const task = startTask(graph)
  t.same(pathOf(task), [], 'nothing has ended')
  task.settle()
  pass(task, 100, 'a/i@n1')
  pass(task, 400, 'a/i@n2')
  pass(task, 300, 'a/i@n3', 'c/i@n9')
  t.same(pathOf(task), ['a/i@n2: 0 + 500', 'a/i@n3: 0 + 300'], 'of two that ended together the first in the graph')
  task.now += 5_000
  task.record({ type: 'gateApproved', gate: actionId('b/approval'), by: 'ann', reason: '' })
  task.settle()
  pass(task, 200, 'b/i@n1')
  t.same(pathOf(task), ['a/i@n2: 0 + 500', 'a/i@n3: 0 + 300', 'b/approval: 5000 + 0', 'b/i@n1: 0 + 200'])
  t.equal(findCriticalPath(task.view).reduce((sum, { beganAt, endedAt, waitedMs }) => sum + waitedMs + endedAt - beganAt, 0), task.now - 1_000, 'it is all the time there was')
})

t.test('what waits for its turn says so; attempts and the pauses between them are one piece', async (t) => {
  const task = startTask(makeGraph([makeAction('a/i@n1'), makeAction('a/i@n2', [], { retry: { attempts: 2, backoffMs: 1_000 } })], { maxParallelNodes: 1 }))
  task.settle()
  pass(task, 700, 'a/i@n1')
  task.now += 50
  task.end('a/i@n2', 'failed')
  task.settle()
  pass(task, 1_000)
  pass(task, 60, 'a/i@n2')
  t.same(pathOf(task), ['a/i@n2: 700 + 1110'])
})

t.test('of a task that was tried again it tells of the last run', async (t) => {
  const task = startTask(makeGraph([makeAction('a/i@n1'), makeAction('b/i@n1', ['a/i@n1'])]))
  task.settle()
  pass(task, 100, 'a/i@n1')
  task.now += 100
  task.end('b/i@n1', 'failed')
  task.settle()
  task.now += 10_000
  task.record({ type: 'retryRequested', by: 'ann' })
  task.settle()
  pass(task, 300, 'b/i@n1')
  t.same(pathOf(task), ['b/i@n1: 0 + 300'])
})
