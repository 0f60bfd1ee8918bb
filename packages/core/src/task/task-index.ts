/**
 * The index of a task: what decisions look up, kept up to date with each event, so that neither an event nor a decision costs time that grows
 * with the number of actions. Built by build-index.ts; changed by state.ts and what it calls; decisions and waiting.ts only read it.
 * Invariants: (1) an action is in at most one heap: its queue's `ready` (pending, everything before it done), `candidates` (the same, and it need not run),
 * `doomed` (pending, and something before it failed), `deadlines` (sent), `retries` (waitingRetry), `unsettled` (failed, and its policy still allows another
 * attempt) or `unknown` (its outcome is unknown, and a person is asked);
 * (2) `lane.live` counts the sent actions of the node, `busyLanes` holds the lanes where it is above 0, `readyLanes` those with ready actions, `turns` what is ready anywhere;
 * (3) no action before `pendingFrom` is pending, in the graph and in each group; (4) `open` counts the actions that are not settled;
 * (5) a vertex tells those that come after it once that it is settled; `unsettled` of a gate counts those that have not told yet;
 * (6) an action is in `begun` of its cohort while it is in `deadlines`, `retries`, `unsettled` or `unknown` and was sent in this run.
 */
import type { ActionId, NodeId } from '../ids.js'
import type { Action, Gate } from '../graph/action-graph.js'
import type { OrderedHeap } from './ordered-heap.js'
import type { ActionView, GateView } from './task-view.js'

/** An action's view while events are applied to it. */
export type ActionDraft = { -readonly [Key in keyof ActionView]: ActionView[Key] }
export type GateDraft = { -readonly [Key in keyof GateView]: GateView[Key] }

/**
 * How far a change goes (reach.ts). `none`: nothing changed here or before. `self`: what changed before concerns this vertex and ends here. `near`: it concerns the node and
 * the component. `all`: all that comes after.
 */
export type Reach = 'none' | 'self' | 'near' | 'all'

/** One action with what is kept about it. */
export interface Vertex {
  readonly kind: 'action'
  /** Another one after a retry with new parameters, with the same id, node and place in the graph. */
  action: Action
  /** Index in the graph. */
  readonly position: number
  /** How many actions the longest chain of what comes after it has: of what could begin on a node, the one with the longest begins. */
  chain: number
  readonly view: ActionDraft
  queue: Queue
  readonly lane: Lane
  readonly group: Group
  readonly before: AnyVertex[]
  readonly dependents: AnyVertex[]
  readonly turn: Turn
  /** Where in the result of a verifying action it stands whether this one's effect is there. */
  slice: Slice | null
  /** Of `before`: what is not done. */
  blockers: number
  /** What is to blame that this one cannot run; null while it can. Kept when it is skipped. */
  cause: AnyVertex | null
  /** Since when nothing but limits and its node hold it back. */
  readySince: number
  /** An attempt of it changed something in this task, or may have. */
  hasChanged: boolean
  /** Whether it, or something that it comes after, has changed something in this task, and how far that goes from here. */
  reach: Reach
  heap: OrderedHeap<Vertex> | null
  slot: number
}

/** One gate with what is kept about it. */
export interface GateVertex {
  readonly kind: 'gate'
  gate: Gate
  readonly view: GateDraft
  readonly before: AnyVertex[]
  readonly dependents: AnyVertex[]
  /** Of `before`: what is not settled. */
  unsettled: number
  /** Actions that failed, or because of which one of `before` was skipped. */
  readonly failures: Set<Vertex>
  /** The gate because of which this one failed; null when it failed by its own numbers, or did not. */
  cause: GateVertex | null
  reach: Reach
}

export type AnyVertex = Vertex | GateVertex

/** Commands `from` (inclusive) to `to` (exclusive) of the action `by`. */
export interface Slice {
  readonly by: Vertex
  readonly from: number
  readonly to: number
}

/** The actions of one node. */
export interface Lane {
  readonly node: NodeId
  readonly queues: Queue[]
  ready: number
  live: number
}

/** The actions of one group, or of one cohort of it, on one node: in a lane, because a limit of one must not hold up another. */
export interface Queue {
  readonly lane: Lane
  readonly group: Group
  readonly cohort: Cohort | null
  readonly ready: OrderedHeap<Vertex>
}

/** The actions of one node group. */
export interface Group {
  readonly name: string
  maxFailures: number | null
  maxParallelNodes: number | null
  readonly vertices: Vertex[]
  pendingFrom: number
  failures: number
  /** Live attempts by lane; lanes without one are not in it. */
  readonly live: Map<Lane, number>
}

/** Actions of a component that are one action in its blueprint, of which only so many may be begun and not ended at once. */
export interface Cohort {
  readonly component: string
  readonly name: string
  readonly most: number
  /** Sent, between two attempts, or of unknown outcome: their nodes are in the middle of it. */
  readonly begun: Set<Vertex>
}

/** Place of a ready action among all that are ready, by how long they have been. */
export interface Turn {
  readonly vertex: Vertex
  slot: number
}

export interface TaskIndex {
  readonly vertices: readonly Vertex[]
  readonly byId: ReadonlyMap<ActionId, Vertex>
  readonly gates: ReadonlyMap<ActionId, GateVertex>
  /** Actions and gates, each after everything that it comes after. */
  readonly order: readonly AnyVertex[]
  readonly lanes: ReadonlyMap<NodeId, Lane>
  readonly groups: ReadonlyMap<string, Group>
  readonly busyLanes: Set<Lane>
  readonly readyLanes: Set<Lane>
  /** Groups in which more failed than may. */
  readonly stoppedGroups: Set<Group>
  /** Gates that wait for an approval. */
  readonly waitingGates: Set<GateVertex>
  readonly turns: OrderedHeap<Turn>
  readonly candidates: OrderedHeap<Vertex>
  readonly doomed: OrderedHeap<Vertex>
  readonly deadlines: OrderedHeap<Vertex>
  readonly retries: OrderedHeap<Vertex>
  readonly unsettled: OrderedHeap<Vertex>
  readonly unknown: OrderedHeap<Vertex>
  pendingFrom: number
  open: number
  /** Actions of this run that ended for good without success; neither skipped nor verifying ones are counted. */
  failures: number
  firstFailure: Vertex | null
  /** Verifying actions that are settled without success: that is no failure. */
  excused: number
  /** Actions without success that a retry of some nodes left as they were. */
  kept: number
  firstKept: Vertex | null
}

/** True of an action that only looks after unchanged ones: nothing ever fails because of it. */
export const isVerifying = (vertex: Vertex): boolean => vertex.action.verifies.length > 0

/** Of a settled vertex: true when what comes after it may go on. */
export const isDone = (vertex: AnyVertex): boolean => (vertex.kind === 'gate' ? vertex.view.state === 'open' : vertex.view.state === 'succeeded' || isVerifying(vertex))

/** True while it may still come to another state in this run. */
export function isOpen(index: TaskIndex, vertex: AnyVertex): boolean {
  const { state } = vertex.view
  if (vertex.kind === 'gate') return state === 'closed' || state === 'waiting'
  return state === 'pending' || state === 'sent' || state === 'waitingRetry' || vertex.heap === index.unsettled || vertex.heap === index.unknown
}

/** Moves the action to `heap`, or to none. */
export function moveTo(index: TaskIndex, vertex: Vertex, heap: OrderedHeap<Vertex> | null): void {
  const from = vertex.heap
  from?.remove(vertex)
  vertex.heap = heap
  heap?.add(vertex)
  const { lane, queue: { ready, cohort } } = vertex
  if (cohort !== null) countBegun(index, cohort, vertex)
  if (from !== ready && heap !== ready) return
  if (from === ready) {
    lane.ready -= 1
    index.turns.remove(vertex.turn)
  }
  if (heap === ready) {
    lane.ready += 1
    index.turns.add(vertex.turn)
  }
  if (lane.ready > 0) index.readyLanes.add(lane)
  else index.readyLanes.delete(lane)
}

/** What never was sent has begun nothing, even if it is tried again. */
function countBegun(index: TaskIndex, { begun }: Cohort, vertex: Vertex): void {
  const { heap, view } = vertex
  if (view.begunAt !== null && (heap === index.deadlines || heap === index.retries || heap === index.unsettled || heap === index.unknown)) begun.add(vertex)
  else begun.delete(vertex)
}

/** Counts one live attempt more (1) or fewer (-1) on the node of the action. */
export function countLive(index: TaskIndex, vertex: Vertex, change: 1 | -1): void {
  const { lane, group } = vertex
  lane.live += change
  if (lane.live > 0) index.busyLanes.add(lane)
  else index.busyLanes.delete(lane)
  const live = (group.live.get(lane) ?? 0) + change
  if (live > 0) group.live.set(lane, live)
  else group.live.delete(lane)
}

/** Counts one failure more (1) or fewer (-1), in the task and in the group of the action. */
export function countFailure(index: TaskIndex, vertex: Vertex, change: 1 | -1): void {
  const { group } = vertex
  index.failures += change
  group.failures += change
  if (group.maxFailures !== null && group.failures > group.maxFailures) index.stoppedGroups.add(group)
  else index.stoppedGroups.delete(group)
  if (change === 1) index.firstFailure ??= vertex
  else if (index.firstFailure === vertex) index.firstFailure = null
}

/** Moves the marks of the first pending action on, in the graph and in the group, past those that are not pending. */
export function passPending(index: TaskIndex, group?: Group): void {
  for (const marked of group === undefined ? [index] : [index, group]) {
    while (marked.pendingFrom < marked.vertices.length && marked.vertices[marked.pendingFrom]?.view.state !== 'pending') marked.pendingFrom += 1
  }
}

/** Moves the marks back, for an action that is pending again. */
export function reachPending(index: TaskIndex, vertex: Vertex): void {
  const { group } = vertex
  index.pendingFrom = Math.min(index.pendingFrom, vertex.position)
  while (group.pendingFrom > 0 && (group.vertices[group.pendingFrom - 1] as Vertex).position >= vertex.position) group.pendingFrom -= 1
}
