import type { Action } from '../graph/action-graph.js'
import type { NodeId } from '../ids.js'
import type { TaskEvent } from './events.js'

/** Whether an order would reach a node now. `since`: of this state, ms since the epoch; 0 when nobody knows. `gone`: no node of this name is registered. */
export interface NodeReach {
  readonly state: 'ready' | 'cordoned' | 'lost' | 'gone'
  readonly since: number
}

/** What decisions need to know beyond the task. */
export interface World {
  reachOf(node: NodeId): NodeReach
}

export type Decision =
  /** Record the event. */
  | { readonly type: 'record'; readonly event: TaskEvent }
  /** Record `actionSent`, then send the order. `timeoutMs`: limit of the attempt on its node. `expiresAt`: the node does not begin after it; `deadline`: the answer is given up then. */
  | { readonly type: 'send'; readonly action: Action; readonly attempt: number; readonly timeoutMs: number; readonly deadline: number; readonly expiresAt: number }
  /** Ask the node to stop the live attempt. Given each time while cancelling; asking once for each connection is enough. */
  | { readonly type: 'cancel'; readonly action: Action; readonly attempt: number; readonly reason: string }

/** The decision to record the event. */
export const record = (event: TaskEvent): Decision => ({ type: 'record', event })

/** Since when the node is out of reach; undefined while it is not. */
export function lostSince(node: NodeId, world: World): number | undefined {
  const reach = world.reachOf(node)
  return reach.state === 'lost' || reach.state === 'gone' ? reach.since : undefined
}
