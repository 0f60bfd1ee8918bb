/** The meaning of a plan against a catalog and nodes. */
import type { Catalog } from '../blueprint/blueprint-schema.js'
import type { Problem } from '../errors.js'
import type { NodeRecord } from '../node/node.js'
import type { TaskKind } from '../graph/action-graph.js'
import { reservedComponent } from '../graph/action-ids.js'
import { findLeaving, type LeavingPlan } from '../graph/departures.js'
import type { Inheritance } from '../graph/inheritance.js'
import { buildDescriber, buildRoles, type Roles } from '../graph/roles.js'
import type { NodeId } from '../ids.js'
import { checkClaims, type Neighbour } from './check-claims.js'
import { checkRules } from './check-rules.js'
import { chooseNodes, type Placement } from './choose-nodes.js'
import type { Plan } from './plan-schema.js'
import { resolveComponents, type ResolvedComponent } from './resolve-components.js'
import { limitProblems, suggest } from './shape-problems.js'

/** What is known of the fleet and of the deployment's last apply. */
export interface Fleet {
  readonly nodes: readonly NodeRecord[]
  readonly placement?: Placement | undefined
  readonly kind?: TaskKind
  /** What is there of the deployment; undefined: nothing. */
  readonly inheritance?: Inheritance | undefined
  /** Other deployments; they matter to plans for which `asksForNeighbours` is true. */
  readonly neighbours?: readonly Neighbour[] | undefined
}

/** A plan that was looked at. */
export interface ExaminedPlan {
  /** With their parameters and relations, in dependency order. */
  readonly components: readonly ResolvedComponent[]
  readonly placement: Placement
  readonly leaving: readonly LeavingPlan[]
  readonly describe: (node: NodeId) => Readonly<Record<string, unknown>>
  readonly rolesOf: (component: string) => Roles
  readonly problems: readonly Problem[]
}

/**
 * Every problem of the plan (the first hundred and their number), empty when there is none. Without `nodes` nothing is said about placement, nor by rules
 * that speak of nodes. `deployment`: the nodes of its last apply, which stay chosen while they are lost; and the kind of the task, when it is no apply.
 */
export function checkPlan(plan: Plan, catalog: Catalog, nodes?: readonly NodeRecord[], deployment: Omit<Fleet, 'nodes'> = {}): Problem[] {
  return limitProblems(examinePlan(plan, catalog, nodes && { nodes, ...deployment }).problems)
}

/** What checkPlan knows when it is done: components, nodes chosen, what leaves, and every problem. */
export function examinePlan(plan: Plan, catalog: Catalog, fleet: Fleet | undefined): ExaminedPlan {
  const { components, problems } = resolveComponents(plan, catalog)
  const chosen = fleet && chooseNodes(plan, fleet.nodes, fleet.placement, fleet.kind)
  const found = [...checkGroups(plan), ...checkNames(plan), ...findReserved(plan, ''), ...problems, ...(chosen?.problems ?? [])]
  // The rules of a component are only asked about parameters and relations that are in order: they are written for such.
  const unsound = new Set(found.map((problem) => /^components\[(\d+)\]/.exec(problem.path)?.[1]))
  const sound = components.filter((entry) => !unsound.has(String(entry.index)))
  // Nor when the components are to go, or are there: they may have lost nodes that the rules ask for.
  const placed = placeRoles(plan, fleet, chosen?.problems.length === 0 ? chosen.placement : undefined)
  const broken = fleet?.kind === 'destroy' || fleet?.kind === 'operation' ? [] : checkRules(plan, sound, chosen?.problems.length === 0 ? placed : undefined)
  // What is there already is asked nothing: a destroy or an operation must be possible whoever else is there.
  const taken = fleet?.kind === 'destroy' || fleet?.kind === 'operation' || chosen?.problems.length !== 0 ? [] : checkClaims(plan, catalog, chosen.placement, placed.leaving, fleet?.neighbours ?? [])
  return { ...placed, components, placement: chosen?.placement ?? {}, problems: [...found, ...broken, ...taken] }
}

/** Who leaves and who stays. `placement`: undefined where it is not known. */
function placeRoles(plan: Plan, fleet: Fleet | undefined, placement: Placement | undefined): Pick<ExaminedPlan, 'placement' | 'leaving' | 'describe' | 'rolesOf'> {
  const { inheritance, kind = 'apply', nodes = [] } = fleet ?? {}
  const describe = buildDescriber(nodes, inheritance)
  const leaving = placement === undefined ? [] : findLeaving(inheritance, plan, placement, kind)
  const known = placement ?? {}
  return { placement: known, leaving, describe, rolesOf: buildRoles({ plan, placement: known, kind, inheritance, leaving, describe }) }
}

function checkGroups(plan: Plan): Problem[] {
  const problems: Problem[] = []
  const positions = new Map<string, number>()
  plan.nodes.forEach((group, index) => {
    const first = positions.get(group.name)
    if (first === undefined) positions.set(group.name, index)
    else problems.push({ code: 'PLAN_DUPLICATE_NAME', path: `nodes[${index}].name`, message: `"${group.name}" is the name of nodes[${first}] too` })
  })
  plan.components.forEach((component, index) => {
    if (!positions.has(component.on)) problems.push({ code: 'PLAN_UNKNOWN_GROUP', path: `components[${index}].on`, message: `no node group "${component.on}" in this plan${suggest(component.on, [...positions.keys()])}` })
  })
  return problems
}

/** Actions of Lichen's own stand under a component that no plan has. */
const checkNames = (plan: Plan): Problem[] =>
  plan.components.flatMap(({ name }, index): Problem[] => (name === reservedComponent ? [{ code: 'PLAN_RESERVED_NAME', path: `components[${index}].name`, message: `"${name}" is the name of the component that looks after unchanged actions; choose another` }] : []))

/** The brackets of references (secret/reference.ts) may not come from users: a plan must not be able to name another's secret. */
function findReserved(value: unknown, path: string): Problem[] {
  if (typeof value === 'string') return /[⟦⟧]/u.test(value) ? [{ code: 'PLAN_SHAPE', path, message: 'the characters ⟦ and ⟧ are reserved' }] : []
  if (Array.isArray(value)) return value.flatMap((entry, index) => findReserved(entry, `${path}[${index}]`))
  if (value === null || typeof value !== 'object') return []
  return Object.entries(value).flatMap(([key, entry]) => [...findReserved(key, path), ...findReserved(entry, path === '' ? key : `${path}.${key}`)])
}
