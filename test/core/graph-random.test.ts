import { buildCatalog, buildGraph, parsePlan, type ActionGraph, type Catalog, type NodeRecord, type Plan } from '@lichen/core'
import t from 'tap'
import { makeBlueprint, makeNode, type PlanDraft } from './plan-fixture.js'

/** Marsaglia's xorshift32: the same numbers for the same seed everywhere. */
function makeRandom(seed: number): (below: number) => number {
  let state = seed * 2654435761 + 1
  return (below) => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>> 0) % below
  }
}

const shuffle = <T>(list: readonly T[], random: (below: number) => number): T[] => list.map((entry) => [random(1 << 30), entry] as const).sort((a, b) => a[0] - b[0]).map(([, entry]) => entry)

/** Four layers, each provides one interface and may use that of the layer below; with and without checks, per-relation actions, first nodes and waits of their own. */
const catalog: Catalog = buildCatalog([0, 1, 2, 3].map((layer) => makeBlueprint(`layer-${layer}`, `
parameters: {type: object, additionalProperties: false, properties: {size: {type: integer, default: ${layer}}}}
secrets: {key: {}}
${layer > 0 ? `requires: {below: {interface: i${layer - 1}, optional: true, with: {who: '{{ component.name }}'}}}` : ''}
provides: {self: {interface: i${layer}, inputs: {type: object}, secrets: {token: {}}, outputs: {hosts: {type: list, value: 'nodes.map(n, n.address)'}, token: {type: string, value: relation.secrets.token}}${layer % 2 ? ', action: grant, removeAction: revoke' : ''}}}
actions:
  packages: {needs: [], commands: [{name: p, package: {names: [pk]}}]}
  init: {on: first, commands: [{name: i, run: {argv: [init], creates: /i, outputs: {id: {from: stdout}}}}]}
  join: {commands: [{name: j, note: {text: '{{ outputs.init.id }} {{ secrets.key }} {{ params.size }}${layer > 0 ? "{% if uses.below %} {{ uses.below.hosts | join }} {{ uses.below.token }}{% endif %}" : ''}'}}]}
  ${layer % 2 ? `grant: {on: relation, after: [init], commands: [{name: g, note: {text: '{{ relation.consumer }} {{ relation.secrets.token }}'}}]}
  revoke: {on: relation, phase: remove, after: [], commands: [{name: r, note: {text: r}}]}` : ''}
  ${layer > 1 ? 'check: {commands: [{name: c, note: {text: c}}]}' : ''}
  remove: {commands: [{name: r, note: {text: r}}]}
`)))

function makeCase(seed: number): { plan: Plan; nodes: readonly NodeRecord[]; random: (below: number) => number } {
  const random = makeRandom(seed)
  const nodes = Array.from({ length: 3 + random(5) }, (_, index) => makeNode(`n${index}`, { zone: `z${random(2)}` }))
  const groups = [{ name: 'all' }, { name: 'two', count: 2 }, { name: 'one', count: 1 }]
  const components: PlanDraft[] = Array.from({ length: 1 + random(12) }, (_, index) => ({ name: `c${index}`, blueprint: `layer-${random(4)}`, on: groups[random(3)]!.name }))
  components.forEach((component, index) => {
    const layer = Number((component['blueprint'] as string).slice(-1))
    const below = components.filter((other) => other['blueprint'] === `layer-${layer - 1}`)
    if (below.length > 0 && random(3) > 0) component['uses'] = { below: below[random(below.length)]!['name'] }
    // Only to earlier ones of the same layer or a lower one: relations go down, so there is no circle.
    const earlier = components.slice(0, index).filter((other) => Number((other['blueprint'] as string).slice(-1)) <= layer)
    if (earlier.length > 0 && random(4) === 0) component['after'] = [earlier[random(earlier.length)]!['name']]
  })
  const parsed = parsePlan({ apiVersion: 'lichen.dev/v1', kind: 'DeploymentPlan', metadata: { name: 'random' }, nodes: groups, components })
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.problems))
  return { plan: parsed.value, nodes, random }
}

const build = (plan: Plan, nodes: readonly NodeRecord[], kind: ActionGraph['kind'], placement?: ActionGraph['placement']): ActionGraph => {
  const built = buildGraph({ plan, catalog, nodes, kind, placement })
  if (!built.ok) throw new Error(JSON.stringify(built.problems))
  return built.value
}

/** Everything that must have succeeded before each action. Throws when an action stands before one it waits for. */
function findAncestors(graph: ActionGraph): Map<string, Set<string>> {
  const ancestors = new Map<string, Set<string>>()
  for (const action of graph.actions) {
    ancestors.set(action.id, new Set(action.after.flatMap((id) => {
      const before = ancestors.get(id)
      if (!before) throw new Error(`${action.id} stands before ${id}`)
      return [id, ...before]
    })))
  }
  return ancestors
}

/** Every promise of order between components, as [who waits, for whom, whether it does]. */
function listPromises(plan: Plan, graph: ActionGraph): [string, string, boolean][] {
  const ancestors = findAncestors(graph)
  const of = (component: string) => graph.actions.filter((action) => action.component === component)
  const isPerRelation = (name: string) => name.includes(':')
  return plan.components.flatMap((component) =>
    [...Object.values(component.uses ?? {}), ...(component.after ?? [])].flatMap((provider) => {
      const [first, then] = graph.kind === 'destroy' ? [component.name, provider] : [provider, component.name]
      const waiting = of(then).filter((action) => !isPerRelation(action.name) && (graph.kind === 'destroy' || action.name !== 'packages'))
      const awaited = of(first).filter((action) => !isPerRelation(action.name) || action.name.endsWith(`:${component.name}.below`))
      return waiting.flatMap((action) => awaited.filter((other) => !(isPerRelation(other.name) && graph.kind === 'destroy')).map((other): [string, string, boolean] => [action.id, other.id, ancestors.get(action.id)!.has(other.id)]))
    }),
  )
}

t.test('random plans keep their promises of order, and their graphs depend on content alone', async (t) => {
  let kept = 0
  for (let seed = 1; seed <= 150; seed++) {
    const { plan, nodes, random } = makeCase(seed)
    for (const kind of ['apply', 'check', 'destroy'] as const) {
      const graph = build(plan, nodes, kind)
      const promises = kind === 'check' ? [] : listPromises(plan, graph)
      const broken = promises.filter(([, , isKept]) => !isKept)
      kept += promises.length - broken.length
      if (broken.length > 0) t.fail(`seed ${seed}, ${kind}`, { broken: broken.slice(0, 5) })
      if (new Set(graph.actions.map((action) => action.id)).size !== graph.actions.length) t.fail(`seed ${seed}, ${kind}: an id stands twice`)
      const other = { ...plan, components: shuffle(plan.components, random), nodes: shuffle(plan.nodes, random) }
      const again = build(other, shuffle(nodes, random), kind)
      if (again.digest !== graph.digest || JSON.stringify(again.actions) !== JSON.stringify(graph.actions)) t.fail(`seed ${seed}, ${kind}: another order of the input gives another graph`)
      if (build(plan, nodes, kind, graph.placement).digest !== graph.digest) t.fail(`seed ${seed}, ${kind}: planning again after itself moves something`)
    }
  }
  t.ok(kept > 10_000, `${kept} promises looked at`)
})

t.test('a node more changes no action on the nodes that were there, beyond what they are told of it', async (t) => {
  for (let seed = 1; seed <= 40; seed++) {
    const { plan, nodes } = makeCase(seed)
    const before = build(plan, nodes, 'apply')
    const after = new Map(build(plan, [...nodes, makeNode('n99')], 'apply', before.placement).actions.map((action) => [action.id, action]))
    for (const action of before.actions.filter(({ name }) => name === 'packages' || name === 'init')) if (JSON.stringify(after.get(action.id)?.commands) !== JSON.stringify(action.commands)) t.fail(`seed ${seed}: ${action.id} moved`)
  }
  t.pass('40 plans')
})
