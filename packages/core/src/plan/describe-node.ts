import type { NodeRecord } from '../node/node.js'

/** Where files go that have no place of their own in the file system hierarchy; a confined agent has its own. */
const defaultWorkspace = '/var/lib/lichen'

/** A node as templates and expressions see it. Sizes in bytes. What changes by itself between two plannings (free disk, last seen) is left out: digests would move. */
export function describeNode(node: NodeRecord): Readonly<Record<string, unknown>> {
  const { diskFreeBytes: _free, bootId: _boot, ...facts } = node.facts
  return { id: node.id, address: node.facts.address, hostname: node.facts.hostname, labels: node.labels, workspace: node.facts.confinedTo ?? defaultWorkspace, facts }
}
