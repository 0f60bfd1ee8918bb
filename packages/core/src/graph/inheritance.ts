/** What a task inherits from earlier ones of its deployment: what they had applied where, and what they had not yet taken away completely. */
import type { ActionId } from '../ids.js'
import type { Placement } from '../plan/choose-nodes.js'
import type { Plan } from '../plan/plan-schema.js'
import type { SecretVersions } from '../secret/versions.js'
import type { ActionGraph, Departure, EarlierPlacement, FormerPlan, KnownNode } from './action-graph.js'

/** What the newest planned apply of a deployment left to know, as it is stored. */
export interface Footprint {
  /** Its plan, JSON text as accepted. */
  readonly plan: string
  readonly placement: Placement
  /** What was known of its nodes; those of plans of old versions are missing. */
  readonly nodes: Readonly<Record<string, KnownNode>>
  readonly departures: readonly FormerPlan[]
  /** Absent: nothing was ever rotated. */
  readonly secretVersions?: SecretVersions
  /** A destroy of the deployment has succeeded since. */
  readonly isDestroyed: boolean
}

/** What planning makes of a footprint. */
export interface Inheritance {
  /** Null: the deployment has nothing. */
  readonly before: EarlierPlacement | null
  readonly nodes: Readonly<Record<string, KnownNode>>
  /** The plan whose components and nodes may leave now; null: none may. */
  readonly plan: Plan | null
  /** What was leaving and has not gone completely. */
  readonly leaving: readonly FormerPlan[]
  /** Undefined: nothing was ever rotated. */
  readonly secretVersions?: SecretVersions | undefined
}

/** What a new task inherits. `applied`: the actions of the deployment that are known to have succeeded; with all of its actions among them a departure is over. */
export function buildInheritance(footprint: Footprint | undefined, applied: { has(action: ActionId): boolean }): Inheritance | undefined {
  if (footprint === undefined) return undefined
  const { nodes, placement, secretVersions } = footprint
  if (footprint.isDestroyed) return { before: null, nodes, plan: null, leaving: [], secretVersions }
  const plan = JSON.parse(footprint.plan) as Plan
  return { before: { on: Object.fromEntries(plan.components.map((component) => [component.name, component.on])), placement }, nodes, plan, leaving: keepOpen(footprint.departures, applied), secretVersions }
}

/** What the task of this graph inherited when it was planned, for planning it again with other parameters: the same leaves, nothing else. */
export const inheritanceOf = ({ known, departures, secretVersions }: ActionGraph): Inheritance => ({ before: known?.before ?? null, nodes: known?.nodes ?? {}, plan: null, leaving: departures ?? [], secretVersions })

function keepOpen(formers: readonly FormerPlan[], applied: { has(action: ActionId): boolean }): FormerPlan[] {
  return formers.flatMap((former) => {
    const departures = former.departures.map((departure): Departure => ({ ...departure, done: departure.actions.filter((id) => applied.has(id)) }))
    const open = departures.filter(({ actions, done }) => done.length < actions.length)
    return open.length === 0 ? [] : [{ ...former, departures: open }]
  })
}
