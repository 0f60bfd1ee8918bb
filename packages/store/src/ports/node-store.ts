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

export interface NodeStore {
  putJoinToken(token: JoinTokenRecord): Promise<void>
  listJoinTokens(): Promise<readonly JoinTokenRecord[]>
  deleteJoinToken(id: string): Promise<boolean>
  /**
   * Counts one use of the token and registers the node, in one transaction. A node name that is taken by another node is refused.
   * @throws JOIN_TOKEN_INVALID, JOIN_TOKEN_EXPIRED, JOIN_NAME_TAKEN
   */
  admitNode(input: { tokenId: string; secretDigest: string; node: NodeId; labels: Readonly<Record<string, string>>; keyDigest: string; agentVersion: string; now: number }): Promise<{ readonly labels: Readonly<Record<string, string>> }>
  /** Facts, version and `ready`/`lost`; batch, because heartbeats of many nodes are written together. */
  updateNodes(changes: readonly { node: NodeId; facts?: Facts; state?: 'ready' | 'lost'; agentVersion?: string; seenAt: number }[]): Promise<void>
  setNode(node: NodeId, change: { labels?: Readonly<Record<string, string>>; cordoned?: boolean }): Promise<boolean>
  listNodes(): Promise<readonly (NodeRecord & { readonly keyDigest: string })[]>
  deleteNode(node: NodeId): Promise<boolean>
}
