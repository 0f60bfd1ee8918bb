/** What becomes of the row of a node when several changes of it are written at once, and what a row says before the node has told anything. */
import type { Facts, NodeId } from '@lichen/core'
import type { NodeStore } from '../ports/node-store.js'

/** One change as `NodeStore.updateNodes` takes it. */
export type NodeChange = Parameters<NodeStore['updateNodes']>[0][number]

/** The changes of one node in one; a field that is missing stays as it is. */
export interface MergedChange {
  readonly node: NodeId
  facts?: Facts
  state?: 'ready' | 'lost'
  agentVersion?: string
  seenAt: number
  /** Missing: stays. */
  engine?: string | null
}

/** What stands for the facts of a node that joined and has not connected yet: nothing is known of it, and no selector of facts should match. */
export const unknownFacts = (node: NodeId): Facts => ({
  hostname: node, address: '', addresses: [], os: { id: '', version: '', codename: '', prettyName: '' }, kernel: '', architecture: '', cpus: 0, memoryBytes: 0,
  diskFreeBytes: 0, bootId: '', virtualization: '', cgroupVersion: 0, packageManager: 'none', init: 'other',
})

/** Nodes of changes that depend on what stands in the row: their engines must be read, under a lock, before `mergeChanges`. */
export const listConditional = (changes: readonly NodeChange[]): NodeId[] => [...new Set(changes.flatMap((change) => (change.ifEngine === undefined ? [] : [change.node])))]

/** One change for each node, as if all were made one after the other. `engines`: engine in the rows of the nodes of `listConditional`. */
export function mergeChanges(changes: readonly NodeChange[], engines: ReadonlyMap<string, string | null>): MergedChange[] {
  const merged = new Map<NodeId, MergedChange>()
  for (const { node, facts, state, agentVersion, seenAt, engine, ifEngine } of changes) {
    const row: MergedChange = merged.get(node) ?? { node, seenAt }
    merged.set(node, row)
    const present = row.engine === undefined ? engines.get(node) : row.engine
    if (facts !== undefined) row.facts = facts
    if (state !== undefined) row.state = state
    if (agentVersion !== undefined) row.agentVersion = agentVersion
    if (engine !== undefined && (ifEngine === undefined || ifEngine === present)) row.engine = engine
    row.seenAt = Math.max(row.seenAt, seenAt)
  }
  return [...merged.values()]
}
