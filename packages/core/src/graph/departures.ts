/** What leaves a deployment: pairs of component and node that it had and that its new plan does not have. Costs the components and, for each two groups, their nodes. */
import type { NodeId } from '../ids.js'
import type { Placement } from '../plan/choose-nodes.js'
import type { Plan } from '../plan/plan-schema.js'
import type { ActionGraph, Departure, FormerPlan, TaskKind } from './action-graph.js'
import type { Inheritance } from './inheritance.js'

/** A departure before its actions are known. */
export type Leaving = Omit<Departure, 'actions'>

/** What leaves of one former plan. */
export interface LeavingPlan extends Omit<FormerPlan, 'departures'> {
  readonly departures: readonly Leaving[]
}

/** What leaves with a task of this plan on these nodes, newest plan first. Checks and operations take nothing away; a destroy goes on with what was leaving. */
export function findLeaving(inheritance: Inheritance | undefined, plan: Plan, placement: Placement, kind: TaskKind): readonly LeavingPlan[] {
  if (inheritance === undefined || kind === 'check' || kind === 'operation') return []
  const now = new PlacedComponents(plan, placement)
  const older = inheritance.leaving.flatMap((former) => keepLeaving(former, former.departures.flatMap((departure) => now.withoutStaying(departure))))
  const { plan: last, before } = inheritance
  if (kind === 'destroy' || last === null || before === null) return older
  const newest = last.components.flatMap(({ name, on }) => {
    const nodes = now.listLeft(name, on, Object.hasOwn(before.placement, on) ? before.placement[on]! : [])
    return nodes.length === 0 ? [] : [{ component: name, nodes, isWhole: !now.has(name), done: [] }]
  })
  return [...keepLeaving({ plan: last, placement: before.placement }, newest), ...older]
}

/** The components of a plan and where they are. */
class PlacedComponents {
  readonly #on: ReadonlyMap<string, string>
  readonly #sets: ReadonlyMap<string, ReadonlySet<NodeId>>
  /** By the two groups: components of the same group leave the same nodes. */
  readonly #left = new Map<string, readonly NodeId[]>()

  constructor(plan: Plan, placement: Placement) {
    this.#on = new Map(plan.components.map(({ name, on }) => [name, on]))
    this.#sets = new Map(Object.entries(placement).map(([group, nodes]) => [group, new Set(nodes)]))
  }

  has(component: string): boolean {
    return this.#on.has(component)
  }

  /** Of the nodes that the component had by its group of then: those that it has no more. */
  listLeft(component: string, group: string, nodes: readonly NodeId[]): readonly NodeId[] {
    const on = this.#on.get(component)
    if (on === undefined) return nodes
    const key = `${group} ${on}`
    const known = this.#left.get(key)
    if (known !== undefined) return known
    const left = this.#without(on, nodes)
    this.#left.set(key, left)
    return left
  }

  /** The departure without the nodes that the component has again. */
  withoutStaying(departure: Departure): Leaving[] {
    const { component, nodes, isWhole, done } = departure
    const on = this.#on.get(component)
    if (on === undefined) return [{ component, nodes, isWhole, done }]
    const left = this.#without(on, nodes)
    return left.length === 0 ? [] : [{ component, nodes: left, isWhole: false, done }]
  }

  #without(group: string, nodes: readonly NodeId[]): readonly NodeId[] {
    const staying = this.#sets.get(group)
    return nodes.filter((node) => staying?.has(node) !== true)
  }
}

function keepLeaving({ plan, placement }: Pick<FormerPlan, 'plan' | 'placement'>, departures: readonly Leaving[]): LeavingPlan[] {
  if (departures.length === 0) return []
  const kept = trimPlan(plan, departures)
  const groups = new Set(kept.nodes.map(({ name }) => name))
  return [{ plan: kept, placement: Object.fromEntries(Object.entries(placement).filter(([group]) => groups.has(group))), departures }]
}

/** The part of a plan that tells how to take these components away: themselves, who uses those that go altogether, and the providers of all of them. */
function trimPlan(plan: Plan, departures: readonly Leaving[]): Plan {
  const whole = new Set(departures.filter(({ isWhole }) => isWhole).map(({ component }) => component))
  const byName = new Map(plan.components.map((component) => [component.name, component]))
  const users = plan.components.filter(({ uses }) => Object.values(uses ?? {}).some((provider) => whole.has(provider))).map(({ name }) => name)
  const kept = new Set([...departures.map(({ component }) => component), ...users])
  for (const name of kept) for (const provider of Object.values(byName.get(name)?.uses ?? {})) kept.add(provider)
  const components = plan.components.filter(({ name }) => kept.has(name)).map(({ after, approve: _approve, ...component }) => ({ ...component, ...(after && { after: after.filter((name) => kept.has(name)) }) }))
  const groups = new Set(components.map(({ on }) => on))
  return { apiVersion: plan.apiVersion, kind: plan.kind, metadata: plan.metadata, nodes: plan.nodes.filter(({ name }) => groups.has(name)).map(({ rollout: _rollout, ...group }) => group), components }
}

/** Component → the nodes that it leaves with this task, in order, each once. */
export function collectLeft(plans: readonly { readonly departures: readonly Pick<Departure, 'component' | 'nodes'>[] }[]): ReadonlyMap<string, readonly NodeId[]> {
  const left = new Map<string, readonly NodeId[]>()
  for (const { departures } of plans) for (const { component, nodes } of departures) left.set(component, left.has(component) ? [...new Set([...left.get(component)!, ...nodes])] : nodes)
  return left
}

/**
 * Which of the recorded successes tell nothing any more because of what leaves: those of its components on its nodes, and those of providers that prepared themselves
 * for a component that goes altogether. Should it come back, everything runs.
 */
export function findForgotten<Entry extends { readonly action: string; readonly node: NodeId }>({ departures = [] }: Pick<ActionGraph, 'departures'>, applied: Iterable<Entry>): Entry[] {
  if (departures.length === 0) return []
  const left = new Map([...collectLeft(departures)].map(([component, nodes]) => [component, new Set(nodes)]))
  const whole = new Set(departures.flatMap((former) => former.departures.filter(({ isWhole }) => isWhole).map(({ component }) => component)))
  const own = new Set(departures.flatMap((former) => former.departures.flatMap(({ actions }) => actions as readonly string[])))
  return [...applied].filter(({ action, node }) => {
    if (own.has(action)) return false
    // `db/grant:keystone.database@node-1`: names of components have neither of the marks.
    const [, component, consumer] = /^([^/]+)\/[^:@]+(?::([^.@]+)\.)?/.exec(action) ?? []
    return left.get(component ?? '')?.has(node) === true || (consumer !== undefined && whole.has(consumer))
  })
}
