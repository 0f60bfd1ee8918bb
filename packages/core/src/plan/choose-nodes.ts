import type { Problem } from '../errors.js'
import type { NodeId } from '../ids.js'
import type { NodeRecord } from '../node/node.js'
import type { NodeGroup, Plan } from './plan-schema.js'

/** Group name → nodes, in order. */
export type Placement = Readonly<Record<string, readonly NodeId[]>>

/**
 * The nodes of each group. Nodes chosen for the group before stay as long as they match, even while they are lost or cordoned; new ones are taken from
 * the ready and uncordoned, by id. A node may serve several groups. Without `count` a group has every node that matches.
 */
export function chooseNodes(plan: Plan, nodes: readonly NodeRecord[], previous: Placement | undefined): { readonly placement: Placement; readonly problems: readonly Problem[] } {
  const sorted = [...nodes].sort((a, b) => (a.id < b.id ? -1 : 1))
  const problems: Problem[] = []
  const placement: Record<string, readonly NodeId[]> = {}
  plan.nodes.forEach((group, index) => {
    const matching = sorted.filter((node) => matches(group, node))
    const before = previous !== undefined && Object.hasOwn(previous, group.name) ? previous[group.name]! : []
    const kept = before.filter((id) => matching.some((node) => node.id === id))
    const free = matching.filter((node) => !kept.includes(node.id) && node.state === 'ready' && !node.cordoned).map((node) => node.id)
    const chosen = [...kept, ...free].slice(0, group.count ?? Number.POSITIVE_INFINITY)
    if (chosen.length < (group.count ?? 1)) problems.push({ code: 'PLAN_TOO_FEW_NODES', path: `nodes[${index}]`, message: describeShortage(group, chosen.length, matching, nodes.length) })
    placement[group.name] = chosen
  })
  return { placement, problems }
}

const matches = (group: NodeGroup, node: NodeRecord): boolean => Object.entries(group.select ?? {}).every(([label, value]) => node.labels[label] === value)

function describeShortage(group: NodeGroup, chosen: number, matching: readonly NodeRecord[], total: number): string {
  const labels = Object.entries(group.select ?? {}).map(([label, value]) => `${label}=${value}`).join(', ')
  const unusable = matching.length - chosen
  const wanted = group.count ?? 1
  return `group "${group.name}" needs ${wanted} node${wanted === 1 ? '' : 's'}${labels ? ` with ${labels}` : ''}; ${matching.length} of ${total} match${unusable > 0 ? `, ${unusable} of them lost or cordoned` : ''}`
}
