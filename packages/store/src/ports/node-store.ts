/** Port: nodes and the tokens they join with. */
import type { Facts, NodeId, NodeRecord } from '@lichen/core'

export interface JoinTokenRecord {
  readonly id: string
  /** SHA-256 of the secret part, hex. */
  readonly secretDigest: string
  readonly labels: Readonly<Record<string, string>>
  /** Uses left; null: unlimited. */
  readonly usesLeft: number | null
  readonly expiresAt: number
  readonly createdAt: number
  readonly createdBy: string
}

/** A node, the digest of its key, and the name of the engine at which its stream ends, as last written; null for none. */
export type StoredNode = NodeRecord & { readonly keyDigest: string; readonly engine: string | null }

/** What of the list of nodes has changed since an earlier read, as of one moment. */
export interface NodeChanges {
  /** To be given with the next read. */
  readonly cursor: number
  /** Nodes of which more than `lastSeenAt` has changed, and perhaps some of which nothing has; by id. */
  readonly changed: readonly StoredNode[]
  /** When other nodes that are `ready`, and whose stream does not end at the engine that asks, were heard of. */
  readonly seen: readonly { readonly id: NodeId; readonly lastSeenAt: number }[]
  /** How many nodes there are. Who knows of more, with these, knows some that were deleted, and reads all of them anew. */
  readonly count: number
}

export interface NodeStore {
  putJoinToken(token: JoinTokenRecord): Promise<void>
  listJoinTokens(): Promise<readonly JoinTokenRecord[]>
  deleteJoinToken(id: string): Promise<boolean>
  /**
   * Counts one use of the token and registers the node, in one transaction. A node name that is taken by another node is refused.
   * @throws JOIN_TOKEN_INVALID, JOIN_TOKEN_EXPIRED, JOIN_NAME_TAKEN
   */
  admitNode(input: { tokenId: string; secretDigest: string; node: NodeId; labels: Readonly<Record<string, string>>; keyDigest: string; agentVersion: string; now: number }): Promise<{ readonly labels: Readonly<Record<string, string>> }>
  /**
   * Facts, version, `ready`/`lost`, and at which engine the node's stream ends (null: at none); batch, because heartbeats of many nodes are written together. `seenAt` only ever
   * grows. With `ifEngine` the change of `engine` (alone) is left out unless the row names that engine now: who lost a stream must not undo what its next engine wrote.
   */
  updateNodes(changes: readonly { node: NodeId; facts?: Facts; state?: 'ready' | 'lost'; agentVersion?: string; seenAt: number; engine?: string | null; ifEngine?: string }[]): Promise<void>
  setNode(node: NodeId, change: { labels?: Readonly<Record<string, string>>; cordoned?: boolean }): Promise<boolean>
  listNodes(): Promise<readonly StoredNode[]>
  /** For who keeps a copy of the list: costs as much as has changed. `since`: the cursor of the read before; 0 for all nodes. `engine`: who asks. */
  readNodeChanges(since: number, engine: string): Promise<NodeChanges>
  deleteNode(node: NodeId): Promise<boolean>
}
