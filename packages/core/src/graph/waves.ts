/** Which nodes of a group go first: the waves of a rollout, from what the plan says and the labels of the nodes. */
import type { NodeId } from '../ids.js'
import type { NodeGroup, Plan } from '../plan/plan-schema.js'

/** Some nodes of a group, and what must hold before the next wave begins. */
export interface Wave {
  readonly nodes: readonly NodeId[]
  readonly approve: boolean
  readonly maxFailures: number
  /** What the nodes have in common: `zone=a`, `no zone`; empty without `by`. */
  readonly domain: string
}

type Entry = NonNullable<NonNullable<Plan['rollout']>['waves']>[number]

/** The waves and the label that hold for this group: its own take precedence, each by itself. Undefined when nobody asks for waves. */
export function wavesOf(plan: Plan, group: NodeGroup | undefined): { readonly entries: readonly Entry[]; readonly by: string | undefined } | undefined {
  const entries = group?.rollout?.waves ?? plan.rollout?.waves
  const by = group?.rollout?.by ?? plan.rollout?.by
  return entries === undefined && by === undefined ? undefined : { entries: entries ?? [{}], by }
}

/**
 * The waves in which components go over these nodes (the group's, in the order of the placement); none where all fit into one. The first node is in the first
 * wave, whatever its label: what is done once for a component is done there. `otherwise`: the waves where the plan has none.
 */
export function divideIntoWaves(plan: Plan, group: NodeGroup | undefined, nodes: readonly NodeId[], labelsOf: (node: NodeId) => Readonly<Record<string, string>>, otherwise?: readonly Entry[]): readonly Wave[] {
  const wanted = wavesOf(plan, group) ?? (otherwise && { entries: otherwise, by: undefined })
  if (wanted === undefined) return []
  const waves: Wave[] = []
  for (const domain of divideByLabel(nodes, wanted.by, labelsOf)) {
    for (let at = 0; at < domain.nodes.length; ) {
      const entry = wanted.entries[Math.min(waves.length, wanted.entries.length - 1)]!
      const size = toCount(entry.nodes, nodes.length) ?? domain.nodes.length
      waves.push({ nodes: domain.nodes.slice(at, at + size), approve: entry.approve ?? false, maxFailures: entry.maxFailures ?? 0, domain: domain.name })
      at += size
    }
  }
  return waves.length > 1 ? waves : []
}

interface Domain {
  readonly name: string
  readonly nodes: NodeId[]
}

/** By the value of the label, nodes without it last; but the value of the first node comes first. Within a value as in the placement. */
function divideByLabel(nodes: readonly NodeId[], label: string | undefined, labelsOf: (node: NodeId) => Readonly<Record<string, string>>): readonly Domain[] {
  if (label === undefined) return [{ name: '', nodes: [...nodes] }]
  const domains = new Map<string | undefined, Domain>()
  for (const node of nodes) {
    const labels = labelsOf(node)
    const value = Object.hasOwn(labels, label) ? labels[label] : undefined
    const domain = domains.get(value)
    if (domain) domain.nodes.push(node)
    else domains.set(value, { name: value === undefined ? `no ${label}` : `${label}=${value}`, nodes: [node] })
  }
  // The first key of the map is the value of the first node.
  const [first, ...others] = [...domains]
  others.sort(([a], [b]) => (a === undefined ? 1 : b === undefined ? -1 : a < b ? -1 : 1))
  return [...(first ? [first] : []), ...others].map(([, domain]) => domain)
}

const toCount = (share: number | string | undefined, total: number): number | undefined => (typeof share === 'string' ? Math.ceil((Number.parseInt(share, 10) * total) / 100) : share)

/** What a wave is called, e.g. `wave 1 of 3 of etcd (canary: node-1)`. `number` counts from 1. */
export function describeWave(component: string, waves: readonly Wave[], number: number): string {
  const { nodes, domain } = waves[number - 1]!
  const kind = domain !== '' ? `${domain}: ` : number === 1 && nodes.length === 1 ? 'canary: ' : ''
  return `wave ${number} of ${waves.length} of ${component} (${kind}${describeNodes(nodes)})`
}

/** More names than this say less than their number. */
const maxNames = 3

/** `n1, n2 and n3`; `n1, n2, n3 and 497 more`. */
export function describeNodes(nodes: readonly NodeId[]): string {
  if (nodes.length > maxNames) return `${nodes.slice(0, maxNames).join(', ')} and ${nodes.length - maxNames} more`
  return nodes.length < 2 ? nodes.join('') : `${nodes.slice(0, -1).join(', ')} and ${nodes.at(-1)}`
}
