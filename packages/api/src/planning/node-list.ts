/**
 * The nodes as the planner sees them. Owns a copy that is some hundred milliseconds old at most, shared by requests that check plans.
 *
 * 1. Requests that ask at the same time share one read of the store.
 * 2. A copy is never used to refuse anything: who finds problems asks again with `readFresh`.
 */
import type { NodeRecord } from '@lichen/core'
import type { Store } from '@lichen/store'

/** A node, and the engine at which its stream ends; null for none. */
export interface ConnectedNode extends NodeRecord {
  readonly engine: string | null
}

export interface NodeList {
  /** At most `ageMs` old. */
  readRecent(): Promise<readonly ConnectedNode[]>
  /** Read after this call began. */
  readFresh(): Promise<readonly ConnectedNode[]>
}

/** The nodes of this store. */
export function buildNodeList({ store, now, ageMs }: { readonly store: Pick<Store, 'nodes'>; readonly now: () => number; readonly ageMs: number }): NodeList {
  let copy: { readonly nodes: Promise<readonly ConnectedNode[]>; readonly until: number } | undefined

  function readFresh(): Promise<readonly ConnectedNode[]> {
    const nodes = store.nodes.listNodes().then((records) => records.map(({ keyDigest: _keyDigest, ...node }): ConnectedNode => node))
    const mine = { nodes, until: now() + ageMs }
    copy = mine
    // A failed read is nobody's copy.
    nodes.catch(() => {
      if (copy === mine) copy = undefined
    })
    return nodes
  }

  return { readFresh, readRecent: () => (copy !== undefined && now() < copy.until ? copy.nodes : readFresh()) }
}
