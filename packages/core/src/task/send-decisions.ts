/** Decisions to begin: within the limits of the engine, the rollout and its groups. */
import type { Action } from '../graph/action-graph.js'
import { byChain } from './build-index.js'
import type { Decision, NodeReach, World } from './decision.js'
import { listDueRetries } from './settle-decisions.js'
import type { Cohort, Group, Lane, Queue, Vertex } from './task-index.js'
import { actionEndOf, type TaskLimits } from './task-limits.js'
import type { TrackedTask } from './tracked-task.js'

/** Actions that may begin now: retries that are due first, then the others node by node, those first on which the longest chain waits. */
export function send(task: TrackedTask, world: World, now: number, limits: TaskLimits): Decision[] {
  const { busyLanes, readyLanes } = task.index
  const room = new Room(task, limits)
  const decisions: Decision[] = []
  const isFull = (): boolean => decisions.length >= limits.decisionsAtOnce
  const accepts = ({ action }: Vertex): boolean => isAccepted(action, world.reachOf(action.node).state)
  const offer = (vertex: Vertex): void => {
    if (isFull() || !room.admits(vertex)) return
    room.take(vertex)
    decisions.push(sendOf(vertex, now, limits))
  }
  const offerLane = (lane: Lane): void => {
    const most = room.inLane(lane)
    if (most <= 0 || lane.ready === 0) return
    const { state } = world.reachOf(lane.node)
    // A cordoned node may have others in front of what it accepts.
    if (state === 'cordoned') for (const vertex of room.listFirst(lane, lane.ready).filter(accepts).slice(0, most)) offer(vertex)
    else if (state === 'ready') for (const vertex of room.listFirst(lane, most)) offer(vertex)
  }

  for (const vertex of listDueRetries(task, now)) if (accepts(vertex)) offer(vertex)
  for (const lane of busyLanes) offerLane(lane)
  for (const lane of readyLanes) {
    if (room.freeNodes <= 0 || isFull()) break
    if (lane.live === 0) offerLane(lane)
  }
  return decisions
}

/** Whether a node in this state takes the action: one that is cordoned only what makes it leave. */
export const isAccepted = ({ isDeparture }: Action, state: NodeReach['state']): boolean => state === 'ready' || (state === 'cordoned' && isDeparture === true)

/** How much may begin, with what has been decided already. */
class Room {
  freeNodes: number
  readonly #added = new Map<Lane, number>()
  readonly #addedToGroups = new Map<Group, Set<Lane>>()
  readonly #addedToCohorts = new Map<Cohort, number>()

  constructor(
    task: TrackedTask,
    readonly limits: TaskLimits,
  ) {
    this.freeNodes = (task.graph?.rollout.maxParallelNodes ?? 1) - task.index.busyLanes.size
  }

  /** How many more may begin on the node. */
  inLane(lane: Lane): number {
    const live = this.#liveIn(lane)
    return live === 0 && this.freeNodes <= 0 ? 0 : this.limits.actionsPerNode - live
  }

  /** Whether the action may begin now, or go on with its next attempt. */
  admits(vertex: Vertex): boolean {
    const { lane, group, queue: { cohort } } = vertex
    return this.inLane(lane) > 0 && this.#isGroupFree(group, lane) && (cohort === null || cohort.begun.has(vertex) || this.#inCohort(cohort) > 0)
  }

  take(vertex: Vertex): void {
    const { lane, group, queue: { cohort } } = vertex
    if (cohort !== null && !cohort.begun.has(vertex)) this.#addedToCohorts.set(cohort, (this.#addedToCohorts.get(cohort) ?? 0) + 1)
    const live = this.#liveIn(lane)
    if (live === 0) this.freeNodes -= 1
    this.#added.set(lane, (this.#added.get(lane) ?? 0) + 1)
    if (group.maxParallelNodes === null || group.live.has(lane)) return
    const lanes = this.#addedToGroups.get(group) ?? new Set<Lane>()
    this.#addedToGroups.set(group, lanes.add(lane))
  }

  /** The ready actions of the node that go first, those of full groups and cohorts left out. */
  listFirst(lane: Lane, most: number): Vertex[] {
    const [first, ...others] = lane.queues.filter((queue) => this.#isQueueFree(queue)).map(({ ready, cohort }) => ready.first(Math.min(most, this.#inCohort(cohort))))
    if (first === undefined || others.length === 0) return first ?? []
    return [...first, ...others.flat()].sort((left, right) => (byChain(left, right) ? -1 : 1)).slice(0, most)
  }

  #isQueueFree({ lane, group, cohort, ready }: Queue): boolean {
    return ready.size > 0 && this.#isGroupFree(group, lane) && this.#inCohort(cohort) > 0
  }

  /** How many more of it may begin. */
  #inCohort(cohort: Cohort | null): number {
    return cohort === null ? Number.POSITIVE_INFINITY : cohort.most - cohort.begun.size - (this.#addedToCohorts.get(cohort) ?? 0)
  }

  #liveIn(lane: Lane): number {
    return lane.live + (this.#added.get(lane) ?? 0)
  }

  #isGroupFree(group: Group, lane: Lane): boolean {
    if (group.maxParallelNodes === null || group.live.has(lane)) return true
    const added = this.#addedToGroups.get(group)
    return added?.has(lane) === true || group.live.size + (added?.size ?? 0) < group.maxParallelNodes
  }
}

/** Where the action has a limit over all its attempts, no attempt begins after it, and each has what is left. */
function sendOf(vertex: Vertex, now: number, limits: TaskLimits): Decision {
  const { action, view } = vertex
  const left = view.begunAt === null ? (action.limitMs ?? Number.POSITIVE_INFINITY) : actionEndOf(vertex) - now
  const timeoutMs = Math.min(action.timeoutMs, left)
  const expiresAt = now + Math.min(limits.beginWithinMs, left)
  return { type: 'send', action, attempt: view.attempt + 1, timeoutMs, expiresAt, deadline: expiresAt + timeoutMs + limits.answerGraceMs }
}

/** Until when an order that was sent with this deadline and limit of the attempt may begin on its node; for sending it again. */
export const expiryOf = (deadline: number, timeoutMs: number, limits: TaskLimits): number => deadline - timeoutMs - limits.answerGraceMs
