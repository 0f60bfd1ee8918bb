/**
 * The index of a task: what decisions look up, kept up to date with each event, so that neither an event nor a decision costs time that grows
 * with the number of actions. Owned by state.ts; decide.ts and waiting.ts only read it.
 * Invariants: (1) an action is in at most one heap: its node's `ready` (pending, every dependency succeeded), `doomed` (pending, a dependency
 * ended otherwise), `deadlines` (sent), `retries` (waitingRetry) or `unsettled` (failed, and its policy still allows another attempt);
 * (2) `lane.live` counts the sent actions of the node, `busyLanes` holds the lanes where it is above 0, `readyLanes` those with ready actions;
 * (3) no action before `pendingFrom` is pending; (4) `open` counts the actions that are not settled.
 */
import type { ActionId, NodeId } from '../ids.js'
import type { Action, ActionGraph } from '../graph/action-graph.js'
import { LichenError } from '../errors.js'
import { OrderedHeap } from './ordered-heap.js'
import type { ActionView } from './task-view.js'

/** An action's view while events are applied to it. */
export type ActionDraft = { -readonly [Key in keyof ActionView]: ActionView[Key] }

/** One action with what is kept about it. */
export interface Vertex {
  readonly action: Action
  /** Index in the graph: the order of decisions. */
  readonly position: number
  readonly view: ActionDraft
  readonly lane: Lane
  readonly dependents: Vertex[]
  /** Dependencies that have not succeeded. */
  blockers: number
  /** The action because of which this one cannot run; null while it can. */
  cause: Vertex | null
  /** Since when nothing but limits and its node hold it back. */
  readySince: number
  heap: OrderedHeap<Vertex> | null
  slot: number
}

/** The actions of one node. */
export interface Lane {
  readonly node: NodeId
  readonly ready: OrderedHeap<Vertex>
  live: number
}

export interface TaskIndex {
  readonly vertices: readonly Vertex[]
  readonly byId: ReadonlyMap<ActionId, Vertex>
  readonly lanes: ReadonlyMap<NodeId, Lane>
  readonly busyLanes: Set<Lane>
  readonly readyLanes: Set<Lane>
  readonly doomed: OrderedHeap<Vertex>
  readonly deadlines: OrderedHeap<Vertex>
  readonly retries: OrderedHeap<Vertex>
  readonly unsettled: OrderedHeap<Vertex>
  pendingFrom: number
  open: number
  /** Actions of this run that ended for good without success, skipped ones not counted. */
  failures: number
  firstFailure: Vertex | null
}

const byPosition = (left: Vertex, right: Vertex): boolean => left.position < right.position
const byDeadline = (left: Vertex, right: Vertex): boolean => (left.view.deadline ?? 0) < (right.view.deadline ?? 0) || (left.view.deadline === right.view.deadline && byPosition(left, right))
const byNotBefore = (left: Vertex, right: Vertex): boolean => (left.view.notBefore ?? 0) < (right.view.notBefore ?? 0) || (left.view.notBefore === right.view.notBefore && byPosition(left, right))

/** The index of a task without a graph. */
export const buildEmptyIndex = (): TaskIndex => assembleIndex([], new Map(), new Map())

function assembleIndex(vertices: Vertex[], byId: Map<ActionId, Vertex>, lanes: Map<NodeId, Lane>): TaskIndex {
  return {
    vertices, byId, lanes, busyLanes: new Set(), readyLanes: new Set(), doomed: new OrderedHeap(byPosition), deadlines: new OrderedHeap(byDeadline),
    retries: new OrderedHeap(byNotBefore), unsettled: new OrderedHeap(byPosition), pendingFrom: 0, open: 0, failures: 0, firstFailure: null,
  }
}

/**
 * The index of a graph, every action pending; `at`: since when (ms since the epoch).
 * @throws TASK_ILLEGAL_EVENT when an action stands twice or before one that it comes after (a graph with a circle has no such order)
 */
export function buildIndex(graph: ActionGraph, at: number): TaskIndex {
  const byId = new Map<ActionId, Vertex>()
  const lanes = new Map<NodeId, Lane>()
  const vertices = graph.actions.map((action, position): Vertex => {
    if (byId.has(action.id)) throw new LichenError('TASK_ILLEGAL_EVENT', `the graph has two actions ${action.id}`)
    let lane = lanes.get(action.node)
    if (lane === undefined) lanes.set(action.node, (lane = { node: action.node, ready: new OrderedHeap(byPosition), live: 0 }))
    const vertex: Vertex = { action, position, view: buildActionDraft(action), lane, dependents: [], blockers: 0, cause: null, readySince: at, heap: null, slot: -1 }
    for (const before of action.after) {
      const dependency = byId.get(before)
      if (dependency === undefined) throw new LichenError('TASK_ILLEGAL_EVENT', `${action.id} comes after ${before}, which does not stand before it in the graph`)
      dependency.dependents.push(vertex)
    }
    byId.set(action.id, vertex)
    return vertex
  })
  const index = assembleIndex(vertices, byId, lanes)
  resetIndex(index, at)
  return index
}

const buildActionDraft = (action: Action): ActionDraft => ({
  id: action.id, node: action.node, state: 'pending', attempt: 0, attemptsInRun: 0, epoch: 0, sentAt: null, deadline: null, notBefore: null, endedAt: null, result: null, reason: '',
})

/** Makes the index match the states of its actions again; used where many change at once (a new graph, a retry of the task). Costs the size of the graph. */
export function resetIndex(index: TaskIndex, at: number): void {
  for (const heap of [index.doomed, index.deadlines, index.retries, index.unsettled]) heap.clear()
  for (const lane of index.lanes.values()) {
    lane.ready.clear()
    lane.live = 0
  }
  index.busyLanes.clear()
  index.readyLanes.clear()
  Object.assign(index, { pendingFrom: 0, open: 0, failures: 0, firstFailure: null })
  for (const vertex of index.vertices) {
    vertex.heap = null
    vertex.cause = null
    vertex.blockers = 0
    for (const before of vertex.action.after) if (index.byId.get(before)?.view.state !== 'succeeded') vertex.blockers += 1
    if (vertex.view.state !== 'pending') continue
    index.open += 1
    if (vertex.blockers === 0) markReady(index, vertex, at)
  }
}

/** Moves the action to `heap`, or to none. */
export function moveTo(index: TaskIndex, vertex: Vertex, heap: OrderedHeap<Vertex> | null): void {
  const from = vertex.heap
  from?.remove(vertex)
  vertex.heap = heap
  heap?.add(vertex)
  const { lane } = vertex
  if (from !== lane.ready && heap !== lane.ready) return
  if (lane.ready.size > 0) index.readyLanes.add(lane)
  else index.readyLanes.delete(lane)
}

/** Nothing but limits and its node hold the action back from now on. */
export function markReady(index: TaskIndex, vertex: Vertex, at: number): void {
  vertex.readySince = at
  moveTo(index, vertex, vertex.lane.ready)
}

/** Counts one live attempt more (1) or fewer (-1) on the node of the action. */
export function countLive(index: TaskIndex, vertex: Vertex, change: 1 | -1): void {
  const { lane } = vertex
  lane.live += change
  if (lane.live > 0) index.busyLanes.add(lane)
  else index.busyLanes.delete(lane)
}
