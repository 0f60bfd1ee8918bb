import type { KnownNode } from '../graph/action-graph.js'
import type { NodeId } from '../ids.js'
import type { NodeRecord } from '../node/node.js'

/** Where files go that have no place of their own in the file system hierarchy; a confined agent has its own. */
const defaultWorkspace = '/var/lib/lichen'

/**
 * A node as templates and expressions see it. Sizes in bytes. What changes by itself between two plannings (free disk, last seen) is left out: digests would move.
 * A node says its facts itself. The brackets of references are taken out of them, or a node called `⟦secret:db.password⟧` would be told the password.
 */
export function describeNode(node: NodeRecord): Readonly<Record<string, unknown>> {
  const { diskFreeBytes: _free, bootId: _boot, ...facts } = node.facts
  return withoutBrackets({ id: node.id, address: node.facts.address, hostname: node.facts.hostname, labels: node.labels, workspace: node.facts.confinedTo ?? defaultWorkspace, facts }) as Record<string, unknown>
}

/** A node that is no longer registered, by what was known of it. Its facts are no more than that. */
export function describeKnownNode(id: NodeId, { hostname, address, labels }: KnownNode): Readonly<Record<string, unknown>> {
  return withoutBrackets({ id, address, hostname, labels, workspace: defaultWorkspace, facts: { hostname, address } }) as Record<string, unknown>
}

function withoutBrackets(value: unknown): unknown {
  if (typeof value === 'string') return /[⟦⟧]/u.test(value) ? value.replaceAll(/[⟦⟧]/gu, '') : value
  if (Array.isArray(value)) return value.map(withoutBrackets)
  if (value === null || typeof value !== 'object') return value
  return Object.fromEntries(Object.entries(value).map(([key, entry]) => [key.replaceAll(/[⟦⟧]/gu, ''), withoutBrackets(entry)]))
}
