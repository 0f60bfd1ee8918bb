import { buildCatalog, buildGraph, checkBlueprint, nodeId, parseBlueprint, taskId, type ActionGraph, type OperationRequest, type Problem } from '@lichen/core'
import t from 'tap'
import { makeBlueprint, makeNode, makePlan, type PlanDraft } from './plan-fixture.js'

const note = '[{name: n, note: {text: x}}]'
const catalog = buildCatalog([
  makeBlueprint('store', `
provides: {data: {interface: data, outputs: {host: {type: string, value: node.address}}}}
operations:
  backup: {summary: Back it up}
  restart: {summary: Restart it, parameters: {type: object, additionalProperties: false, required: [reason], properties: {reason: {type: string}, times: {type: integer, default: 1}}}, waves: [{nodes: 1}]}
actions:
  init: {on: first, commands: [{name: i, run: {argv: [init], creates: /i, outputs: {token: {from: stdout}}}}]}
  join: {after: [init], commands: ${note}}
  backup: {phase: operation, operation: backup, on: first, commands: [{name: b, note: {text: '{{ operation.name }} {{ outputs.init.token }}'}}]}
  drain: {phase: operation, operation: restart, commands: [{name: d, note: {text: '{{ operation.params.reason }} {{ operation.params.times }}'}}]}
  restart: {phase: operation, operation: restart, commands: ${note}}
  alive: {phase: check, commands: ${note}}
  quorum: {phase: check, on: first, gate: true, commands: ${note}}
  remove: {commands: ${note}}`),
  makeBlueprint('middle', `requires: {data: {interface: data}}\nprovides: {view: {interface: view, outputs: {}}}\nactions: {install: {commands: ${note}}, remove: {commands: ${note}}}`),
  makeBlueprint('web', `requires: {view: {interface: view}}\noperations: {restart: {summary: Restart it, parameters: {type: object, properties: {reason: {type: string}}}}}\nactions: {install: {commands: ${note}}, again: {phase: operation, operation: restart, commands: ${note}}, remove: {commands: ${note}}}`),
])
const nodes = ['n1', 'n2', 'n3'].map((id) => makeNode(id))
const plan = (change: (draft: PlanDraft) => void = () => undefined) =>
  makePlan((draft) => {
    draft['nodes'] = [{ name: 'all' }]
    draft['components'] = [{ name: 'db', blueprint: 'store', on: 'all' }, { name: 'mid', blueprint: 'middle', on: 'all', uses: { data: 'db' } }, { name: 'shop', blueprint: 'web', on: 'all', uses: { view: 'mid' } }]
    change(draft)
  })
const ask = (name: string, more: Partial<OperationRequest> = {}): OperationRequest => ({ name, base: taskId('t-1'), components: null, nodes: null, parameters: name === 'restart' ? { reason: 'r' } : {}, ...more })
const build = (operation: OperationRequest, of = plan()) => buildGraph({ plan: of, catalog, nodes, placement: { all: nodes.map(({ id }) => id) }, kind: 'operation', operation })
function graphOf(operation: OperationRequest, of = plan()): ActionGraph {
  const built = build(operation, of)
  if (!built.ok) throw new Error(JSON.stringify(built.problems))
  return built.value
}
function problemsOf(operation: OperationRequest): readonly Problem[] {
  const built = build(operation)
  return built.ok ? [] : built.problems
}
const afterOf = (graph: ActionGraph, id: string) => [...graph.actions, ...graph.gates].find((vertex) => vertex.id === id)?.after

t.test('an operation has its own actions and the checks, in waves, with gates between, and runs all of it', async (t) => {
  const graph = graphOf(ask('restart', { components: ['db'] }))
  t.equal(graph.kind, 'operation')
  t.same(graph.actions.filter(({ node }) => node === 'n2').map(({ id }) => id), ['db/drain@n2', 'db/restart@n2', 'db/alive@n2'])
  t.same(graph.actions.filter(({ name }) => name.startsWith('quorum')).map(({ id }) => id).sort(), ['db/quorum:wave-1@n1', 'db/quorum:wave-2@n1', 'db/quorum@n1'])
  t.same(afterOf(graph, 'db/wave-1'), ['db/alive@n1', 'db/drain@n1', 'db/quorum:wave-1@n1', 'db/restart@n1'])
  t.same(afterOf(graph, 'db/drain@n2'), ['db/wave-1'])
  t.same(afterOf(graph, 'db/restart@n2'), ['db/drain@n2'])
  t.ok(graph.actions.every(({ unchanged, mode }) => unchanged === null && mode === 'do'))
  t.same(graph.actions.find(({ id }) => id === 'db/drain@n2')?.commands[0]?.spec, { text: 'r 1' })
})

t.test('the waves of the plan come before those of the operation', async (t) => {
  const graph = graphOf(ask('restart', { components: ['db'] }), plan((draft) => (draft['rollout'] = { waves: [{ nodes: 2, approve: true }] })))
  t.same(graph.gates.map(({ meaning, approve }) => [meaning, approve]), [['wave 1 of 2 of db (n1 and n2)', true]])
})

t.test('providers come before consumers, past components that have no part in it', async (t) => {
  const graph = graphOf(ask('restart'))
  t.notOk(graph.actions.some(({ component }) => component === 'mid'))
  t.same(afterOf(graph, 'shop/again@n1'), ['db/alive@n1', 'db/alive@n2', 'db/alive@n3', 'db/quorum@n1'])
})

t.test('on some nodes it makes waves of those, and what speaks for all is still asked', async (t) => {
  const graph = graphOf(ask('restart', { components: ['db'], nodes: [nodeId('n2'), nodeId('n3')] }))
  t.same([...new Set(graph.actions.filter(({ name }) => !name.startsWith('quorum')).map(({ node }) => node))].sort(), ['n2', 'n3'])
  t.same(graph.gates.map(({ meaning }) => meaning), ['wave 1 of 2 of db (canary: n2)'])
  t.same(graph.actions.filter(({ node }) => node === 'n1').map(({ id }) => id).sort(), ['db/quorum:wave-1@n1', 'db/quorum@n1'])
})

t.test('what an apply printed stands as a reference', async (t) => {
  const graph = graphOf(ask('backup'))
  t.same(graph.actions.find(({ name }) => name === 'backup')?.commands[0]?.spec, { text: 'backup ⟦output:db/init@n1#token⟧' })
  t.same(graph.actions.filter(({ name }) => name === 'backup').map(({ node }) => node), ['n1'])
})

t.test('every problem of a request is said at once, with its path', async (t) => {
  t.match(problemsOf(ask('restrat')), [{ code: 'OPERATION_UNKNOWN', path: 'operation', message: /"restrat".*did you mean "restart".*there are backup, restart/ }])
  t.match(problemsOf(ask('restart', { components: ['mid', 'dbb'], nodes: [nodeId('n9')], parameters: { times: 'many', colour: 'red' } })), [
    { code: 'OPERATION_UNKNOWN_COMPONENT', path: 'components[0]', message: 'component "mid" has no operation "restart"; db, shop have' },
    { code: 'OPERATION_UNKNOWN_COMPONENT', path: 'components[1]', message: /no component "dbb" in this deployment.*"db"/ },
    { code: 'OPERATION_UNKNOWN_NODE', path: 'nodes[0]' },
  ])
  t.same(problemsOf(ask('restart', { components: ['db'], parameters: { times: 'many', colour: 'red' } })).map(({ code, path }) => [code, path]).sort(), ['colour', 'reason', 'times'].map((name) => ['OPERATION_BAD_PARAMETER', `parameters.${name}`]))
  t.match(problemsOf(ask('backup', { nodes: [nodeId('n3')] })), [{ code: 'OPERATION_UNKNOWN_NODE', message: /does nothing on n3/ }])
})

t.test('the linter finds operations that cannot be meant, and rehearses the others', async (t) => {
  const lint = (body: string) => {
    const parsed = parseBlueprint(`apiVersion: lichen.dev/v1\nkind: Blueprint\nname: x\nversion: 1.0.0\nsummary: s\n${body}`, {})
    return parsed.ok ? checkBlueprint(parsed.value) : parsed.problems
  }
  const rest = `install: {commands: ${note}}, remove: {commands: ${note}}`
  t.match(lint(`operations: {restart: {summary: s}}\nactions: {${rest}}`), [{ code: 'BLUEPRINT_REFERENCE', path: 'operations.restart', message: /no action/ }])
  t.match(lint(`operations: {restart: {summary: s}}\nactions: {${rest}, a: {phase: operation, operation: restart, commands: ${note}}, b: {phase: operation, operation: restrat, commands: ${note}}}`), [{ path: 'actions.b.operation', message: /no operation "restrat".*restart/ }])
  t.match(lint(`actions: {${rest}, a: {phase: operation, commands: ${note}}}`), [{ path: 'actions.a', message: /names its operation/ }])
  t.match(lint(`operations: {r: {summary: s, parameters: {type: nonsense}}}\nactions: {${rest}, a: {phase: operation, operation: r, commands: ${note}}}`), [{ code: 'BLUEPRINT_SCHEMA', path: 'operations.r.parameters' }])
  t.match(lint(`operations: {r: {summary: s}}\nactions: {${rest}, a: {phase: operation, operation: r, commands: [{name: n, note: {text: '{{ operation.params.no }}'}}]}}`), [{ code: 'BLUEPRINT_TEMPLATE', path: 'actions.a.commands[0]', message: /operation\.params\.no/ }])
  t.same(lint(`operations: {r: {summary: s}}\nactions: {${rest}, a: {phase: operation, operation: r, commands: [{name: n, note: {text: '{{ operation.name }}'}}]}}`), [])
})
