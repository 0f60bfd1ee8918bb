import type { NodeRecord } from '../node/node.js'

/** A node as templates and expressions see it. Sizes in bytes. What changes by itself between two plannings (free disk, last seen) is left out: digests would move. */
export function describeNode(node: NodeRecord): Readonly<Record<string, unknown>> {
  const { diskFreeBytes: _free, bootId: _boot, ...facts } = node.facts
  return { id: node.id, address: node.facts.address, hostname: node.facts.hostname, labels: node.labels, facts }
}
