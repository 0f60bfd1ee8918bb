import { isDeepStrictEqual } from 'node:util'
import { buildCatalog, buildGraph, buildInheritance, parsePlan, taskId, type ActionGraph, type Applied, type Catalog, type NodeRecord, type Plan } from '@lichen/core'
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

const byId = <T extends { readonly id: string }>(list: readonly T[]): Map<string, T> => new Map(list.map((entry) => [entry.id, entry]))

/** Four layers, each provides one interface and may use that of the layer below; with and without preflights, checks, per-relation actions, first nodes and waits of their own; in some a first node waits for all others. */
const catalog: Catalog = buildCatalog([0, 1, 2, 3].map((layer) => makeBlueprint(`layer-${layer}`, `
parameters: {type: object, additionalProperties: false, properties: {size: {type: integer, default: ${layer}}}}
secrets: {key: {}}
${layer > 0 ? `requires: {below: {interface: i${layer - 1}, optional: true, with: {who: '{{ component.name }}'}}}` : ''}
provides: {self: {interface: i${layer}, inputs: {type: object}, secrets: {token: {}}, outputs: {hosts: {type: list, value: 'nodes.map(n, n.address)'}, token: {type: string, value: relation.secrets.token}}${layer % 2 ? ', action: grant, removeAction: revoke' : ''}}}
actions:
  ${layer !== 1 ? 'preflight: {commands: [{name: f, note: {text: f}}]}' : ''}
  packages: {needs: [], commands: [{name: p, package: {names: [pk]}}]}
  init: {on: first, ${layer % 2 ? 'after: [], ' : ''}commands: [{name: i, run: {argv: [init], creates: /i, outputs: {id: {from: stdout}}}}]}
  join: {after: [packages, init], commands: [{name: j, note: {text: '{{ outputs.init.id }} {{ secrets.key }} {{ params.size }}${layer > 0 ? "{% if uses.below %} {{ uses.below.hosts | join }} {{ uses.below.token }}{% endif %}" : ''}'}}]}
  ${layer % 2 ? `grant: {on: relation, after: [init], commands: [{name: g, note: {text: '{{ relation.consumer }} {{ relation.secrets.token }}'}}]}
  revoke: {on: relation, phase: remove, perNode: true, after: [], commands: [{name: r, note: {text: r}}]}` : ''}
  ${layer > 1 ? `check: {${layer > 2 ? 'gate: true, ' : ''}commands: [{name: c, note: {text: c}}]}` : ''}
  ${layer > 2 ? 'whole: {phase: check, on: first, gate: true, commands: [{name: c, note: {text: c}}]}' : ''}
  ${layer > 0 ? `leave: {${layer % 2 ? 'serial: true, ' : ''}commands: [{name: l, note: {text: '{{ staying | map: "id" | join }}'}}]}` : ''}
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

const build = (plan: Plan, nodes: readonly NodeRecord[], kind: ActionGraph['kind'], placement?: ActionGraph['placement'], applied?: Applied): ActionGraph => {
  const built = buildGraph({ plan, catalog, nodes, kind, placement, applied })
  if (!built.ok) throw new Error(JSON.stringify(built.problems))
  return built.value
}

/** Actions that must have succeeded and gates that must be open before each action or gate. Throws when one stands before another that it waits for, or in a circle. */
function findAncestors(graph: ActionGraph): Map<string, Set<string>> {
  const ancestors = new Map<string, Set<string>>()
  const lists = [[...graph.actions], [...graph.gates]]
  for (;;) {
    const next = lists.find((list) => list[0]?.after.every((id) => ancestors.has(id)))?.shift()
    if (next) ancestors.set(next.id, new Set(next.after.flatMap((id) => [id, ...ancestors.get(id)!])))
    else if (lists.every((list) => list.length === 0)) return ancestors
    else throw new Error(`${lists.map((list) => list[0]?.id).join(' and ')} stand before what they wait for`)
  }
}

/** What waits for no provider. */
const isEarly = (name: string): boolean => name === 'packages' || name === 'preflight'

/** What an apply promises of preflights, as [who waits, for whom, whether it does]. Where some actions may fail, nodes do not wait for each other. */
function listPreflightPromises(graph: ActionGraph): [string, string, boolean][] {
  const ancestors = findAncestors(graph)
  const [looks, others] = [graph.actions.filter(({ name }) => name === 'preflight'), graph.actions.filter(({ name, verifies }) => name !== 'preflight' && verifies.length === 0)]
  const isTolerant = graph.rollout.maxFailures !== 0
  return [
    ...looks.map((look): [string, string, boolean] => [look.id, 'nothing', [...ancestors.get(look.id)!].every((id) => id.startsWith('lichen/verify'))]),
    ...others.flatMap((action) => looks.filter(({ node, unchanged }) => unchanged === null && (!isTolerant || node === action.node)).map((look): [string, string, boolean] => [action.id, look.id, ancestors.get(action.id)!.has(look.id)])),
  ]
}

/** Every promise of order between components, as [who waits, for whom, whether it does]. */
function listPromises(plan: Plan, graph: ActionGraph): [string, string, boolean][] {
  const ancestors = findAncestors(graph)
  const of = (component: string) => graph.actions.filter((action) => action.component === component)
  const isPerRelation = (name: string) => name.includes(':')
  return plan.components.flatMap((component) =>
    [...Object.values(component.uses ?? {}), ...(component.after ?? [])].flatMap((provider) => {
      const [first, then] = graph.kind === 'destroy' ? [component.name, provider] : [provider, component.name]
      const waiting = of(then).filter((action) => !isPerRelation(action.name) && (graph.kind === 'destroy' || !isEarly(action.name)))
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
      const promises = kind === 'check' ? [] : [...listPromises(plan, graph), ...(kind === 'apply' ? listPreflightPromises(graph) : [])]
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

/** The same plan with waves, approvals and limits. */
function addRollout(plan: Plan, size: number, random: (below: number) => number): Plan {
  const waves = [{ nodes: size, approve: random(2) === 0, ...(random(2) ? { maxFailures: random(3) } : {}) }]
  const components = plan.components.map((component) => (random(3) === 0 ? { ...component, approve: true } : component))
  const parsed = parsePlan({ ...plan, components, rollout: { waves, ...(random(3) === 0 ? { by: 'zone' } : {}) } })
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.problems))
  return parsed.value
}

/** What waves and approvals promise, as [what, whether it holds]. Without failure domains, where the wave of a node is plain from its place. */
function listRolloutPromises(plan: Plan, graph: ActionGraph, size: number): [string, boolean][] {
  const ancestors = findAncestors(graph)
  const isBefore = (gate: string, id: string) => ancestors.get(id)!.has(gate)
  const gates = new Set<string>(graph.gates.map(({ id }) => id))
  return plan.components.flatMap((component): [string, boolean][] => {
    const own = graph.actions.filter((action) => action.component === component.name && action.name !== 'preflight')
    const approval = own.map((action): [string, boolean] => [`${action.id} waits for the approval`, isBefore(`${component.name}/approval`, action.id)])
    const placed = graph.placement[component.on]!
    const last = Math.ceil(placed.length / size)
    const inWaves = own.filter((action) => !/^(init|grant|whole)/.test(action.name)).flatMap((action): [string, boolean][] => {
      const wave = Math.floor(placed.indexOf(action.node) / size) + 1
      const isLate = action.name !== 'packages' && !action.name.includes(':wave-') && component.blueprint.endsWith('2') // its first node waits for all packages
      const behind = wave === 1 ? [] : [[`${action.id} waits for wave ${wave - 1}`, isBefore(`${component.name}/wave-${wave - 1}`, action.id)] as [string, boolean]]
      return wave === last || isLate || component.blueprint.endsWith('0') && action.name === 'join' ? behind : [...behind, [`wave ${wave} ends after ${action.id}`, isBefore(action.id, `${component.name}/wave-${wave}`)]]
    })
    const whole = component.blueprint.endsWith('3') ? Array.from({ length: last - 1 }, (_, index): [string, boolean] => [`wave ${index + 1} of ${component.name} is checked as a whole`, isBefore(`${component.name}/whole:wave-${index + 1}@${placed[0]}`, `${component.name}/wave-${index + 1}`)]) : []
    const count = [...gates].filter((id) => id.startsWith(`${component.name}/wave-`)).length
    return [...(component.approve ? approval : []), ...inWaves, ...whole, [`${component.name} has ${last - 1} gates between waves, not ${count}`, count === last - 1]]
  })
}

t.test('waves and approvals add to the order and take nothing from it', async (t) => {
  let kept = 0
  for (let seed = 1; seed <= 150; seed++) {
    const { plan, nodes, random } = makeCase(seed)
    const size = 1 + random(3)
    const rolled = addRollout(plan, size, random)
    const graph = build(rolled, nodes, 'apply')
    const ancestors = findAncestors(graph)
    const plain = build(plan, nodes, 'apply')
    for (const [id, before] of findAncestors(plain)) {
      if (!ancestors.has(id)) continue // a barrier that is not needed any more
      const lost = [...before].filter((other) => other.includes('@') && !other.includes('/preflight@') && !ancestors.get(id)!.has(other))
      if (lost.length > 0) t.fail(`seed ${seed}: ${id} no longer waits for ${lost.join(', ')}`)
    }
    if (!plain.actions.every(({ id }) => ancestors.has(id))) t.fail(`seed ${seed}: an action is gone`)
    const promises = rolled.rollout?.by === undefined ? listRolloutPromises(rolled, graph, size) : []
    const early = listPreflightPromises(graph).filter(([, , isKept]) => !isKept)
    if (early.length > 0) t.fail(`seed ${seed}: who does not wait for a look`, { early: early.slice(0, 5) })
    const broken = promises.filter(([, isKept]) => !isKept)
    kept += promises.length - broken.length
    if (broken.length > 0) t.fail(`seed ${seed}, waves of ${size}`, { broken: broken.slice(0, 5) })
    const ids = [...graph.actions, ...graph.gates].map(({ id }) => id)
    if (new Set(ids).size !== ids.length) t.fail(`seed ${seed}: an id stands twice`)
    const again = build({ ...rolled, components: shuffle(rolled.components, random), nodes: shuffle(rolled.nodes, random) }, shuffle(nodes, random), 'apply')
    if (again.digest !== graph.digest || JSON.stringify([again.actions, again.gates]) !== JSON.stringify([graph.actions, graph.gates])) t.fail(`seed ${seed}: another order of the input gives another graph`)
  }
  t.ok(kept > 2000, `${kept} promises looked at`)
})

t.test('whatever part of a deployment is applied already, only that is unchanged, and its checks come first', async (t) => {
  for (let seed = 1; seed <= 60; seed++) {
    const { plan, nodes, random } = makeCase(seed)
    const rolled = addRollout(plan, 2, random)
    const graph = build(rolled, nodes, 'apply')
    const applied = new Map(shuffle(graph.actions, random).filter(() => random(3) > 0).map((action) => [action.id, { key: random(4) === 0 ? 'another' : action.key, task: taskId('t-1'), outputs: {} }]))
    const again = build(rolled, nodes, 'apply', undefined, applied)
    const looks = new Set(again.actions.filter((action) => action.verifies.length > 0).map(({ id }) => id))
    const withoutLooks = again.gates.map((gate) => ({ ...gate, after: gate.after.filter((id) => !looks.has(id)) }))
    const passed = new Set(again.actions.filter(({ name, unchanged }) => name === 'preflight' && unchanged !== null).map(({ id }) => id))
    const planned = graph.gates.map((gate) => (gate.id.startsWith('lichen/preflight') ? { ...gate, after: gate.after.filter((id) => !passed.has(id)) } : gate))
    const early = listPreflightPromises(again).filter(([, , isKept]) => !isKept)
    if (early.length > 0) t.fail(`seed ${seed}: who does not wait for a look`, { early: early.slice(0, 5) })
    if (!isDeepStrictEqual(byId(withoutLooks), byId(planned))) t.fail(`seed ${seed}: gates moved`)
    for (const gate of again.gates) {
      const next = new Set(again.actions.filter((action) => action.after.includes(gate.id)).flatMap((action) => action.unchanged?.check ?? []))
      if (gate.approve && ![...next].every((id) => gate.after.includes(id))) t.fail(`seed ${seed}: ${gate.id} asks before it is known whether there is anything to approve`)
    }
    const ancestors = findAncestors(again)
    const verified = new Map(again.actions.flatMap((action) => action.verifies.map((each) => [each.action as string, action.id as string])))
    for (const action of again.actions) {
      if (action.unchanged && (applied.get(action.id)?.key !== action.key || action.unchanged.check !== (verified.get(action.id) ?? null))) t.fail(`seed ${seed}: ${action.id} is not unchanged`)
      if (action.unchanged?.check && !ancestors.get(action.id)!.has(action.unchanged.check)) t.fail(`seed ${seed}: ${action.id} does not wait for its check`)
      if (action.component === 'lichen' && (action.after.length > 0 || action.commands.length !== action.verifies.reduce((sum, each) => sum + each.commands, 0))) t.fail(`seed ${seed}: ${action.id} is no check of unchanged actions`)
    }
    const same = build(rolled, shuffle(nodes, random), 'apply', undefined, new Map(shuffle([...applied], random)))
    if (JSON.stringify(same.actions) !== JSON.stringify(again.actions) || same.digest !== again.digest) t.fail(`seed ${seed}: another order of what is applied gives another graph`)
  }
  t.pass('60 plans')
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

/** The plan without some of its components, on fewer nodes. */
function shrink(plan: Plan, random: (below: number) => number): Plan {
  const dropped = new Set(plan.components.filter(() => random(4) === 0).map(({ name }) => name))
  const kept = plan.components.filter(({ name }) => !dropped.has(name))
  const components = (kept.length > 0 ? kept : plan.components).map(({ uses, after, ...component }) => ({
    ...component,
    ...(uses?.['below'] !== undefined && (kept.length === 0 || !dropped.has(uses['below'])) && { uses }),
    after: (after ?? []).filter((name) => kept.length === 0 || !dropped.has(name)),
  }))
  return { ...plan, components, nodes: plan.nodes.map((group) => (group.name === 'one' ? group : { ...group, count: 1 + random(2) })) }
}

t.test('what leaves goes after all that stays, users before what they used, for 60 random plans that shrink twice', async (t) => {
  let promises = 0
  for (let seed = 1; seed <= 60; seed++) {
    const { plan, nodes, random } = makeCase(seed)
    const plans = [plan, shrink(plan, random)]
    plans.push(shrink(plans[1]!, random))
    let before: ActionGraph | undefined
    let applied: Applied = new Map()
    for (const [index, next] of plans.entries()) {
      const footprint = before && { plan: JSON.stringify(plans[index - 1]), placement: before.placement, nodes: before.known?.nodes ?? {}, departures: before.departures ?? [], isDestroyed: false }
      const input = { plan: next, catalog, nodes, kind: 'apply' as const, placement: before?.placement, applied, inheritance: buildInheritance(footprint, applied) }
      const built = buildGraph(input)
      if (!built.ok) throw new Error(`seed ${seed}: ${JSON.stringify(built.problems)}`)
      const graph = built.value
      const ancestors = findAncestors(graph)
      const ids = [...graph.actions, ...graph.gates].map(({ id }) => id)
      if (new Set(ids).size !== ids.length) t.fail(`seed ${seed}: an id stands twice`)
      const leaving = graph.actions.filter(({ isDeparture }) => isDeparture)
      const stays = graph.actions.filter((action) => !action.isDeparture && !action.name.includes(':'))
      for (const action of leaving) {
        const missing = stays.filter(({ id }) => !ancestors.get(action.id)!.has(id) && !ancestors.get(action.id)!.has('lichen/departures'))
        if (missing.length > 0) t.fail(`seed ${seed}: ${action.id} does not wait for ${missing[0]!.id}`)
        promises += 1
      }
      const had = plans[index - 1]
      for (const component of had?.components ?? []) {
        for (const provider of [...Object.values(component.uses ?? {}), ...(component.after ?? [])]) {
          for (const used of leaving.filter((action) => action.component === provider && !action.name.includes(':'))) {
            const user = leaving.filter((action) => action.component === component.name && action.node === used.node && !action.name.includes(':'))
            // Those of an older plan are other nodes, unless the component moved.
            const isOfNewest = graph.departures?.[0]?.departures.filter((departure) => departure.actions.includes(used.id) || departure.actions.some((id) => user.some((action) => action.id === id))).length === 2
            if (isOfNewest) for (const action of user) if (!ancestors.get(used.id)!.has(action.id)) t.fail(`seed ${seed}: ${used.id} does not wait for ${action.id}`)
          }
        }
      }
      const again = buildGraph({ ...input, plan: { ...next, components: shuffle(next.components, random) }, nodes: shuffle(nodes, random) })
      if (!again.ok || again.value.digest !== graph.digest) t.fail(`seed ${seed}: another order of the input gives another graph`)
      // Half of what left succeeds, so that the next apply has to go on with the rest.
      applied = new Map(graph.actions.filter((action) => !action.isDeparture || random(2) === 0).map(({ id, key }) => [id, { key, task: taskId('t-1'), outputs: { id: 'x' } }]))
      before = graph
    }
  }
  t.ok(promises > 500, `${promises} departures looked at`)
})
