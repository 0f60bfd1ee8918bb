// Nodes are looked at before an apply changes anything, and all that is wrong with them is told at once.
import { buildGraph, rebaseGraph, taskId, type ActionGraph, type Applied, type GraphInput } from '@lichen/core'
import t from 'tap'
import { makeBlueprint, makeCatalog, makeNode, makePlan, type PlanDraft } from './plan-fixture.js'
import { makeAction, makeGate, makeGraph, startTask, stateOf, worldWhere, type DrivenTask } from './task-fixture.js'

const note = (text: string): string => `{commands: [{name: n, note: {text: '${text}'}}]}`
const store = makeBlueprint('store', `
provides: {it: {interface: store, outputs: {host: {type: string, value: node.address}}}}
actions: {preflight: ${note('look')}, packages: ${note('p')}, serve: ${note('s')}, remove: ${note('r')}}`)
const app = makeBlueprint('app2', `
parameters: {type: object, additionalProperties: false, properties: {text: {type: string, default: look}}}
requires: {store: {interface: store}}
actions:
  preflight: ${note('{{ params.text }}')}
  packages: {needs: [], commands: [{name: n, note: {text: p}}]}
  configure: ${note('{{ uses.store.host }}')}
  check: ${note('c')}
  remove: ${note('r')}`)
const bare = makeBlueprint('bare', `actions: {packages: ${note('p')}, remove: ${note('r')}}`)
const catalog = makeCatalog([store, app, bare])
const nodes = [makeNode('n1', { role: 'store' }), makeNode('n2', { role: 'app' }), makeNode('n3', { role: 'app' })]

const makeDraft = (change: (plan: PlanDraft) => void) => makePlan((draft) => {
  draft['nodes'] = [{ name: 'store', select: { role: 'store' } }, { name: 'app', select: { role: 'app' } }]
  draft['components'] = [{ name: 'a', blueprint: 'app2', on: 'app', uses: { store: 's' } }, { name: 's', blueprint: 'store', on: 'store' }, { name: 'b', blueprint: 'bare', on: 'store' }]
  change(draft)
})
function build(change: (plan: PlanDraft) => void = () => undefined, input: Partial<GraphInput> = {}): ActionGraph {
  const built = buildGraph({ plan: makeDraft(change), catalog, nodes, kind: 'apply', ...input })
  if (!built.ok) throw new Error(JSON.stringify(built.problems))
  return built.value
}
const gatesOf = (graph: ActionGraph): Record<string, readonly string[]> => Object.fromEntries(graph.gates.map(({ id, after }) => [id, after]))
const afterOf = (graph: ActionGraph, id: string): readonly string[] => graph.actions.find((action) => action.id === id)!.after
const appliedOf = (graph: ActionGraph): Applied => new Map(graph.actions.map(({ id, key }) => [id, { key, task: taskId('t-1'), outputs: {} }]))
const looks = ['a/preflight@n2', 'a/preflight@n3', 's/preflight@n1']

t.test('an apply in which nothing may fail begins when all nodes have been looked at', async (t) => {
  const graph = build()
  t.strictSame(gatesOf(graph), { 'lichen/preflight': looks })
  for (const id of looks) t.strictSame(afterOf(graph, id), [], `${id} waits for nothing`)
  t.strictSame(afterOf(graph, 'a/packages@n2'), ['a/preflight@n2', 'lichen/preflight'])
  t.strictSame(afterOf(graph, 'b/packages@n1'), ['lichen/preflight'], 'a component without a preflight waits, too')
  t.strictSame(afterOf(graph, 's/serve@n1'), ['s/packages@n1'])
  t.strictSame(graph.actions.filter(({ isPreflight }) => isPreflight).map(({ id }) => id as string).sort(), looks)
  t.strictSame(graph.gates.map(({ isOrderOnly, maxFailures }) => [isOrderOnly, maxFailures]), [[true, 0]])
  for (const kind of ['check', 'destroy'] as const) t.strictSame(build(undefined, { kind }).gates, [], `${kind} has no such gate`)
  t.strictSame(build(undefined, { kind: 'check' }).actions.filter(({ name }) => name === 'preflight').map(({ mode, isPreflight }) => [mode, isPreflight]), looks.map(() => ['check', undefined]), 'a check looks as it does at all else')
})

t.test('where some may fail, each node begins by itself', async (t) => {
  for (const change of [(plan: PlanDraft) => (plan['rollout'] = { maxFailures: 1 }), (plan: PlanDraft) => (plan['nodes'][1].rollout = { maxFailures: 1 })]) {
    const graph = build(change)
    t.strictSame(gatesOf(graph), { 'lichen/preflight-n1': ['s/preflight@n1'], 'lichen/preflight-n2': ['a/preflight@n2'], 'lichen/preflight-n3': ['a/preflight@n3'] })
    t.strictSame(afterOf(graph, 'b/packages@n1'), ['lichen/preflight-n1'])
    t.strictSame(afterOf(graph, 'a/packages@n3'), ['a/preflight@n3', 'lichen/preflight-n3'])
  }
})

t.test('neither waves nor approvals nor an order of components keep a node from being looked at', async (t) => {
  const graph = build((plan) => {
    plan['rollout'] = { waves: [{ nodes: 1, approve: true }] }
    Object.assign(plan['components'][0], { approve: true, after: ['b'] })
  })
  for (const id of looks) t.strictSame(afterOf(graph, id), [])
  t.strictSame(afterOf(graph, 'a/packages@n3'), ['a/approval', 'a/preflight@n3', 'a/wave-1', 'lichen/preflight'])
  t.notOk(gatesOf(graph)['a/wave-1']!.some((id) => id.startsWith('a/preflight')), 'a wave is what is done in it')
})

t.test('a node that could be what it is to be before keeps no other from beginning', async (t) => {
  const graph = build()
  t.strictSame(gatesOf(build(undefined, { applied: appliedOf(graph) })), { 'lichen/preflight': [] })
  const grown = build(undefined, { applied: new Map([...appliedOf(graph)].filter(([id]) => !id.endsWith('@n3'))) })
  t.strictSame(gatesOf(grown), { 'lichen/preflight': ['a/preflight@n3'] }, 'the new one is looked at')
  const changed = build((plan) => (plan['components'][0].with = { text: 'look closer' }), { applied: appliedOf(graph) })
  t.strictSame(gatesOf(changed), { 'lichen/preflight': ['a/preflight@n2', 'a/preflight@n3'] })
  t.strictSame(rebaseGraph(grown, graph).gates, grown.gates, 'what is unchanged by now is no change of the plan of a task that is retried')
})

/** Four preflights of which only one runs at once, and what comes after them. */
function startLooks(extra: { readonly maxFailures?: number | null; readonly groups?: ActionGraph['rollout']['groups'] } = {}): DrivenTask {
  const ids = ['n1', 'n2', 'n3', 'n4'].map((node) => `c/preflight@${node}`)
  const looking = ids.map((id) => makeAction(id, [], { isPreflight: true }))
  return startTask(makeGraph([...looking, makeAction('c/install@n1', ['lichen/preflight'])], { maxParallelNodes: 1, maxFailures: 0, ...extra }, { gates: [makeGate('lichen/preflight', ids, { meaning: 'the look at all nodes' })] }))
}
const sentBy = (task: DrivenTask, world = worldWhere({})): string[] => task.settle(world).flatMap((effect) => (effect.type === 'send' ? [effect.action.id as string] : []))

t.test('a node that is refused keeps no other from being looked at, and all from beginning', async (t) => {
  for (const extra of [{}, { maxFailures: null, groups: { all: { maxFailures: 0, maxParallelNodes: null } } }]) {
    const task = startLooks(extra)
    const world = worldWhere({ n4: { state: 'lost', since: 0 } })
    t.strictSame(sentBy(task, world), ['c/preflight@n1'])
    task.end('c/preflight@n1', 'failed')
    t.strictSame(sentBy(task, world), ['c/preflight@n2'])
    t.equal(stateOf(task, 'c/install@n1'), 'skipped')
    t.equal(stateOf(task, 'c/preflight@n4'), 'skipped', 'nobody waits for one that is away')
    task.end('c/preflight@n2', 'succeeded')
    t.strictSame(sentBy(task, world), ['c/preflight@n3'])
    task.end('c/preflight@n3', 'failed')
    t.strictSame(sentBy(task, world), [])
    t.match(task.view, { state: 'ended', outcome: 'failed', counts: { failed: 2, succeeded: 1, skipped: 2 } })
  }
})

t.test('who cancels waits for no look', async (t) => {
  const task = startLooks()
  task.settle()
  task.end('c/preflight@n1', 'failed')
  task.record({ type: 'cancelRequested', by: 'me', reason: '' })
  t.strictSame(sentBy(task), [])
  t.strictSame(['n2', 'n3', 'n4'].map((node) => stateOf(task, `c/preflight@${node}`)), ['skipped', 'skipped', 'skipped'])
})
