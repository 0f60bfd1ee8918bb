import { buildCatalog, buildGraph, buildInheritance, countGraph, digestOfGraph, findForgotten, inheritanceOf, nodeId, parsePlan, taskId, type ActionGraph, type Applied, type Footprint, type GraphInput, type NodeRecord, type Plan, type Problem } from '@lichen/core'
import t from 'tap'
import { makeBlueprint, makeNode, type PlanDraft } from './plan-fixture.js'

/** A cluster with workers, as far as the order of things goes: the control plane forgets workers, workers stand on a runtime of the same nodes. */
const catalog = buildCatalog([
  makeBlueprint('runtime', `
provides: {self: {interface: runtime, outputs: {}}}
actions:
  install: {commands: [{name: i, note: {text: i}}]}
  remove: {commands: [{name: r, note: {text: r}}]}`),
  makeBlueprint('control', `
provides: {api: {interface: api, inputs: {type: object}, secrets: {token: {}}, outputs: {token: {type: string, value: relation.secrets.token}}, action: admit, removeAction: forget}}
actions:
  install: {commands: [{name: i, note: {text: i}}]}
  admit: {on: relation, commands: [{name: a, note: {text: '{{ relation.nodes | map: "id" | join }}'}}]}
  forget: {phase: remove, on: relation, perNode: true, after: [], commands: [{name: 'forget {{ item.id }}', forEach: relation.nodes, note: {text: '{{ item.id }} {{ item.hostname }} {{ item.address }}{% if relation.isDeparture %} leaves{% endif %}'}}]}
  leave: {serial: true, commands: [{name: l, note: {text: '{{ staying | map: "id" | join }}'}}]}
  check: {commands: [{name: c, note: {text: c}}]}
  remove: {after: [forget], commands: [{name: r, note: {text: r}}]}`),
  makeBlueprint('worker', `
parameters: {type: object, additionalProperties: false, properties: {tag: {type: string, default: one}, serial: {type: boolean, default: false}}}
rules: [{expression: 'size(before) == 0 || nodes.exists(n, before.exists(b, b.id == n.id))', message: one worker must stay}]
requires: {api: {interface: api, optional: true}, runtime: {interface: runtime, optional: true}}
actions:
  join: {commands: [{name: j, note: {text: '{{ params.tag }}'}}]}
  drain: {phase: leave, commands: [{name: d, note: {text: '{{ node.id }} {{ leaving | map: "id" | join }} of {{ before | map: "id" | join }}, {{ staying | map: "id" | join }} stay'}}]}
  handOver: {phase: leave, commands: [{name: h, note: {text: 'hand over {{ params.tag }}'}}]}
  check: {commands: [{name: c, note: {text: c}}]}
  stop: {phase: remove, commands: [{name: s, note: {text: 'stop {{ params.tag }}'}}]}
  forgetAll: {phase: remove, on: first, commands: [{name: f, note: {text: f}}]}
  remove: {commands: [{name: r, note: {text: 'remove {{ params.tag }}'}}]}`),
  makeBlueprint('plain', `
actions:
  install: {commands: [{name: i, note: {text: i}}]}
  remove: {commands: [{name: r, note: {text: r}}]}`),
])

const nodes = ['c1', 'w1', 'w2', 'w3'].map((id) => makeNode(id, { role: id[0]! }))

const makeCluster = (change: (plan: PlanDraft) => void = () => undefined): Plan => {
  const plan: PlanDraft = {
    apiVersion: 'lichen.dev/v1', kind: 'DeploymentPlan', metadata: { name: 'cluster' },
    nodes: [{ name: 'control', select: { role: 'c' }, count: 1 }, { name: 'workers', select: { role: 'w' }, count: 3 }],
    components: [
      { name: 'api', blueprint: 'control', on: 'control' },
      { name: 'runtime', blueprint: 'runtime', on: 'workers' },
      { name: 'workers', blueprint: 'worker', on: 'workers', uses: { api: 'api', runtime: 'runtime' } },
    ],
  }
  change(plan)
  const parsed = parsePlan(plan)
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.problems))
  return parsed.value
}
const withCount = (count: number, change: (plan: PlanDraft) => void = () => undefined): Plan =>
  makeCluster((plan) => {
    plan['nodes'][1].count = count
    change(plan)
  })

const build = (plan: Plan, input: Partial<GraphInput> = {}): ActionGraph => {
  const built = buildGraph({ plan, catalog, nodes, kind: 'apply', ...input })
  if (!built.ok) throw new Error(JSON.stringify(built.problems))
  return built.value
}

/** The actions of the graph as they are recorded when all of them, or those wanted, have succeeded. */
const applied = (graph: ActionGraph, isWanted: (id: string) => boolean = () => true): Applied =>
  new Map(graph.actions.filter(({ id }) => isWanted(id)).map(({ id, key }) => [id, { key, task: taskId('t-1'), outputs: {} }]))

const footprint = (plan: Plan, graph: ActionGraph, change: Partial<Footprint> = {}): Footprint => ({
  plan: JSON.stringify(plan), placement: graph.placement, nodes: graph.known?.nodes ?? {}, departures: graph.departures ?? [], isDestroyed: false, ...change,
})
/** What the next task begins with. */
const after = (plan: Plan, graph: ActionGraph, known: Applied = applied(graph), change: Partial<Footprint> = {}): Partial<GraphInput> => ({
  placement: graph.placement, applied: known, inheritance: buildInheritance(footprint(plan, graph, change), known),
})

const departing = (graph: ActionGraph): Record<string, readonly string[]> => Object.fromEntries(graph.actions.filter(({ isDeparture }) => isDeparture).map((action) => [action.id, action.after]))
const textOf = (graph: ActionGraph, id: string): unknown => (graph.actions.find((action) => action.id === id)?.commands[0]?.spec as { text?: string } | undefined)?.text
const gate = 'lichen/departures'

const three = withCount(3)
const first = build(three)

t.test('a node that a smaller group gives up is drained, then emptied, users before what they used, and then forgotten', async (t) => {
  const graph = build(withCount(2), after(three, first))
  t.strictSame(graph.placement, { control: ['c1'], workers: ['w1', 'w2'] })
  t.strictSame(departing(graph), {
    'workers/drain@w3': [gate],
    'workers/handOver@w3': ['workers/drain@w3'],
    'workers/stop@w3': ['workers/drain@w3', 'workers/handOver@w3'],
    'workers/remove@w3': ['workers/stop@w3'],
    'runtime/remove@w3': [gate, 'workers/drain@w3', 'workers/handOver@w3', 'workers/remove@w3', 'workers/stop@w3'],
    'api/forget:workers.api@c1': ['workers/drain@w3', 'workers/handOver@w3', 'workers/remove@w3', 'workers/stop@w3'],
  }, 'what is done once for the component is left alone')
  t.strictSame(graph.gates.find(({ id }) => id === gate)?.after, ['api/check@c1', 'runtime/install@w1', 'runtime/install@w2', 'workers/check@w1', 'workers/check@w2'])
  t.equal(textOf(graph, 'workers/drain@w3'), 'w3 w3 of w1 w2 w3, w1 w2 stay')
  t.equal(textOf(graph, 'api/forget:workers.api@c1'), 'w3 w3 10.0.0.3 leaves')
  t.ok(graph.actions.filter(({ isDeparture }) => isDeparture).every(({ unchanged, mode }) => unchanged === null && mode === 'do'))
  t.equal(graph.actions.filter((action) => !action.isDeparture && action.unchanged === null && action.verifies.length === 0).length, 1, 'beside it only the action that names all workers runs')
  t.match(countGraph(graph), { departing: 6 })
})

t.test('what leaves is taken away as it was applied, and says goodbye with the parameters of now', async (t) => {
  const graph = build(withCount(2, (plan) => (plan['components'][2].with = { tag: 'two' })), after(three, first))
  t.equal(textOf(graph, 'workers/handOver@w3'), 'hand over two')
  t.equal(textOf(graph, 'workers/stop@w3'), 'stop one')
  t.equal(textOf(graph, 'workers/join@w1'), 'two')
})

t.test('a component that the plan drops goes as in a destroy', async (t) => {
  const graph = build(makeCluster((plan) => plan['components'].splice(1, 2)), after(three, first))
  const edges = departing(graph)
  t.strictSame(Object.keys(edges).filter((id) => id.startsWith('workers/')).sort(), ['workers/forgetAll@w1', 'workers/remove@w1', 'workers/remove@w2', 'workers/remove@w3', 'workers/stop@w1', 'workers/stop@w2', 'workers/stop@w3'])
  t.strictSame(edges['workers/stop@w2'], [gate])
  t.strictSame(edges['workers/forgetAll@w1'], ['workers/stop@w1', 'workers/stop@w2', 'workers/stop@w3'])
  t.strictSame(edges['runtime/remove@w2']?.includes('workers/remove@w1'), true, 'all that used it is gone before')
  t.match(graph.actions.find(({ id }) => id === 'api/forget:workers.api@c1')?.commands.map(({ name }) => name), ['forget w1', 'forget w2', 'forget w3'])
  t.equal(textOf(graph, 'api/forget:workers.api@c1'), 'w1 w1 10.0.0.1 leaves')
  t.match(graph.departures?.[0]?.departures.map(({ component, isWhole }) => [component, isWhole]), [['runtime', true], ['workers', true]])
})

t.test('a provider that goes with its consumer takes away what it had prepared', async (t) => {
  const graph = build(makeCluster((plan) => plan['components'].splice(0, 3, { name: 'other', blueprint: 'plain', on: 'workers' })), after(three, first))
  const edges = departing(graph)
  t.ok(edges['api/forget:workers.api@c1']?.includes('workers/remove@w3'))
  t.ok(edges['api/remove@c1']?.includes('api/forget:workers.api@c1'))
  t.equal(textOf(graph, 'api/forget:workers.api@c1'), 'w1 w1 10.0.0.1', 'and knows that it does not stay')
  t.equal(edges['api/leave@c1'], undefined, 'nobody is left to hand over to')
})

t.test('what a provider prepared for the consumer as a whole stays while the consumer has other nodes', async (t) => {
  const shared = buildCatalog([...catalog.list().filter(({ document }) => document.name !== 'control'), makeBlueprint('control', `
provides: {api: {interface: api, inputs: {type: object}, outputs: {}, removeAction: dropDatabase}}
actions:
  install: {commands: [{name: i, note: {text: i}}]}
  dropDatabase: {phase: remove, on: relation, commands: [{name: d, note: {text: d}}]}`)])
  const begin = { ...after(three, build(three, { catalog: shared })), catalog: shared }
  t.notOk(build(withCount(2), begin).actions.some(({ name }) => name.startsWith('dropDatabase')))
  t.ok(build(makeCluster((plan) => plan['components'].splice(2, 1)), begin).actions.some(({ id }) => id === 'api/dropDatabase:workers.api@c1'))
})

t.test('nodes leave side by side, and one after the other where the blueprint says so', async (t) => {
  const plan = (count: number): Plan => makeCluster((draft) => (draft['nodes'] = [{ name: 'control', count }, { name: 'workers', select: { role: 'w' }, count: 1 }]))
  const graph = build(plan(1), after(plan(3), build(plan(3))))
  t.strictSame(departing(graph), {
    'api/leave@w1': [gate],
    'api/remove@w1': ['api/leave@w1'],
    'api/leave@w2': ['api/leave@w1', 'api/remove@w1', gate],
    'api/remove@w2': ['api/leave@w2'],
  })
  t.equal(textOf(graph, 'api/leave@w1'), 'c1')
  const sideBySide = departing(build(withCount(1), after(three, first)))
  t.strictSame([sideBySide['workers/drain@w2'], sideBySide['workers/drain@w3']], [[gate], [gate]])
})

t.test('an apply that changes nothing takes nothing away, and a first one has had nothing', async (t) => {
  t.equal(build(three, after(three, first)).departures, undefined)
  t.strictSame(build(three, after(three, first)).gates, first.gates)
  t.strictSame(departing(build(withCount(2))), {})
})

t.test('when a count shrinks, cordoned nodes leave first, then the last ones', async (t) => {
  const cordoned = nodes.map((node) => (node.id === 'w2' ? { ...node, cordoned: true } : node))
  const change = after(three, first)
  t.strictSame(build(withCount(2), { ...change, nodes: cordoned }).placement['workers'], ['w1', 'w3'])
  t.strictSame(build(withCount(1), { ...change, nodes: cordoned }).placement['workers'], ['w1'])
  t.strictSame(build(three, { ...change, nodes: cordoned }).placement['workers'], ['w1', 'w2', 'w3'], 'it stays while nobody has to go')
})

t.test('a departure that was not completed goes on with what is left of it, one that was is forgotten', async (t) => {
  const two = withCount(2)
  const second = build(two, after(three, first))
  const failed = applied(second, (id) => !/^(workers\/remove|runtime\/remove|api\/forget)/.test(id))
  const third = build(two, after(two, second, failed))
  t.strictSame(departing(third), {
    'workers/remove@w3': [gate],
    'runtime/remove@w3': [gate, 'workers/remove@w3'],
    'api/forget:workers.api@c1': ['workers/remove@w3'],
  })
  t.equal(textOf(third, 'workers/remove@w3'), 'remove one')
  const stuck = withCount(2, (plan) => (plan['components'][2].with = { tag: 'two' }))
  t.equal(textOf(build(stuck, after(two, second, applied(second, (id) => !/w3$/.test(id)))), 'workers/handOver@w3'), 'hand over two', 'who asked for a consent, and failed, is given it by the next plan')
  t.strictSame(third.departures?.[0]?.departures[1]?.done, ['workers/drain@w3', 'workers/handOver@w3', 'workers/stop@w3'])
  const all = new Map([...failed, ...applied(third)])
  t.equal(build(two, after(two, third, all)).departures, undefined)
})

t.test('what leaves while an earlier departure is open keeps apart from it, each as it was applied', async (t) => {
  const changed = withCount(2, (plan) => (plan['components'][2].with = { tag: 'two' }))
  const second = build(changed, after(three, first))
  const third = build(withCount(1), after(changed, second, new Map()))
  t.equal(textOf(third, 'workers/remove@w3'), 'remove one')
  t.equal(textOf(third, 'workers/remove@w2'), 'remove two')
  t.strictSame(third.actions.filter(({ name }) => name.startsWith('forget:')).map(({ id }) => id).sort(), ['api/forget:workers.api:earlier-1@c1', 'api/forget:workers.api@c1'])
  t.equal(new Set([...third.actions, ...third.gates].map(({ id }) => id)).size, third.actions.length + third.gates.length)
})

t.test('a node that comes back before it has left completely stays', async (t) => {
  const second = build(withCount(2), after(three, first))
  const third = build(three, after(withCount(2), second, new Map()))
  t.strictSame(third.placement['workers'], ['w1', 'w2', 'w3'])
  t.equal(third.departures, undefined)
})

t.test('of a node that is no longer registered nothing is asked, and its provider forgets it', async (t) => {
  const graph = build(withCount(2), { ...after(three, first), nodes: nodes.filter(({ id }) => id !== 'w2') })
  t.strictSame(departing(graph), { 'api/forget:workers.api@c1': [gate] })
  t.equal(textOf(graph, 'api/forget:workers.api@c1'), 'w2 w2 10.0.0.2 leaves', 'as it was known')
  const again = build(withCount(2), { ...after(withCount(2), graph, new Map()), nodes: nodes.filter(({ id }) => id !== 'w2') })
  t.equal(textOf(again, 'api/forget:workers.api@c1'), 'w2 w2 10.0.0.2 leaves', 'also in the apply after')
})

t.test('after a destroy nothing can leave', async (t) => {
  const graph = build(withCount(2), after(three, first, new Map(), { isDestroyed: true }))
  t.equal(graph.departures, undefined)
  t.strictSame(graph.placement['workers'], ['w1', 'w2'])
})

t.test('a destroy goes on with what was leaving, before what it used; a check does not', async (t) => {
  const two = withCount(2)
  const second = build(two, after(three, first))
  const destroy = build(two, { ...after(two, second, new Map()), kind: 'destroy' })
  t.strictSame(Object.keys(departing(destroy)).sort(), ['api/forget:workers.api:earlier-1@c1', 'runtime/remove@w3', 'workers/remove@w3', 'workers/stop@w3'])
  t.ok(destroy.actions.find(({ id }) => id === 'api/remove@c1')?.after.includes('api/forget:workers.api:earlier-1@c1' as never))
  t.equal(textOf(destroy, 'api/forget:workers.api:earlier-1@c1'), 'w3 w3 10.0.0.3')
  t.equal(build(two, { ...after(two, second, new Map()), kind: 'check' }).departures, undefined)
})

t.test('rules can speak of the nodes that were there before', async (t) => {
  const moved = makeCluster((plan) => plan['nodes'].push({ name: 'elsewhere', select: { role: 'c' } }) && (plan['components'][2].on = 'elsewhere'))
  const built = buildGraph({ plan: moved, catalog, nodes, kind: 'apply', ...after(three, first) })
  t.match(built.ok ? [] : built.problems, [{ code: 'PLAN_RULE_BROKEN', message: /one worker must stay/ }])
  t.ok(buildGraph({ plan: moved, catalog, nodes, kind: 'apply' }).ok)
})

t.test('what the catalog does not have any more cannot leave: the message names it and what to do', async (t) => {
  const smaller = buildCatalog(catalog.list().filter(({ document }) => document.name !== 'worker'))
  const plan = makeCluster((draft) => draft['components'].splice(2, 1))
  const built = buildGraph({ plan, catalog: smaller, nodes, kind: 'apply', ...after(three, first) })
  const problems: readonly Problem[] = built.ok ? [] : built.problems
  t.match(problems, [{ code: 'PLAN_CANNOT_LEAVE', path: 'departures.workers', message: /^workers \(w1, w2 and w3\) cannot be taken away as it was applied: workers: no blueprint "worker" in the catalog.*; bring back what the catalog had/ }])
})

t.test('the digest covers what leaves, and not what is merely known', async (t) => {
  const graph = build(withCount(2), after(three, first))
  t.equal(digestOfGraph(graph), graph.digest)
  t.not(build(withCount(2), { placement: { control: [nodeId('c1')], workers: [nodeId('w1'), nodeId('w2')] }, applied: applied(first) }).digest, graph.digest)
  const renamed = nodes.map((node): NodeRecord => (node.id === 'w1' ? { ...node, labels: { ...node.labels, extra: 'x' } } : node))
  t.equal(build(three, { nodes: renamed }).digest, first.digest)
})

t.test('planned again with what the graph remembers, the same leaves', async (t) => {
  const graph = build(withCount(2), after(three, first))
  const again = build(withCount(2), { placement: graph.placement, inheritance: inheritanceOf(graph) })
  t.strictSame(departing(again), departing(graph))
  t.strictSame(again.departures, graph.departures)
})

t.test('successes of what leaves tell nothing any more, those of others do', async (t) => {
  const records = (graph: ActionGraph) => graph.actions.map(({ id, node }) => ({ action: id as string, node }))
  const shrunk = build(withCount(2), after(three, first))
  t.strictSame(findForgotten(shrunk, records(first)).map(({ action }) => action).sort(), ['runtime/install@w3', 'workers/check@w3', 'workers/join@w3'])
  const dropped = build(makeCluster((plan) => plan['components'].splice(2, 1)), after(three, first))
  t.strictSame(findForgotten(dropped, records(first)).map(({ action }) => action).filter((id) => !id.startsWith('workers/')), ['api/admit:workers.api@c1'])
  t.strictSame(findForgotten(first, records(first)), [])
})
