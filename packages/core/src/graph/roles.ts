/** Which nodes a component had, has and leaves, as templates and expressions see them. */
import type { NodeId } from '../ids.js'
import type { NodeRecord } from '../node/node.js'
import type { Placement } from '../plan/choose-nodes.js'
import { describeKnownNode, describeNode } from '../plan/describe-node.js'
import type { Plan } from '../plan/plan-schema.js'
import type { TaskKind } from './action-graph.js'
import { collectLeft, type LeavingPlan } from './departures.js'
import type { Inheritance } from './inheritance.js'

type Description = Readonly<Record<string, unknown>>

/** The variables of one component. */
export interface Roles {
  /** Its nodes by the deployment's last apply; empty when it had none. */
  readonly before: readonly Description[]
  /** Its nodes when the task is done; empty when it goes. */
  readonly staying: readonly Description[]
  /** The nodes that it leaves with this task. */
  readonly leaving: readonly Description[]
}

/** Describes nodes, each once: those that are registered as they are, others by what was known of them. */
export function buildDescriber(nodes: readonly NodeRecord[], inheritance: Inheritance | undefined): (node: NodeId) => Description {
  const registered = new Map(nodes.map((node) => [node.id, node]))
  const described = new Map<NodeId, Description>()
  return (id) => {
    const found = described.get(id)
    if (found !== undefined) return found
    const record = registered.get(id)
    const known = inheritance !== undefined && Object.hasOwn(inheritance.nodes, id) ? inheritance.nodes[id]! : { hostname: id, address: '', labels: {} }
    const description = record ? describeNode(record) : describeKnownNode(id, known)
    described.set(id, description)
    return description
  }
}

export interface RolesInput {
  readonly plan: Plan
  readonly placement: Placement
  readonly kind: TaskKind
  readonly inheritance: Inheritance | undefined
  readonly leaving: readonly LeavingPlan[]
  readonly describe: (node: NodeId) => Description
}

const nobody: readonly Description[] = []

/** The roles of a component by its name. Components with the same nodes share their lists, which is what CEL's copies are made from. */
export function buildRoles({ plan, placement, kind, inheritance, leaving, describe }: RolesInput): (component: string) => Roles {
  const on = new Map(plan.components.map((component) => [component.name, component.on]))
  const left = collectLeft(leaving)
  const before = inheritance?.before ?? null
  const lists = new Map<readonly NodeId[], readonly Description[]>()
  const describeAll = (ids: readonly NodeId[] | undefined): readonly Description[] => {
    if (ids === undefined) return nobody
    const known = lists.get(ids) ?? ids.map(describe)
    lists.set(ids, known)
    return known
  }
  return (component) => ({
    before: before !== null && Object.hasOwn(before.on, component) ? describeAll(findGroup(before.placement, before.on[component]!)) : nobody,
    staying: kind !== 'destroy' && on.has(component) ? describeAll(findGroup(placement, on.get(component)!)) : nobody,
    leaving: describeAll(left.get(component)),
  })
}

const findGroup = (placement: Placement, group: string): readonly NodeId[] | undefined => (Object.hasOwn(placement, group) ? placement[group] : undefined)
