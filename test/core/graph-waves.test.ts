import { buildGraph, countGraph, taskId, type ActionGraph, type GraphInput, type NodeRecord } from '@lichen/core'
import t from 'tap'
import { makeBlueprint, makeCatalog, makeNode, makePlan, type PlanDraft } from './plan-fixture.js'

/** A service with packages, a configuration, a check of each node and one of the whole that holds for a part of it too. */
const service = makeBlueprint('service', `
provides: {self: {interface: service, outputs: {}, action: grant}}
actions:
  start: {on: first, after: [], commands: [{name: s, note: {text: s}}]}
  packages: {after: [start], commands: [{name: p, package: {names: [pk]}}]}
  configure: {commands: [{name: c, file: {path: /etc/c, content: c}}]}
  grant: {on: relation, after: [start], commands: [{name: g, note: {text: g}}]}
  alive: {phase: check, commands: [{name: a, probe: {tcp: {host: '{{ node.address }}', port: 1}}}]}
  healthy: {phase: check, on: first, after: [], gate: true, commands: [{name: h, probe: {command: [ask]}}]}
  remove: {commands: [{name: r, note: {text: r}}]}
`)
const user = makeBlueprint('user', 'requires: {it: {interface: service}}\nactions: {a: {commands: [{name: n, note: {text: n}}]}, remove: {commands: [{name: n, note: {text: n}}]}}')
const catalog = makeCatalog([service, user])

const makeFleet = (count: number, labelsOf: (index: number) => Record<string, string> = () => ({})): NodeRecord[] => Array.from({ length: count }, (_, index) => makeNode(`n${index + 1}`, labelsOf(index)))

function build(count: number, change: (plan: PlanDraft) => void, input: Partial<GraphInput> & { labelsOf?: (index: number) => Record<string, string> } = {}): ActionGraph {
  const plan = makePlan((draft) => {
    draft['nodes'] = [{ name: 'all' }]
    draft['components'] = [{ name: 'svc', blueprint: 'service', on: 'all' }]
    change(draft)
  })
  const built = buildGraph({ plan, catalog, nodes: makeFleet(count, input.labelsOf), kind: 'apply', ...input })
  if (!built.ok) throw new Error(JSON.stringify(built.problems))
  return built.value
}

const gatesOf = (graph: ActionGraph): Record<string, readonly string[]> => Object.fromEntries(graph.gates.map((gate) => [gate.id, gate.after]))
const edgesOf = (graph: ActionGraph): Record<string, readonly string[]> => Object.fromEntries(graph.actions.map((action) => [action.id, action.after]))
/** The nodes of each wave, as its gate names them; the last wave has none. */
const wavesOf = (graph: ActionGraph): string[] => graph.gates.filter((gate) => /\/wave-\d+$/.test(gate.id)).map((gate) => gate.meaning)

t.test('waves: each begins behind the gate of the one before, which comes after all of it and a check of the whole', async (t) => {
  const graph = build(3, (plan) => (plan['rollout'] = { waves: [{ nodes: 1 }] }))
  t.strictSame(gatesOf(graph), {
    'svc/wave-1': ['svc/alive@n1', 'svc/configure@n1', 'svc/healthy:wave-1@n1', 'svc/packages@n1', 'svc/start@n1'],
    'svc/wave-2': ['svc/alive@n2', 'svc/configure@n2', 'svc/healthy:wave-2@n1', 'svc/packages@n2', 'svc/wave-1'],
  })
  t.strictSame(edgesOf(graph), {
    'svc/start@n1': [],
    'svc/packages@n1': ['svc/start@n1'],
    'svc/configure@n1': ['svc/packages@n1'],
    'svc/alive@n1': ['svc/configure@n1', 'svc/packages@n1', 'svc/start@n1'],
    'svc/healthy:wave-1@n1': ['svc/configure@n1', 'svc/packages@n1', 'svc/start@n1'],
    'svc/packages@n2': ['svc/start@n1', 'svc/wave-1'],
    'svc/configure@n2': ['svc/packages@n2'],
    'svc/alive@n2': ['svc/configure@n2', 'svc/packages@n2', 'svc/start@n1'],
    'svc/healthy:wave-2@n1': ['svc/configure@n2', 'svc/packages@n2'],
    'svc/packages@n3': ['svc/start@n1', 'svc/wave-2'],
    'svc/configure@n3': ['svc/packages@n3'],
    'svc/alive@n3': ['svc/configure@n3', 'svc/packages@n3', 'svc/start@n1'],
    'svc/healthy@n1': ['svc/configure@n1', 'svc/configure@n2', 'svc/configure@n3', 'svc/packages@n1', 'svc/packages@n2', 'svc/packages@n3', 'svc/start@n1'],
  })
  t.strictSame(wavesOf(graph), ['wave 1 of 3 of svc (canary: n1)', 'wave 2 of 3 of svc (n2)'])
})

t.test('what waits for all nodes is in the last wave, and so is what comes after it', async (t) => {
  const joined = makeBlueprint('joined', 'actions: {make: {commands: [{name: m, note: {text: m}}]}, join: {on: first, commands: [{name: j, note: {text: j}}]}, use: {commands: [{name: u, note: {text: u}}]}, remove: {commands: [{name: r, note: {text: r}}]}}')
  const graph = build(2, (plan) => Object.assign(plan, { rollout: { waves: [{ nodes: 1 }] }, components: [{ name: 'svc', blueprint: 'joined', on: 'all' }] }), { catalog: makeCatalog([joined]) })
  t.strictSame(gatesOf(graph), { 'svc/wave-1': ['svc/make@n1'] })
  t.match(edgesOf(graph), { 'svc/make@n2': ['svc/wave-1'], 'svc/join@n1': ['svc/make@n1', 'svc/make@n2'], 'svc/use@n1': ['svc/join@n1'] })
})

t.test('a check of each node that comes too late for its wave is made in it as well, when it is a gate', async (t) => {
  const joined = makeBlueprint('joined', 'actions: {make: {commands: [{name: m, note: {text: m}}]}, join: {on: first, commands: [{name: j, note: {text: j}}]}, alive: {phase: check, gate: true, commands: [{name: u, note: {text: u}}]}, remove: {commands: [{name: r, note: {text: r}}]}}')
  const graph = build(3, (plan) => Object.assign(plan, { rollout: { waves: [{ nodes: 2 }] }, components: [{ name: 'svc', blueprint: 'joined', on: 'all' }] }), { catalog: makeCatalog([joined]) })
  t.strictSame(gatesOf(graph), { 'svc/wave-1': ['svc/alive:wave-1@n1', 'svc/alive:wave-1@n2', 'svc/make@n1', 'svc/make@n2'] })
  t.match(edgesOf(graph), { 'svc/alive:wave-1@n2': ['svc/make@n2'], 'svc/alive@n2': ['svc/join@n1', 'svc/make@n2'] })
})

const sizes: readonly [string, number, unknown[], string[]][] = [
  ['a canary, then all the others', 5, [{ nodes: 1 }, {}], ['wave 1 of 2 of svc (canary: n1)']],
  ['the last entry repeats', 5, [{ nodes: 1 }, { nodes: 2 }], ['wave 1 of 3 of svc (canary: n1)', 'wave 2 of 3 of svc (n2 and n3)']],
  ['percentages are rounded up', 10, [{ nodes: '1%' }, { nodes: '34%' }, {}], ['wave 1 of 3 of svc (canary: n1)', 'wave 2 of 3 of svc (n10, n2, n3 and 1 more)']],
  ['one wave for all needs no gate', 3, [{ nodes: 3 }, { nodes: 1 }], []],
  ['an entry without a number takes what is left', 3, [{}], []],
]
for (const [what, count, waves, meanings] of sizes) t.test(`the size of waves: ${what}`, async (t) => t.strictSame(wavesOf(build(count, (plan) => (plan['rollout'] = { waves }))), meanings))

t.test('no wave has nodes of two failure domains; that of the first node comes first, nodes without the label last', async (t) => {
  const labelsOf = (index: number) => [{ zone: 'b' }, { zone: 'a' }, {}, { zone: 'a' }, { zone: 'b' }, { zone: 'c' }][index] as Record<string, string>
  t.strictSame(wavesOf(build(6, (plan) => (plan['rollout'] = { by: 'zone' }), { labelsOf })), ['wave 1 of 4 of svc (zone=b: n1 and n5)', 'wave 2 of 4 of svc (zone=a: n2 and n4)', 'wave 3 of 4 of svc (zone=c: n6)'])
  t.strictSame(wavesOf(build(6, (plan) => (plan['rollout'] = { by: 'zone', waves: [{ nodes: 1 }, {}] }), { labelsOf })), ['wave 1 of 5 of svc (zone=b: n1)', 'wave 2 of 5 of svc (zone=b: n5)', 'wave 3 of 5 of svc (zone=a: n2 and n4)', 'wave 4 of 5 of svc (zone=c: n6)'])
  t.strictSame(wavesOf(build(2, (plan) => (plan['rollout'] = { by: 'constructor' }))), [], 'a label that nobody has')
})

t.test('what a group says of its waves takes precedence, each word by itself', async (t) => {
  const labelsOf = (index: number) => ({ zone: index < 2 ? 'a' : 'b' })
  const graph = build(4, (plan) => Object.assign(plan, { rollout: { by: 'zone', waves: [{ nodes: 1, approve: true }] }, nodes: [{ name: 'all', rollout: { waves: [{}] } }] }), { labelsOf })
  t.match(graph.gates, [{ id: 'svc/wave-1', meaning: 'wave 1 of 2 of svc (zone=a: n1 and n2)', approve: false }])
})

t.test('a wave may want an approval, or let failures pass; the plan then has no limit of its own unless it says so', async (t) => {
  const graph = build(3, (plan) => (plan['rollout'] = { waves: [{ nodes: 1, approve: true }, { nodes: 1, maxFailures: 2 }] }))
  t.match(graph.gates, [{ approve: true, maxFailures: 0, isOrderOnly: true }, { approve: false, maxFailures: 2, isOrderOnly: true }])
  t.equal(graph.rollout.maxFailures, null)
  t.equal(build(3, (plan) => (plan['rollout'] = { waves: [{ maxFailures: 2 }], maxFailures: 7 })).rollout.maxFailures, 7)
  t.equal(build(3, (plan) => (plan['rollout'] = { waves: [{ nodes: 1 }] })).rollout.maxFailures, 0)
})

t.test('limits of groups and of the plan stand in the graph', async (t) => {
  const graph = build(1, (plan) => {
    plan['nodes'] = [{ name: 'all', rollout: { maxFailures: 3 } }, { name: 'some', rollout: { maxParallelNodes: 2 } }, { name: 'none' }]
    plan['limits'] = { queuedS: 60, taskS: 3600 }
  })
  t.strictSame(graph.rollout, { maxParallelNodes: 50, maxFailures: null, groups: { all: { maxFailures: 3, maxParallelNodes: null }, some: { maxFailures: null, maxParallelNodes: 2 } } })
  t.strictSame(graph.limits, { queuedMs: 60_000, taskMs: 3_600_000 })
  t.strictSame(build(1, () => undefined).limits, { queuedMs: null, taskMs: null })
})

t.test('a component that a person must approve comes after a gate, which comes after what the component would have come after', async (t) => {
  const graph = build(2, (plan) => plan['components'].push({ name: 'app', blueprint: 'user', on: 'all', uses: { it: 'svc' }, approve: true }))
  t.strictSame(gatesOf(graph), { 'app/approval': ['svc/alive@n1', 'svc/alive@n2', 'svc/grant:app.it@n1', 'svc/healthy@n1'] })
  t.strictSame(graph.gates.map(({ after: _after, ...gate }) => gate), [{ id: 'app/approval', component: 'app', approve: true, maxFailures: 0, meaning: 'the start of app (n1 and n2)' }], 'what changed before it does concern the component')
  t.match(edgesOf(graph), { 'app/a@n1': ['app/approval'], 'app/a@n2': ['app/approval'] })
})

t.test('an approval holds for every wave, whatever number of failures the gates between them let pass', async (t) => {
  const graph = build(2, (plan) => Object.assign(plan, { rollout: { waves: [{ nodes: 1, maxFailures: 9 }] }, components: [{ name: 'svc', blueprint: 'db', on: 'all', approve: true }] }))
  t.match(edgesOf(graph), { 'svc/packages@n1': ['svc/approval'], 'svc/packages@n2': ['svc/approval', 'svc/wave-1'] })
  t.ok(gatesOf(graph)['svc/wave-1']?.includes('svc/approval'))
})

t.test('a destroy and a check ask nobody and know no waves', async (t) => {
  for (const kind of ['destroy', 'check'] as const) {
    const graph = build(3, (plan) => {
      plan['rollout'] = { waves: [{ nodes: 1 }] }
      plan['components'][0].approve = true
    }, { kind })
    t.strictSame(graph.gates, [], kind)
    t.notOk(graph.actions.some((action) => action.name.includes('wave')))
  }
})

t.test('where many wait for many, they wait for a gate: dependencies are as many as nodes', async (t) => {
  const graph = build(100, (plan) => {
    plan['components'].push({ name: 'late', blueprint: 'db', on: 'all', after: ['svc'] }, { name: 'app', blueprint: 'user', on: 'all', uses: { it: 'svc' } })
  })
  t.equal(gatesOf(graph)['svc/complete']?.length, 101)
  t.match(graph.gates.find((gate) => gate.id === 'svc/complete'), { meaning: 'all of svc', approve: false, maxFailures: 0 })
  t.strictSame(edgesOf(graph)['late/packages@n7'], ['svc/complete'])
  t.strictSame(edgesOf(graph)['app/a@n7'], ['svc/complete', 'svc/grant:app.it@n1'])
  const destroy = build(100, (plan) => plan['components'].push({ name: 'late', blueprint: 'db', on: 'all', after: ['svc'] }), { kind: 'destroy' })
  t.match(destroy.gates, [{ id: 'late/complete', meaning: 'the removal of all of late' }])
  t.strictSame(edgesOf(destroy)['svc/remove@n7'], ['late/complete'])
})

t.test('within a component, too', async (t) => {
  const joined = makeBlueprint('joined', 'actions: {make: {commands: [{name: m, note: {text: m}}]}, one: {on: first, after: [make], commands: [{name: j, note: {text: j}}]}, two: {on: first, after: [make], commands: [{name: j, note: {text: j}}]}, remove: {commands: [{name: r, note: {text: r}}]}}')
  const graph = build(50, (plan) => (plan['components'] = [{ name: 'svc', blueprint: 'joined', on: 'all' }]), { catalog: makeCatalog([joined]) })
  t.match(graph.gates, [{ id: 'svc/all-make', meaning: 'make of svc on n1, n10, n11 and 47 more' }])
  t.match(edgesOf(graph), { 'svc/one@n1': ['svc/all-make'], 'svc/two@n1': ['svc/all-make'] })
})

t.test('gates stand after those they depend on', async (t) => {
  const graph = build(30, (plan) => {
    plan['rollout'] = { waves: [{ nodes: 1 }, { nodes: '10%' }] }
    plan['components'].push({ name: 'app', blueprint: 'user', on: 'all', uses: { it: 'svc' }, approve: true }, { name: 'late', blueprint: 'db', on: 'all', after: ['app'] })
  })
  const seen = new Set<string>()
  const open = [graph.actions, graph.gates].map((list) => [...list])
  while (open.some((list) => list.length > 0)) {
    const next = open.find((list) => list[0]?.after.every((id) => seen.has(id)))
    if (!next) return t.fail('neither list can go on')
    seen.add(next.shift()!.id)
  }
  t.equal(seen.size, graph.actions.length + graph.gates.length, 'ids are unique')
})

t.test('a graph in numbers: what runs, what is behind an approval, what is unchanged', async (t) => {
  const change = (plan: PlanDraft) => {
    plan['rollout'] = { waves: [{ nodes: 1, approve: true }, {}] }
    plan['components'].push({ name: 'app', blueprint: 'user', on: 'all', uses: { it: 'svc' }, approve: true })
  }
  const graph = build(3, change)
  t.strictSame(countGraph(graph), { toRun: 16, unchanged: 0, verifying: 0, approvals: 3, toRunAfterApproval: 10, departing: 0 })
  const applied = new Map(graph.actions.filter(({ component }) => component === 'svc').map(({ id, key }) => [id, { key, task: taskId('t-1'), outputs: {} }]))
  t.strictSame(countGraph(build(3, change, { applied })), { toRun: 3, unchanged: 13, verifying: 3, approvals: 2, toRunAfterApproval: 3, departing: 0 }, 'nobody is asked about the second wave of svc')
})
