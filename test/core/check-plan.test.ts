import { checkPlan, nodeId, parsePlan, type Problem } from '@lichen/core'
import t from 'tap'
import { makeBlueprint, makeCatalog, makeNode, makeNodes, makePlan, type PlanDraft } from './plan-fixture.js'

const problemsOf = (change: (plan: PlanDraft) => void, nodes = makeNodes()): readonly Problem[] => checkPlan(makePlan(change), makeCatalog(), nodes)

t.test('a sound plan has no problem', async (t) => {
  t.strictSame(problemsOf(() => undefined), [])
  t.strictSame(checkPlan(makePlan(), makeCatalog()), [], 'nor without nodes')
})

const cases: readonly [string, (plan: PlanDraft) => void, Partial<Record<keyof Problem, unknown>>][] = [
  ['an unknown blueprint', (plan) => (plan['components'][1].blueprint = 'dp'), { code: 'PLAN_UNKNOWN_BLUEPRINT', path: 'components[1].blueprint', message: 'no blueprint "dp" in the catalog, did you mean "db"?' }],
  ['a version that is not there', (plan) => (plan['components'][1].blueprint = 'db@^2'), { code: 'PLAN_UNKNOWN_BLUEPRINT', message: 'no version of "db" in ^2; the catalog has 1.0.0' }],
  ['a range that is none', (plan) => (plan['components'][1].blueprint = 'db@newest!'), { code: 'PLAN_UNKNOWN_BLUEPRINT', message: /newest!/ }],
  ['an unknown group', (plan) => (plan['components'][1].on = 'dat'), { code: 'PLAN_UNKNOWN_GROUP', path: 'components[1].on', message: 'no node group "dat" in this plan, did you mean "data"?' }],
  ['two groups of one name', (plan) => plan['nodes'].push({ name: 'web' }), { code: 'PLAN_DUPLICATE_NAME', path: 'nodes[2].name' }],
  ['two components of one name', (plan) => plan['components'].push({ name: 'base', blueprint: 'db', on: 'data' }), { code: 'PLAN_DUPLICATE_NAME', path: 'components[2].name', message: '"base" is the name of components[1] too' }],
  ['a component of Lichen itself', (plan) => plan['components'].push({ name: 'lichen', blueprint: 'db', on: 'data' }), { code: 'PLAN_RESERVED_NAME', path: 'components[2].name', message: /"lichen"/ }],
  ['a bad parameter', (plan) => (plan['components'][1].with = { port: 'x' }), { code: 'PLAN_BAD_PARAMETER', path: 'components[1].with.port', message: 'must be integer' }],
  ['an unknown parameter', (plan) => (plan['components'][1].with = { prot: 1 }), { code: 'PLAN_BAD_PARAMETER', path: 'components[1].with.prot', message: 'no such parameter, did you mean "port"?' }],
  ['a missing parameter', (plan) => delete plan['components'][0].with, { code: 'PLAN_BAD_PARAMETER', path: 'components[0].with.database', message: 'is required' }],
  ['a broken rule', (plan) => (plan['components'][1].with = { port: 13 }), { code: 'PLAN_RULE_BROKEN', path: 'components[1].with.port', message: 'base: 13 brings bad luck' }],
  ['a relation that the blueprint does not have', (plan) => (plan['components'][0].uses.stor = 'base'), { code: 'PLAN_UNKNOWN_RELATION', path: 'components[0].uses.stor', message: /did you mean "store"/ }],
  ['a relation to nothing', (plan) => (plan['components'][0].uses.store = 'nothing'), { code: 'PLAN_UNKNOWN_COMPONENT', path: 'components[0].uses.store', message: /^no component "nothing" in this plan/ }],
  ['a relation that is missing', (plan) => delete plan['components'][0].uses, { code: 'PLAN_MISSING_RELATION', path: 'components[0].uses.store', message: '"front" needs a component that provides "sql"' }],
  ['a relation of the wrong interface', (plan) => (plan['components'][0].uses.cache = 'base'), { code: 'PLAN_WRONG_INTERFACE', path: 'components[0].uses.cache', message: 'needs "cache", but "base" (db) provides "sql"' }],
  ['a component after nothing', (plan) => (plan['components'][1].after = ['nobody']), { code: 'PLAN_UNKNOWN_COMPONENT', path: 'components[1].after[0]' }],
  ['a circle', (plan) => (plan['components'][1].after = ['front']), { code: 'PLAN_CYCLE', message: /base → front → base|front → base → front/ }],
  ['a component after itself', (plan) => (plan['components'][1].after = ['base']), { code: 'PLAN_CYCLE', message: /base → base/ }],
  ['too few nodes', (plan) => (plan['nodes'][0].count = 3), { code: 'PLAN_TOO_FEW_NODES', path: 'nodes[0]', message: 'group "data" needs 3 nodes with role=data; 1 of 3 match' }],
  ['reserved characters', (plan) => (plan['components'][0].with.database = '⟦secret:base.front.store.password⟧'), { code: 'PLAN_SHAPE', path: 'components[0].with.database', message: 'the characters ⟦ and ⟧ are reserved' }],
]
for (const [what, change, problem] of cases) t.test(`${what} is reported with its path`, async (t) => t.match(problemsOf(change), [problem]))

t.test('problems of different kinds are reported together', async (t) => {
  const problems = problemsOf((plan) => {
    plan['components'][0].blueprint = 'nope'
    plan['components'][1].with = { port: 0 }
    plan['components'][1].on = 'nowhere'
    plan['nodes'][1].select = { role: 'none' }
  })
  t.strictSame(problems.map((problem) => problem.code).sort(), ['PLAN_BAD_PARAMETER', 'PLAN_TOO_FEW_NODES', 'PLAN_UNKNOWN_BLUEPRINT', 'PLAN_UNKNOWN_GROUP'])
})

t.test('lost and cordoned nodes are not chosen anew, and the message says so', async (t) => {
  const nodes = [makeNode('n1', { role: 'data' }, { state: 'lost' }), makeNode('n2', { role: 'web' })]
  t.match(problemsOf(() => undefined, nodes), [{ code: 'PLAN_TOO_FEW_NODES', message: /1 of 2 match, 1 of them lost or cordoned/ }])
})

t.test('a rule that cannot be evaluated is a problem of its expression', async (t) => {
  const catalog = makeCatalog([makeBlueprint('odd', 'rules: [{expression: params.x.y > 1, message: m}]\nactions: {a: {commands: [{name: n, note: {text: t}}]}}')])
  const plan = makePlan((draft) => draft['components'].push({ name: 'odd', blueprint: 'odd', on: 'data' }))
  t.match(checkPlan(plan, catalog, makeNodes()), [{ code: 'PLAN_EXPRESSION', path: 'components[2]', message: /rule 1 of blueprint "odd"/ }])
})

t.test('a rule sees of its providers what is settled with the plan, and nothing else', async (t) => {
  const provider = makeBlueprint('engine', `
parameters: {type: object, properties: {series: {type: string, default: '1'}}}
secrets: {key: {}}
provides: {engine: {interface: engine, outputs: {series: {type: string, value: params.series}, first: {type: string, value: 'nodes[0].address'}, key: {type: string, value: secrets.key}}}}
actions: {a: {commands: [{name: n, note: {text: t}}]}}`)
  const consumer = (expression: string) => makeBlueprint('car', `requires: {engine: {interface: engine, optional: true}}\nrules: [{expression: '${expression}', message: does not fit}]\nactions: {a: {commands: [{name: n, note: {text: t}}]}}`)
  const problemsWith = (expression: string, series: string, nodes: ReturnType<typeof makeNodes> | null = makeNodes()) =>
    checkPlan(makePlan((draft) => draft['components'].push({ name: 'engine', blueprint: 'engine', on: 'data', with: { series } }, { name: 'car', blueprint: 'car', on: 'data', uses: { engine: 'engine' } })), makeCatalog([provider, consumer(expression)]), nodes ?? undefined)
  t.match(problemsWith('uses.engine.series == "2"', '1'), [{ code: 'PLAN_RULE_BROKEN', path: 'components[3]', message: 'car: does not fit' }])
  t.strictSame(problemsWith('uses.engine.series == "2" && has(uses.engine.first) && !has(uses.engine.key)', '2'), [], 'a secret is none of it')
  t.strictSame(problemsWith('!has(uses.engine.first)', '2', null), [], 'nor are nodes that are not known')
})

t.test('a rule sees what its provider has of a provider of its own', async (t) => {
  const base = makeBlueprint('base', "parameters: {type: object, properties: {region: {type: string}}}\nprovides: {base: {interface: base, outputs: {region: {type: string, value: params.region}}}}\nactions: {a: {commands: [{name: n, note: {text: t}}]}}")
  const middle = makeBlueprint('middle', 'requires: {base: {interface: base}}\nprovides: {view: {interface: view, outputs: {region: {type: string, value: uses.base.region}}}}\nactions: {a: {commands: [{name: n, note: {text: t}}]}}')
  const top = makeBlueprint('top', "requires: {base: {interface: base}, view: {interface: view}, other: {interface: view, optional: true}}\nrules: [{expression: 'uses.view.region == uses.base.region && !has(uses.other)', message: another region}]\nactions: {a: {commands: [{name: n, note: {text: t}}]}}")
  const problemsWith = (of: string) =>
    checkPlan(makePlan((draft) => {
      // Consumers before their providers: the order of the plan is no order.
      draft['components'].push({ name: 'top', blueprint: 'top', on: 'data', uses: { base: 'north', view: 'middle' } }, { name: 'middle', blueprint: 'middle', on: 'data', uses: { base: of } })
      for (const name of ['north', 'south']) draft['components'].push({ name, blueprint: 'base', on: 'data', with: { region: name } })
    }), makeCatalog([base, middle, top]), makeNodes())
  t.strictSame(problemsWith('north'), [])
  t.match(problemsWith('south'), [{ code: 'PLAN_RULE_BROKEN', path: 'components[2]', message: 'top: another region' }])
})

t.test('ten thousand components are parsed and checked, and a chain of them is no danger to the stack', async (t) => {
  const components = Array.from({ length: 10_000 }, (_, index) => ({ name: `c${index}`, blueprint: 'db@^1', on: 'data', ...(index > 0 ? { after: [`c${index - 1}`] } : {}) }))
  const parsed = parsePlan(JSON.stringify({ ...makePlan(), components }))
  t.ok(parsed.ok)
  if (parsed.ok) t.strictSame(checkPlan(parsed.value, makeCatalog(), makeNodes()), [])
})

t.test('rules are asked about the components that are in order, also when others are not', async (t) => {
  const problems = problemsOf((plan) => {
    plan['components'][0].blueprint = 'nope'
    plan['components'][1].with = { port: 13 }
  })
  t.strictSame(problems.map((problem) => problem.code), ['PLAN_UNKNOWN_BLUEPRINT', 'PLAN_RULE_BROKEN'])
})

t.test('a flood of problems ends with their number, and costs no comparison of every name with every other', async (t) => {
  const problems = problemsOf((plan) => (plan['components'] = Array.from({ length: 3000 }, (_, index) => ({ name: `c${index}`, blueprint: 'db', on: 'data', after: [`missing-${index}`] }))))
  t.equal(problems.length, 101)
  t.match(problems[0], { code: 'PLAN_UNKNOWN_COMPONENT', path: 'components[0].after[0]' })
  t.match(problems.at(-1), { code: 'PLAN_UNKNOWN_COMPONENT', path: '', message: 'and 2900 more problems' })
})

t.test('a lost node that the deployment has already is no shortage', async (t) => {
  const nodes = makeNodes().map((node) => (node.id === 'n1' ? { ...node, state: 'lost' as const } : node))
  t.match(checkPlan(makePlan(), makeCatalog(), nodes), [{ code: 'PLAN_TOO_FEW_NODES' }])
  t.strictSame(checkPlan(makePlan(), makeCatalog(), nodes, { placement: { data: [nodeId('n1')] } }), [])
})
