import type { Problem } from '../errors.js'
import type { TaskKind } from '../graph/action-graph.js'
import type { NodeId } from '../ids.js'
import type { NodeRecord } from '../node/node.js'
import type { NodeGroup, Plan } from './plan-schema.js'

/** Group name → nodes, in order. */
export type Placement = Readonly<Record<string, readonly NodeId[]>>

/**
 * The nodes of each group. Nodes chosen for the group before stay as long as they match, even while they are lost or cordoned; when the group wants fewer, the cordoned
 * ones leave first, then the last ones. New ones are taken from the ready and uncordoned, by id. A node may serve several groups. Without `count` a group has every node that matches.
 * A destroy or an operation goes where the deployment is: to the nodes that the group had and that still exist, whatever their labels say now.
 */
export function chooseNodes(plan: Plan, nodes: readonly NodeRecord[], previous: Placement | undefined, kind: TaskKind = 'apply'): { readonly placement: Placement; readonly problems: readonly Problem[] } {
  const sorted = [...nodes].sort((a, b) => (a.id < b.id ? -1 : 1))
  const known = new Set(nodes.map((node) => node.id))
  const problems: Problem[] = []
  const placement: Record<string, readonly NodeId[]> = {}
  plan.nodes.forEach((group, index) => {
    const before = previous !== undefined && Object.hasOwn(previous, group.name) ? previous[group.name]! : undefined
    if ((kind === 'destroy' || kind === 'operation') && before !== undefined) {
      placement[group.name] = before.filter((id) => known.has(id))
      if (placement[group.name]!.length === 0) problems.push({ code: 'PLAN_TOO_FEW_NODES', path: `nodes[${index}]`, message: `none of the ${before.length} nodes that group "${group.name}" was applied to exists any more` })
      return
    }
    const matching = sorted.filter((node) => matches(group, node))
    const chosen = choose(group, matching, before ?? [])
    if (chosen.length < (group.count ?? 1)) problems.push({ code: 'PLAN_TOO_FEW_NODES', path: `nodes[${index}]`, message: describeShortage(group, chosen.length, matching, nodes.length) })
    placement[group.name] = chosen
  })
  return { placement, problems }
}

function choose(group: NodeGroup, matching: readonly NodeRecord[], before: readonly NodeId[]): NodeId[] {
  const ids = new Set(matching.map((node) => node.id))
  const kept = new Set(before.filter((id) => ids.has(id)))
  const count = group.count ?? Number.POSITIVE_INFINITY
  for (const id of listFirstToLeave([...kept], matching).slice(0, Math.max(0, kept.size - count))) kept.delete(id)
  const free = matching.filter((node) => !kept.has(node.id) && node.state === 'ready' && !node.cordoned).map((node) => node.id)
  return [...kept, ...free].slice(0, count)
}

/** Those that were cordoned for it, then the last ones. */
function listFirstToLeave(kept: readonly NodeId[], matching: readonly NodeRecord[]): NodeId[] {
  const cordoned = new Set(matching.filter((node) => node.cordoned).map((node) => node.id))
  const fromLast = [...kept].reverse()
  return [...fromLast.filter((id) => cordoned.has(id)), ...fromLast.filter((id) => !cordoned.has(id))]
}

const matches = (group: NodeGroup, node: NodeRecord): boolean => Object.entries(group.select ?? {}).every(([label, value]) => node.labels[label] === value)

function describeShortage(group: NodeGroup, chosen: number, matching: readonly NodeRecord[], total: number): string {
  const labels = Object.entries(group.select ?? {}).map(([label, value]) => `${label}=${value}`).join(', ')
  const unusable = matching.length - chosen
  const wanted = group.count ?? 1
  return `group "${group.name}" needs ${wanted} node${wanted === 1 ? '' : 's'}${labels ? ` with ${labels}` : ''}; ${matching.length} of ${total} match${unusable > 0 ? `, ${unusable} of them lost or cordoned` : ''}`
}
