/**
 * What to do next for a task. Pure: the same view, world and time give the same decisions in the same order, and nothing is changed. The caller
 * records the events, applies them, and asks again until nothing is decided; then it waits for a result, a node, an event, or `nextWakeup`.
 *
 * Decisions come in phases, and only the first phase that has any is given, because each changes what the next may decide:
 * 1. settle: retries are planned, attempts without an answer and waits without a node are ended;
 * 2. skip: what can no longer run;
 * 3. send: what can begin, within the limits (or, while cancelling, asking nodes to stop);
 * 4. end: when every action is settled.
 */
import type { NodeId } from '../ids.js'
import type { Action } from '../graph/action-graph.js'
import type { TaskEvent } from './events.js'
import { concludeTask } from './conclusion.js'
import { buildEngineResult } from './engine-result.js'
import { backoffOf, type TaskLimits } from './task-limits.js'
import type { Lane, Vertex } from './task-index.js'
import type { TrackedTask } from './tracked-task.js'

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
  /** Record `actionSent`, then send the order. `expiresAt`: the node does not begin after it; `deadline`: the answer is given up then. */
  | { readonly type: 'send'; readonly action: Action; readonly attempt: number; readonly deadline: number; readonly expiresAt: number }
  /** Ask the node to stop the live attempt. Given each time while cancelling; asking once for each connection is enough. */
  | { readonly type: 'cancel'; readonly action: Action; readonly attempt: number; readonly reason: string }

/** The next decisions, at most `limits.decisionsAtOnce`; none while the task has no graph (unless it is cancelled) and after it ended. */
export function decide(task: TrackedTask, world: World, now: number, limits: TaskLimits): Decision[] {
  if (task.state === 'ended') return []
  if (task.graph === null) return task.state === 'cancelling' ? [record(concludeTask(task))] : []
  const settled = settle(task, world, now, limits)
  if (settled.length > 0) return settled
  const skipped = skip(task, limits)
  if (skipped.length > 0) return skipped
  if (task.index.open === 0) return [record(concludeTask(task))]
  return task.state === 'cancelling' ? askToCancel(task) : send(task, world, now, limits)
}

const record = (event: TaskEvent): Decision => ({ type: 'record', event })

function settle(task: TrackedTask, world: World, now: number, limits: TaskLimits): Decision[] {
  const { index } = task
  const most = limits.decisionsAtOnce
  const decisions = index.unsettled.first(most).map((vertex) => record(planRetry(vertex, now)))
  const cancelIsOver = task.cancelRequestedAt !== null && task.cancelRequestedAt + limits.cancelWaitMs <= now
  for (const vertex of index.deadlines.first(most - decisions.length, ({ view }) => cancelIsOver || (view.deadline ?? 0) <= now)) {
    decisions.push(record(giveUpAnswer(vertex, now, cancelIsOver)))
  }
  if (task.state === 'running') {
    const abandoned = listAbandoned(task, world, now, limits).sort((left, right) => left.position - right.position)
    for (const vertex of abandoned.slice(0, most - decisions.length)) decisions.push(record(giveUpNode(vertex, world, now)))
  }
  return decisions
}

function planRetry({ action, view }: Vertex, now: number): TaskEvent {
  const waitMs = backoffOf(action.retry.backoffMs, view.attemptsInRun)
  const failure = view.result?.failure
  const where = failure?.command === undefined ? '' : ` at command "${failure.command}"`
  const what = view.state === 'timedOut' ? 'timed out' : 'failed'
  const reason = `attempt ${view.attempt} ${what}${where}${failure ? `: ${failure.message}` : ''}; the next one (${view.attemptsInRun + 1} of ${action.retry.attempts}) begins ${waitMs === 0 ? 'now' : `in ${waitMs / 1000} s`}`
  return { type: 'actionRetryPlanned', action: action.id, attempt: view.attempt, notBefore: now + waitMs, reason }
}

function giveUpAnswer({ action, view }: Vertex, now: number, cancelIsOver: boolean): TaskEvent {
  const why = cancelIsOver && (view.deadline ?? 0) > now ? `node ${action.node} did not answer after it was asked to cancel` : `node ${action.node} gave no answer to attempt ${view.attempt} before its deadline`
  return { type: 'actionEnded', action: action.id, attempt: view.attempt, result: buildEngineResult('unknown', 'ACTION_NO_ANSWER', `${why}; whether the effect happened is unknown`, now) }
}

/** Actions that could start and waited for their node longer than the limit. */
function listAbandoned(task: TrackedTask, world: World, now: number, limits: TaskLimits): Vertex[] {
  const abandoned: Vertex[] = []
  const check = (vertex: Vertex, readySince: number, lostSince: number): void => {
    if (Math.max(readySince, lostSince) + limits.nodeWaitMs <= now) abandoned.push(vertex)
  }
  for (const lane of task.index.readyLanes) {
    const since = lostSince(lane.node, world)
    if (since === undefined || since + limits.nodeWaitMs > now) continue
    for (const vertex of lane.ready.values()) check(vertex, vertex.readySince, since)
  }
  for (const vertex of listDueRetries(task, now)) {
    const since = lostSince(vertex.action.node, world)
    if (since !== undefined) check(vertex, vertex.view.notBefore ?? 0, since)
  }
  return abandoned
}

function lostSince(node: NodeId, world: World): number | undefined {
  const reach = world.reachOf(node)
  return reach.state === 'lost' || reach.state === 'gone' ? reach.since : undefined
}

const listDueRetries = (task: TrackedTask, now: number): Vertex[] => task.index.retries.first(Number.POSITIVE_INFINITY, ({ view }) => (view.notBefore ?? 0) <= now)

function giveUpNode({ action, view }: Vertex, world: World, now: number): TaskEvent {
  const reach = world.reachOf(action.node)
  const what = reach.state === 'gone' ? 'is not registered any more' : `has been out of reach since ${describeTime(reach.since)}`
  const result = buildEngineResult('failed', 'ACTION_NODE_LOST', `node ${action.node} ${what}; the action was not sent`, now)
  return { type: 'actionEnded', action: action.id, attempt: view.attempt + 1, result }
}

const describeTime = (at: number): string => new Date(at).toISOString()

function skip(task: TrackedTask, limits: TaskLimits): Decision[] {
  const { index } = task
  const stop = reasonToStop(task)
  if (stop === undefined) return [...listDoomed(index.doomed.first(limits.decisionsAtOnce), limits.decisionsAtOnce)].map(([vertex, cause]) => skipOf(vertex, reasonOfDoom(cause)))
  const decisions: Decision[] = []
  if (task.state === 'cancelling') for (const vertex of index.retries.first(limits.decisionsAtOnce)) decisions.push(skipOf(vertex, `${stop} while it waited for another attempt; ${vertex.view.reason}`))
  for (let at = index.pendingFrom; at < index.vertices.length && decisions.length < limits.decisionsAtOnce; at++) {
    const vertex = index.vertices[at] as Vertex
    if (vertex.view.state === 'pending') decisions.push(skipOf(vertex, vertex.cause === null ? stop : reasonOfDoom(vertex.cause)))
  }
  return decisions
}

const skipOf = (vertex: Vertex, reason: string): Decision => record({ type: 'actionSkipped', action: vertex.action.id, reason })

/** Why nothing new may begin; undefined while something may. */
function reasonToStop(task: TrackedTask): string | undefined {
  if (task.state === 'cancelling') return 'cancelled'
  const allowed = task.graph?.rollout.maxFailures ?? 0
  const { failures } = task.index
  return failures > allowed ? `not started: ${failures} ${failures === 1 ? 'action' : 'actions'} failed, and rollout.maxFailures allows ${allowed}` : undefined
}

function reasonOfDoom({ action, view }: Vertex): string {
  const what = { failed: 'failed', timedOut: 'timed out', cancelled: 'was cancelled', unknown: 'ended with an unknown outcome' }[view.state as string] ?? 'was skipped'
  return `not started: it comes after ${action.id}, which ${what}`
}

/** Pending actions that cannot run, with the action that is to blame: those known to the index and all that come after them. */
function listDoomed(doomed: readonly Vertex[], most: number): Map<Vertex, Vertex> {
  const found = new Map<Vertex, Vertex>()
  const queue = [...doomed]
  for (const vertex of queue) found.set(vertex, vertex.cause ?? vertex)
  for (let at = 0; at < queue.length && found.size < most; at++) {
    const vertex = queue[at] as Vertex
    const cause = found.get(vertex) as Vertex
    for (const dependent of vertex.dependents) {
      if (dependent.view.state !== 'pending' || found.has(dependent)) continue
      found.set(dependent, cause)
      queue.push(dependent)
    }
  }
  return found
}

/** Actions that may begin now: retries that are due first, then the others in the order of the graph, node by node. */
function send(task: TrackedTask, world: World, now: number, limits: TaskLimits): Decision[] {
  const { busyLanes, readyLanes } = task.index
  const decisions: Decision[] = []
  const added = new Map<Lane, number>()
  let freeNodes = (task.graph?.rollout.maxParallelNodes ?? 1) - busyLanes.size

  const offer = (vertex: Vertex): void => {
    const { lane } = vertex
    const live = lane.live + (added.get(lane) ?? 0)
    if (live >= limits.actionsPerNode || decisions.length >= limits.decisionsAtOnce) return
    if (live === 0 && freeNodes <= 0) return
    if (live === 0) freeNodes -= 1
    added.set(lane, (added.get(lane) ?? 0) + 1)
    decisions.push(sendOf(vertex, now, limits))
  }
  const isReady = (lane: Lane): boolean => world.reachOf(lane.node).state === 'ready'
  const offerLane = (lane: Lane): void => {
    const room = limits.actionsPerNode - lane.live - (added.get(lane) ?? 0)
    if (room > 0 && lane.ready.size > 0 && isReady(lane)) for (const vertex of lane.ready.first(room)) offer(vertex)
  }

  for (const vertex of listDueRetries(task, now)) if (isReady(vertex.lane)) offer(vertex)
  for (const lane of busyLanes) offerLane(lane)
  for (const lane of readyLanes) {
    if (freeNodes <= 0 || decisions.length >= limits.decisionsAtOnce) break
    if (lane.live === 0) offerLane(lane)
  }
  return decisions
}

function sendOf({ action, view }: Vertex, now: number, limits: TaskLimits): Decision {
  const expiresAt = now + limits.beginWithinMs
  return { type: 'send', action, attempt: view.attempt + 1, expiresAt, deadline: expiresAt + action.timeoutMs + limits.answerGraceMs }
}

const askToCancel = (task: TrackedTask): Decision[] =>
  task.index.deadlines.values().map(({ action, view }) => ({ type: 'cancel', action, attempt: view.attempt, reason: task.reason }))

/** Until when an order that was sent with this deadline may begin on its node; for sending it again. */
export const expiryOf = (deadline: number, action: Action, limits: TaskLimits): number => deadline - action.timeoutMs - limits.answerGraceMs

/**
 * When to decide again although nothing happened (ms since the epoch); undefined when only a result, a node or an event can change anything.
 * May be early by design: the caller then decides nothing and asks again.
 */
export function nextWakeup(task: TrackedTask, world: World, now: number, limits: TaskLimits): number | undefined {
  if (task.state === 'ended') return undefined
  const times: number[] = []
  const deadline = task.index.deadlines.peek()?.view.deadline
  if (typeof deadline === 'number') times.push(task.cancelRequestedAt === null ? deadline : Math.min(deadline, task.cancelRequestedAt + limits.cancelWaitMs))
  const notBefore = task.index.retries.peek()?.view.notBefore
  if (typeof notBefore === 'number' && notBefore > now) times.push(notBefore)
  for (const lane of task.index.readyLanes) {
    const since = lostSince(lane.node, world)
    if (since !== undefined) times.push(Math.max(since + limits.nodeWaitMs, now + lostCheckMs))
  }
  if (listDueRetries(task, now).some((vertex) => lostSince(vertex.action.node, world) !== undefined)) times.push(now + lostCheckMs)
  return times.length === 0 ? undefined : Math.min(...times)
}

// Waits for a lost node that are over are found within this; exact times would need one more heap for a limit of minutes.
const lostCheckMs = 1_000
