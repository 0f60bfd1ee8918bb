/**
 * Where the time of a task went: the chain of actions and approvals that ended last, each of which the next one waited for. What is not on it could have taken longer without the task taking longer.
 */
import type { ActionId, NodeId } from '../ids.js'
import type { AnyVertex, Vertex } from './task-index.js'
import type { TrackedTask } from './tracked-task.js'

/** One link of the chain. Times in ms; of an action its attempts and the pauses between them are one piece. */
export interface CriticalStep {
  /** An action, or a gate that a person approved. */
  readonly id: ActionId
  /** Null of a gate. */
  readonly node: NodeId | null
  readonly beganAt: number
  readonly endedAt: number
  /** Between the end of the step before (of the first: the beginning of the run) and its own beginning: for its turn, or for its node. */
  readonly waitedMs: number
}

/** The chain, first step first. Of a task that was tried again: since then. Empty before anything has ended. */
export function findCriticalPath(task: TrackedTask): CriticalStep[] {
  const links: Link[] = []
  let link = findLast(task)
  while (link !== undefined && link.endedAt >= task.runSince) {
    links.unshift(link)
    link = latest(link.vertex.before.flatMap((before) => linksThrough(before)))
  }
  return links.map(({ vertex, beganAt, endedAt }, index) => {
    const free = links[index - 1]?.endedAt ?? task.runSince
    return { id: vertex.kind === 'gate' ? vertex.gate.id : vertex.action.id, node: vertex.kind === 'gate' ? null : vertex.action.node, beganAt, endedAt, waitedMs: Math.max(0, beganAt - free) }
  })
}

/** What ended last. Made for tasks of any size each time that one is looked at, so nothing is made for each action. */
function findLast({ index }: TrackedTask): Link | undefined {
  let last: Vertex | undefined
  for (const vertex of index.vertices) if (vertex.view.begunAt !== null && vertex.view.endedAt !== null && vertex.view.endedAt > (last?.view.endedAt ?? 0)) last = vertex
  return last && linksAt(last)[0]
}

interface Link {
  readonly vertex: AnyVertex
  readonly beganAt: number
  readonly endedAt: number
}

/** An action that ended, a gate that a person opened; nothing for what took no time by itself. */
function linksAt(vertex: AnyVertex): Link[] {
  if (vertex.kind === 'gate') return vertex.view.state === 'open' && vertex.view.approvedBy !== null ? [{ vertex, beganAt: vertex.view.since, endedAt: vertex.view.since }] : []
  const { begunAt, endedAt } = vertex.view
  return begunAt === null || endedAt === null ? [] : [{ vertex, beganAt: begunAt, endedAt }]
}

/** The same of what something comes after: what took no time passes on what it comes after itself. */
function linksThrough(vertex: AnyVertex): Link[] {
  const own = linksAt(vertex)
  if (own.length > 0) return own
  // All of a wave came after the gate before it, so nothing behind that one ended later.
  const nearest = vertex.kind === 'gate' && vertex.gate.isOrderOnly ? vertex.before.flatMap((before) => linksAt(before)) : []
  return nearest.length > 0 ? nearest : vertex.before.flatMap((before) => linksThrough(before))
}

// Of several that ended together the first in the graph: the same task gives the same chain.
const latest = (links: readonly Link[]): Link | undefined => links.reduce<Link | undefined>((last, link) => (last === undefined || link.endedAt > last.endedAt ? link : last), undefined)
