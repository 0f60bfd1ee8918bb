/** What components take of a node for themselves (`claims` of their blueprints), and who has it already: two that change the same things on one node would undo each other's work. */
import { parseBlueprintReference } from '../blueprint/catalog.js'
import type { Catalog } from '../blueprint/blueprint-schema.js'
import type { Problem } from '../errors.js'
import type { TaskKind } from '../graph/action-graph.js'
import type { LeavingPlan } from '../graph/departures.js'
import type { Inheritance } from '../graph/inheritance.js'
import type { NodeId } from '../ids.js'
import type { Placement } from './choose-nodes.js'
import type { Plan } from './plan-schema.js'

/** Another deployment, and what is there of it. */
export interface Neighbour {
  readonly project: string
  readonly deployment: string
  readonly inheritance: Inheritance | undefined
}

/** Nodes that a message names; of more it says how many. */
const maxNamed = 5

/** Whether other deployments matter to a task of this plan: an apply of a blueprint that claims something. What is there already is asked nothing. */
export const asksForNeighbours = (plan: Plan, catalog: Catalog, kind: TaskKind): boolean => kind === 'apply' && plan.components.some(({ blueprint }) => claimsOf(blueprint, catalog).length > 0)

/** A problem for each component, what it claims, and who has it: components of the plan, those that leave with it, and those of neighbours. */
export function checkClaims(plan: Plan, catalog: Catalog, placement: Placement, leaving: readonly LeavingPlan[], neighbours: readonly Neighbour[]): Problem[] {
  const held = new HeldClaims(catalog)
  for (const { project, deployment, inheritance } of neighbours) {
    const where = `of deployment ${project}/${deployment}: let it leave there first, or choose other nodes`
    if (inheritance?.before && inheritance.plan) held.addPlan(inheritance.plan, inheritance.before.placement, where)
    for (const former of inheritance?.leaving ?? []) held.addLeaving(former, where)
  }
  // One that stays on the node, in the same component, is no stranger to itself.
  for (const former of leaving) held.addLeaving(former, 'of the plan before, which leaves the node last of all: let it leave with a plan of its own before')
  return plan.components.flatMap(({ name, blueprint, on }, index) => {
    const nodes = placement[on] ?? []
    const problems = claimsOf(blueprint, catalog).flatMap((claim) =>
      [...held.find(claim, nodes)].map(([holder, taken]): Problem => ({
        code: 'PLAN_NODE_TAKEN',
        path: `components[${index}].on`,
        message: `"${name}" needs the ${claim} of ${listNodes(taken)} for itself, and it belongs to ${holder}`,
      })))
    held.add(name, blueprint, nodes, 'of this plan: choose other nodes for one of them')
    return problems
  })
}

const listNodes = (nodes: readonly NodeId[]): string => nodes.slice(0, maxNamed).join(', ') + (nodes.length > maxNamed ? ` and ${nodes.length - maxNamed} more` : '')

function claimsOf(reference: string, catalog: Catalog): readonly string[] {
  const { name, range } = parseBlueprintReference(reference)
  return (range === undefined ? undefined : catalog.find(name, range)?.document.claims) ?? []
}

/** Who has what on which node. */
class HeldClaims {
  readonly #catalog: Catalog
  readonly #holders = new Map<string, Map<NodeId, string>>()

  constructor(catalog: Catalog) {
    this.#catalog = catalog
  }

  add(component: string, blueprint: string, nodes: readonly NodeId[], where: string): void {
    for (const claim of claimsOf(blueprint, this.#catalog)) {
      const holders = this.#holders.get(claim) ?? new Map<NodeId, string>()
      this.#holders.set(claim, holders)
      for (const node of nodes) if (!holders.has(node)) holders.set(node, `"${component}" ${where}`)
    }
  }

  addPlan(plan: Plan, placement: Placement, where: string): void {
    for (const { name, blueprint, on } of plan.components) this.add(name, blueprint, Object.hasOwn(placement, on) ? placement[on]! : [], where)
  }

  addLeaving({ plan, departures }: Pick<LeavingPlan, 'plan' | 'departures'>, where: string): void {
    const blueprints = new Map(plan.components.map(({ name, blueprint }) => [name, blueprint]))
    for (const { component, nodes } of departures) this.add(component, blueprints.get(component)!, nodes, where)
  }

  /** Of these nodes those where somebody has it, by who that is. */
  find(claim: string, nodes: readonly NodeId[]): ReadonlyMap<string, readonly NodeId[]> {
    const found = new Map<string, NodeId[]>()
    const holders = this.#holders.get(claim)
    for (const node of holders === undefined ? [] : nodes) {
      const holder = holders!.get(node)
      if (holder !== undefined) found.set(holder, [...(found.get(holder) ?? []), node])
    }
    return found
  }
}
