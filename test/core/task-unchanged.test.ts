import { actionId, type Action, type ActionView, type CommandResult, decide, taskId, type Unchanged } from '@lichen/core'
import t from 'tap'
import { allReady, makeAction, makeGate, makeGraph, makeLimits, startTask, stateOf, worldWhere, type DrivenTask } from './task-fixture.js'

const since = taskId('t-before')
const verify = (node: string): string => `verify/look@${node}`
const viewOf = (task: DrivenTask, id: string): ActionView => task.view.actions.get(actionId(id)) as ActionView
const sentBy = (task: DrivenTask): string[] => task.settle().flatMap((effect) => (effect.type === 'send' ? [effect.action.id as string] : []))

/** An action that is as it was, looked after by the verifying action of its node. */
const unchanged = (id: string, after: string[] = [], extra: Partial<Unchanged> = {}, more: Partial<Action> = {}): Action => {
  const check = extra.check === undefined ? actionId(verify(id.split('@')[1] ?? '')) : extra.check
  return makeAction(id, check === null ? after : [...after, check], { unchanged: { since, outputs: {}, check, ...extra }, ...more })
}
const trusted = (id: string, after: string[] = [], more: Partial<Action> = {}): Action => unchanged(id, after, { check: null }, more)
const verifying = (node: string, verified: Readonly<Record<string, number>>): Action =>
  makeAction(verify(node), [], { mode: 'check', verifies: Object.entries(verified).map(([id, commands]) => ({ action: actionId(id), commands })) })

const found = (changed = false): CommandResult => ({ name: 'look', kind: 'note', outcome: 'succeeded', changed, durationMs: 1 })
const failed: CommandResult = { ...found(), outcome: 'failed' }

t.test('where the check holds and nothing was touched, actions are left out with the outputs of then', async (t) => {
  const task = startTask(makeGraph([verifying('n1', { 'a/i@n1': 2, 'b/i@n1': 1 }), unchanged('a/i@n1', [], { outputs: { port: '80' } }), unchanged('b/i@n1', ['a/i@n1'])]))
  t.strictSame(sentBy(task), [verify('n1')])
  task.now = 3_000
  task.end(verify('n1'), 'succeeded', { commands: [found(), found(), found()] })
  t.strictSame(sentBy(task), [])
  t.match(viewOf(task, 'a/i@n1'), {
    state: 'succeeded', isUnchanged: true, attempt: 0, endedAt: 3_000, reason: 'unchanged since task t-before; its effect is still there',
    result: { outcome: 'succeeded', changed: false, commands: [], outputs: { port: '80' }, startedAt: 3_000, endedAt: 3_000 },
  })
  t.match(task.view, { state: 'ended', outcome: 'succeeded', unchanged: 2, counts: { succeeded: 3 }, reason: 'all 3 actions succeeded; nothing had to change on 1 node (2 unchanged, not run)' })
})

t.test('what the check finds changed runs, and so does what comes after it once it changed something', async (t) => {
  const graph = makeGraph([verifying('n1', { 'a/i@n1': 1, 'b/i@n1': 1, 'c/i@n1': 1 }), unchanged('a/i@n1'), unchanged('b/i@n1', ['a/i@n1']), unchanged('c/i@n1')])
  for (const changed of [true, false]) {
    const task = startTask(graph)
    task.settle()
    task.end(verify('n1'), 'succeeded', { commands: [found(true), found(), found()] })
    t.strictSame(sentBy(task), ['a/i@n1'], 'c needs nothing, b waits')
    t.ok(viewOf(task, 'c/i@n1').isUnchanged)
    task.end('a/i@n1', 'succeeded', { changed })
    t.strictSame(sentBy(task), changed ? ['b/i@n1'] : [])
    if (changed) task.end('b/i@n1', 'succeeded')
    task.settle()
    t.match(task.view, { outcome: 'succeeded', unchanged: changed ? 1 : 2, reason: changed ? 'all 4 actions succeeded; 1 of them was unchanged and did not run' : /nothing had to change on 1 node/ })
  }
})

t.test('that something was touched goes on through gates and through what is not unchanged', async (t) => {
  const gates = [makeGate('g1', ['a/i@n1', 'z/i@n1']), makeGate('g2', ['m/i@n2'])]
  const task = startTask(makeGraph([makeAction('a/i@n1'), trusted('z/i@n1'), makeAction('m/i@n2', ['g1']), trusted('b/i@n3', ['g2']), trusted('c/i@n3', ['z/i@n1'])], {}, { gates }))
  task.settle()
  task.end('a/i@n1', 'succeeded', { changed: true })
  task.settle()
  task.end('m/i@n2', 'succeeded', { changed: false })
  t.strictSame(sentBy(task), ['b/i@n3'], 'behind two gates')
  t.match(viewOf(task, 'c/i@n3'), { isUnchanged: true, reason: 'unchanged since task t-before; nothing that it depends on has changed' })
})

t.test('an attempt that did not succeed may have touched something, and is remembered over a retry of the task', async (t) => {
  const task = startTask(makeGraph([makeAction('a/i@n1'), trusted('b/i@n1', ['a/i@n1'])]))
  task.settle()
  task.end('a/i@n1', 'failed', { changed: false })
  task.settle()
  task.record({ type: 'retryRequested', by: 'ann' })
  task.settle()
  task.end('a/i@n1', 'succeeded', { changed: false })
  t.strictSame(sentBy(task), ['b/i@n1'])
})

t.test('an action that was never sent touched nothing', async (t) => {
  const task = startTask(makeGraph([makeAction('a/i@n1'), trusted('b/i@n1', ['a/i@n1'])], { maxFailures: 0 }))
  task.now = 10_000_000
  task.settle(worldWhere({ n1: { state: 'gone', since: 0 } }))
  t.equal(task.view.outcome, 'failed')
  task.record({ type: 'retryRequested', by: 'ann' })
  task.settle()
  task.end('a/i@n1', 'succeeded')
  task.settle()
  t.ok(viewOf(task, 'b/i@n1').isUnchanged)
})

t.test('a check that failed, stopped early or said nothing lets the rest run, is no failure, and is not tried again', async (t) => {
  const graph = makeGraph([{ ...verifying('n1', { 'a/i@n1': 2, 'b/i@n1': 1 }), retry: { attempts: 3, backoffMs: 0 } }, unchanged('a/i@n1'), unchanged('b/i@n1')])
  for (const [outcome, commands, ran] of [
    ['failed', [found(), found(), failed], ['b/i@n1']],
    ['failed', [found(), failed], ['a/i@n1', 'b/i@n1']],
    ['timedOut', [found(), found()], ['b/i@n1']],
    ['unknown', [], ['a/i@n1', 'b/i@n1']],
    ['cancelled', [], ['a/i@n1', 'b/i@n1']],
  ] as const) {
    const task = startTask(graph)
    task.settle()
    task.end(verify('n1'), outcome, { commands })
    t.strictSame(sentBy(task), ran, `${outcome} after ${commands.length}`)
    for (const id of ran) task.end(id, 'succeeded')
    task.settle()
    t.match(task.view, { outcome: 'succeeded', index: { failures: 0 }, reason: /1 look at what was there did not get to the end, so all that it could not vouch for was run$/ })
  }
})

t.test('a check whose node is out of reach is given up, and then the actions wait for the node as usual', async (t) => {
  const task = startTask(makeGraph([verifying('n1', { 'a/i@n1': 1 }), unchanged('a/i@n1')]))
  const world = worldWhere({ n1: { state: 'lost', since: 0 } })
  task.now = 700_000
  task.settle(world)
  t.equal(stateOf(task, verify('n1')), 'failed')
  t.equal(task.view.state, 'running')
  t.strictSame(sentBy(task), ['a/i@n1'])
})

t.test('a check that is skipped with its group does not hold back what it looks after elsewhere', async (t) => {
  const actions = [makeAction('x/i@n1', [], { group: 'east' }), makeAction(verify('n2'), ['y/i@n2'], { group: 'east', mode: 'check', verifies: [{ action: actionId('a/i@n2'), commands: 1 }] }), makeAction('y/i@n2'), unchanged('a/i@n2')]
  const task = startTask(makeGraph(actions, { maxFailures: null, groups: { east: { maxFailures: 0, maxParallelNodes: null } } }))
  task.settle()
  task.end('x/i@n1', 'failed')
  t.strictSame(sentBy(task), ['a/i@n2'])
  t.equal(stateOf(task, verify('n2')), 'skipped')
})

t.test('a check that cannot run because of what it comes after does not doom what it looks after', async (t) => {
  const actions = [makeAction('x/i@n1'), { ...verifying('n1', { 'a/i@n1': 1 }), after: [actionId('x/i@n1')] }, unchanged('a/i@n1')]
  const task = startTask(makeGraph(actions, { maxFailures: 5 }))
  task.settle()
  task.end('x/i@n1', 'failed')
  t.strictSame(sentBy(task), ['a/i@n1'])
  t.equal(stateOf(task, verify('n1')), 'skipped')
})

t.test('an action that names an output of another is unchanged only if that one is', async (t) => {
  const commands: Action['commands'] = [{ name: 'join', kind: 'note', timeoutMs: 1, spec: { text: 'join ⟦output:a/i@n1#token⟧' } }]
  const graph = makeGraph([verifying('n1', { 'a/i@n1': 1 }), unchanged('a/i@n1', [], { outputs: { token: 'x' } }), trusted('b/i@n2', ['a/i@n1'], { commands })])
  for (const changed of [false, true]) {
    const task = startTask(graph)
    task.settle()
    task.end(verify('n1'), 'succeeded', { commands: [found(changed)] })
    task.settle()
    if (changed) task.end('a/i@n1', 'succeeded', { changed: false, outputs: { token: 'y' } })
    t.strictSame(sentBy(task), changed ? ['b/i@n2'] : [], changed ? 'it ran, so its token may be another' : 'the token is that of then')
  }
})

t.test('a retry of the task looks again before it leaves out what the first run did not settle', async (t) => {
  const task = startTask(makeGraph([verifying('n1', { 'a/i@n1': 1, 'b/i@n1': 1 }), unchanged('a/i@n1'), unchanged('b/i@n1', ['x/i@n2']), makeAction('x/i@n2')]))
  task.settle()
  task.end(verify('n1'), 'succeeded', { commands: [found(), found()] })
  task.settle()
  t.ok(viewOf(task, 'a/i@n1').isUnchanged)
  task.record({ type: 'cancelRequested', by: 'ann', reason: '' })
  task.end('x/i@n2', 'succeeded')
  task.settle()
  t.equal(stateOf(task, 'b/i@n1'), 'skipped')
  task.record({ type: 'retryRequested', by: 'ann' })
  t.strictSame(sentBy(task), [verify('n1')])
  task.end(verify('n1'), 'succeeded', { commands: [found(), found()] })
  task.settle()
  t.match(task.view, { outcome: 'succeeded', unchanged: 2 })
})

t.test('nothing is left out while the task is paused', async (t) => {
  const task = startTask(makeGraph([trusted('a/i@n1')]))
  task.record({ type: 'pauseRequested', by: 'ann', reason: '' })
  task.settle()
  t.equal(stateOf(task, 'a/i@n1'), 'pending')
  task.record({ type: 'resumeRequested', by: 'ann' })
  task.settle()
  t.match(task.view, { outcome: 'succeeded', reason: 'the one action succeeded; nothing had to change on 1 node (1 unchanged, not run)' })
})

t.test('five thousand unchanged actions on five hundred nodes are settled in a round for each step', async (t) => {
  const nodes = Array.from({ length: 500 }, (_, index) => `n${index}`)
  const actions = nodes.flatMap((node) => {
    const ids = Array.from({ length: 10 }, (_, index) => `c${index}/i@${node}`)
    return [verifying(node, Object.fromEntries(ids.map((id) => [id, 1]))), ...ids.map((id, index) => unchanged(id, index === 0 ? [] : [`c${index - 1}/i@${node}`]))]
  })
  const task = startTask(makeGraph(actions, { maxParallelNodes: 500 }))
  for (const effect of task.settle()) task.end(effect.action.id, 'succeeded', { commands: Array.from({ length: 10 }, () => found()) })
  let rounds = 0
  for (let decisions = decide(task.view, allReady, 1_000, makeLimits()); decisions.length > 0; decisions = decide(task.view, allReady, 1_000, makeLimits())) {
    rounds += 1
    for (const decision of decisions) if (decision.type === 'record') task.record(decision.event)
  }
  t.ok(rounds <= 12, `${rounds} rounds`)
  t.match(task.view, { outcome: 'succeeded', unchanged: 5_000, reason: 'all 5500 actions succeeded; nothing had to change on 500 nodes (5000 unchanged, not run)' })
})

t.test('nobody is asked to approve nothing: a gate opens by itself when all of its component that comes after it stays as it was', async (t) => {
  const gates = [makeGate('b/approval', ['a/i@n1', verify('n1')], { approve: true })]
  const start = (): DrivenTask => startTask(makeGraph([verifying('n1', { 'b/i@n1': 1, 'b/j@n1': 1 }), makeAction('a/i@n1'), unchanged('b/i@n1', ['b/approval']), unchanged('b/j@n1', ['b/i@n1']), makeAction('c/i@n1', ['b/j@n1'])], {}, { gates }))
  const gateOf = (task: DrivenTask) => task.view.gates.get(actionId('b/approval'))

  const quiet = start()
  quiet.settle()
  quiet.end('a/i@n1', 'succeeded', { changed: false })
  quiet.settle()
  t.match(gateOf(quiet), { state: 'closed' }, 'the look has not ended')
  quiet.end(verify('n1'), 'succeeded', { commands: [found(), found()] })
  t.match(gateOf(quiet), { state: 'open', approvedBy: null, reason: 'nothing that comes after it changes' })
  t.strictSame(sentBy(quiet), ['c/i@n1'], 'another component needs no approval of this one')

  const touched = start()
  touched.settle()
  touched.end(verify('n1'), 'succeeded', { commands: [found(), found()] })
  touched.end('a/i@n1', 'succeeded', { changed: true })
  t.strictSame(sentBy(touched), [])
  t.match(gateOf(touched), { state: 'waiting' }, 'what changed before it concerns the component')

  const gone = start()
  gone.settle()
  gone.end(verify('n1'), 'succeeded', { commands: [found(), found(true)] })
  gone.end('a/i@n1', 'succeeded')
  t.strictSame(sentBy(gone), [])
  t.match(gateOf(gone), { state: 'waiting' }, 'the effect of the second action is gone')

  const failed = start()
  failed.settle()
  failed.end(verify('n1'), 'failed')
  failed.end('a/i@n1', 'succeeded')
  t.strictSame(sentBy(failed), [])
  t.match(gateOf(failed), { state: 'waiting' }, 'nobody could look')
})

t.test('a gate asks when something that is guarded also comes after what may still change', async (t) => {
  const gates = [makeGate('b/approval', [], { approve: true })]
  const graph = makeGraph([makeAction('a/i@n1'), trusted('b/i@n1', ['b/approval', 'a/i@n1'])], {}, { gates })
  const task = startTask(graph)
  t.match(task.view.gates.get(actionId('b/approval')), { state: 'waiting' })
  const named = startTask(makeGraph([makeAction('a/i@n1'), trusted('b/i@n1', ['b/approval', 'a/i@n1'], { commands: [{ name: 'x', kind: 'note', timeoutMs: 1, spec: { text: '⟦output:a/i@n1#port⟧' } }] })], {}, { gates: [makeGate('b/approval', ['a/i@n1'], { approve: true, isOrderOnly: true })] }))
  named.settle()
  named.end('a/i@n1', 'succeeded', { changed: false })
  named.settle()
  t.match(named.view.gates.get(actionId('b/approval')), { state: 'waiting' }, 'what it names ran')
  t.match(startTask(makeGraph([trusted('b/i@n1', ['b/approval'])], {}, { gates })).view.gates.get(actionId('b/approval')), { state: 'open' }, 'before everything, and nothing to do')
})
