// Rotation: the next version of a secret, named by the graph, so that exactly what names it is new.
import { buildCatalog, buildGraph, buildInheritance, listSecrets, resolveComponents, taskId, type ActionGraph, type Applied, type Footprint, type GraphInput, type Plan, type Problem, type RotationRequest } from '@lichen/core'
import t from 'tap'
import { makeBlueprint, makeCatalog, makeNode, makePlan, type PlanDraft } from './plan-fixture.js'

const note = '[{name: n, note: {text: x}}]'
const catalog = makeCatalog([
  makeBlueprint('vault', `secrets: {key: {length: 40, rotate: false}}\nactions: {write: {commands: [{name: w, file: {path: /v, content: '{{ secrets.key }}', secret: true}}]}, remove: {commands: ${note}}}`),
  makeBlueprint('plain', `actions: {write: {commands: ${note}}, remove: {commands: ${note}}}`),
])
const nodes = [makeNode('n1', { role: 'db' })]
const makeShop = (change: (draft: PlanDraft) => void = () => undefined): Plan =>
  makePlan((draft) => {
    draft['nodes'] = [{ name: 'all' }]
    draft['components'] = [
      { name: 'db', blueprint: 'db', on: 'all' }, { name: 'shop', blueprint: 'app', on: 'all', with: { database: 'shop' }, uses: { store: 'db' } },
      { name: 'blog', blueprint: 'app', on: 'all', with: { database: 'blog' }, uses: { store: 'db' } }, { name: 'safe', blueprint: 'vault', on: 'all' },
    ]
    change(draft)
  })
const plan = makeShop()
const base = taskId('t-1')
const rotate = (secrets: readonly string[] | null = null): RotationRequest => ({ base, secrets })
const tryBuild = (more: Partial<GraphInput> = {}, of: Plan = plan) => buildGraph({ plan: of, catalog, nodes, kind: 'apply', ...more })
function build(more: Partial<GraphInput> = {}, of: Plan = plan): ActionGraph {
  const built = tryBuild(more, of)
  if (!built.ok) throw new Error(JSON.stringify(built.problems))
  return built.value
}
function problemsOf(secrets: readonly string[] | null, of: Plan = plan): readonly Problem[] {
  const built = tryBuild({ rotation: rotate(secrets) }, of)
  return built.ok ? [] : built.problems
}
const appliedOf = ({ actions }: ActionGraph): Applied => new Map(actions.map(({ id, key }) => [id, { key, task: base, outputs: {} }]))
function after(graph: ActionGraph, change: Partial<Footprint> = {}, of: Plan = plan): Partial<GraphInput> {
  const { placement, secretVersions } = graph
  const footprint: Footprint = { plan: JSON.stringify(of), placement, nodes: {}, departures: [], isDestroyed: false, ...(secretVersions && { secretVersions }), ...change }
  return { placement, applied: change.isDestroyed ? new Map() : appliedOf(graph), inheritance: buildInheritance(footprint, new Map()) }
}
const running = (graph: ActionGraph): string[] => graph.actions.filter(({ unchanged, verifies }) => unchanged === null && verifies.length === 0).map(({ id }) => id).sort()
const namesOf = (graph: ActionGraph): string[] => graph.secrets.map(({ name }) => name)
const first = build()

t.test('one secret gets its next version, and exactly what names it runs', async (t) => {
  t.same(namesOf(first), ['blog.key', 'db.blog.store.password', 'db.shop.store.password', 'safe.key', 'shop.key'])
  t.equal(first.secretVersions, undefined, 'a deployment that was never rotated has the graphs of before')
  t.same(running(build(after(first))), [])
  const second = build({ ...after(first), rotation: rotate(['shop.key']) })
  t.same(namesOf(second), ['blog.key', 'db.blog.store.password', 'db.shop.store.password', 'safe.key', 'shop.key@2'])
  t.same(second.secretVersions, { 'shop.key': 2 })
  t.same(running(second), ['shop/configure@n1'])
  t.match(JSON.stringify(second.actions.find(({ id }) => id === 'shop/configure@n1')?.commands), /⟦secret:shop\.key@2⟧/)
  t.equal(second.secrets.find(({ name }) => name === 'shop.key@2')?.length, first.secrets.find(({ name }) => name === 'shop.key')?.length)
})

t.test('later tasks mean the version of then: nothing is new, and the next rotation counts on', async (t) => {
  const second = build({ ...after(first), rotation: rotate(['shop.key', 'db.blog.store.password']) })
  const again = build(after(second))
  t.same(running(again), [])
  t.same(again.secretVersions, second.secretVersions)
  t.same(namesOf(build({ ...after(second), kind: 'destroy' })), namesOf(second))
  const third = build({ ...after(again), rotation: rotate(['shop.key']) })
  t.same(third.secretVersions, { 'db.blog.store.password': 2, 'shop.key': 3 })
  t.same(running(third), ['shop/configure@n1'])
  const anew = build(after(third, { isDestroyed: true }))
  t.same(anew.secretVersions, third.secretVersions, 'what was rotated away does not come back with a deployment that is made anew')
})

t.test('without names all are rotated but those that are fixed', async (t) => {
  const second = build({ ...after(first), rotation: rotate() })
  t.same(namesOf(second), ['blog.key@2', 'db.blog.store.password@2', 'db.shop.store.password@2', 'safe.key', 'shop.key@2'])
  t.same(running(second), ['blog/configure@n1', 'shop/configure@n1'])
})

t.test('a component that is left out for a while keeps the versions of its secrets', async (t) => {
  const second = build({ ...after(first), rotation: rotate(['blog.key']) })
  const smaller = makeShop((draft) => (draft['components'] = (draft['components'] as { name: string }[]).filter(({ name }) => name !== 'blog')))
  const without = build({ ...after(second) }, smaller)
  t.same(without.secretVersions, { 'blog.key': 2 })
  t.same(build(after(without, {}, smaller)).secrets.find(({ name }) => name.startsWith('blog.key')), { name: 'blog.key@2', length: 32 })
})

t.test('what leaves goes with the values it has', async (t) => {
  const smaller = makeShop((draft) => (draft['components'] = (draft['components'] as { name: string }[]).filter(({ name }) => name !== 'blog')))
  const leaving = build({ ...after(first), rotation: rotate() }, smaller)
  t.ok(leaving.departures, 'blog leaves')
  t.same(leaving.secretVersions, { 'db.shop.store.password': 2, 'shop.key': 2 })
})

t.test('every name that cannot be rotated is told, with its place', async (t) => {
  t.match(problemsOf(['shop.kex', 'safe.key', 'shop.key']), [
    { code: 'SECRET_UNKNOWN', path: 'secrets[0]', message: /no secret "shop\.kex" in this deployment, did you mean "shop\.key"\?/ },
    { code: 'SECRET_FIXED', path: 'secrets[1]', message: /"safe\.key" keeps its value/ },
  ])
  const bare = makePlan((draft) => {
    draft['nodes'] = [{ name: 'all' }]
    draft['components'] = [{ name: 'one', blueprint: 'plain', on: 'all' }]
  })
  t.match(problemsOf(null, bare), [{ code: 'SECRET_UNKNOWN', path: 'secrets', message: /has no secrets that can be rotated/ }])
})

t.test('the secrets of a plan are listed with their versions', async (t) => {
  const { components } = resolveComponents(plan, catalog)
  t.same(listSecrets(components, { 'shop.key': 3 }), [
    { name: 'blog.key', version: 1, isFixed: false }, { name: 'db.blog.store.password', version: 1, isFixed: false }, { name: 'db.shop.store.password', version: 1, isFixed: false },
    { name: 'safe.key', version: 1, isFixed: true }, { name: 'shop.key', version: 3, isFixed: false },
  ])
  t.same(listSecrets(components, undefined).map(({ name }) => name), namesOf(first), 'those that a graph names')
  t.same(listSecrets(resolveComponents(plan, buildCatalog([])).components, undefined), [])
})
