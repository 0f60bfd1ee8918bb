import type { NodeId } from '../ids.js'
import type { Facts } from './facts.js'

/** `ready`: its stream is open. `lost`: silent for longer than the limit. `cordoned` says whether it accepts new work. */
export type NodeState = 'ready' | 'lost'

/** A node as the planner and the API see it. */
export interface NodeRecord {
  readonly id: NodeId
  readonly labels: Readonly<Record<string, string>>
  readonly facts: Facts
  readonly state: NodeState
  readonly cordoned: boolean
  readonly agentVersion: string
  /** Milliseconds since the epoch. */
  readonly joinedAt: number
  readonly lastSeenAt: number
}
