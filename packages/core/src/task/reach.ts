/**
 * How far a change goes. What changed on a node may concern everything that comes after it, so nothing of that is left out as unchanged. Two things of the graph bound it:
 * a gate that only orders passes nothing on, and what an action of a node new in its group changes concerns its own node and component alone (`isAddition`).
 */
import type { AnyVertex, Reach } from './task-index.js'

const order: readonly Reach[] = ['none', 'self', 'near', 'all']

/** The farther of the two. */
export const farther = (left: Reach, right: Reach): Reach => (order.indexOf(left) < order.indexOf(right) ? right : left)

/** How far what changed at `from`, or before it, reaches at `to`, which comes after it. */
export function reachAt(from: AnyVertex, to: AnyVertex): Reach {
  if (from.reach === 'none' || from.reach === 'self' || (from.kind === 'gate' && from.gate.isOrderOnly)) return 'none'
  if (from.reach === 'all') return 'all'
  if (!isNear(from, to)) return 'none'
  return to.kind === 'gate' ? 'near' : 'self'
}

const componentOf = (vertex: AnyVertex): string => (vertex.kind === 'gate' ? vertex.gate.component : vertex.action.component)

const isNear = (from: AnyVertex, to: AnyVertex): boolean => componentOf(from) === componentOf(to) || (from.kind === 'action' && to.kind === 'action' && from.action.node === to.action.node)
