/**
 * What an event does to one action: checks that the pair fits, then changes the action, the counts and the index together.
 * Called by state.ts alone. A pair that does not fit is TASK_ILLEGAL_EVENT and changes nothing.
 */
import { LichenError } from '../errors.js'
import type { NodeId } from '../ids.js'
import { announce, takeBack } from './consequences.js'
import type { TaskEvent } from './events.js'
import { farther } from './reach.js'
import { isOutOfTime, isRetryable } from './retry-policy.js'
import { countFailure, countLive, isVerifying, moveTo, passPending, type Vertex } from './task-index.js'
import { describeMs } from './task-limits.js'
import type { ActionState } from './task-view.js'
import type { TaskDraft } from './tracked-task.js'

export type EventOf<Type extends TaskEvent['type']> = Extract<TaskEvent, { type: Type }>

/** The action an event speaks of. @throws TASK_ILLEGAL_EVENT when the task has no such action */
export function vertexOf(task: TaskDraft, id: string): Vertex {
  const vertex = task.index.byId.get(id as never)
  if (vertex === undefined) throw new LichenError('TASK_ILLEGAL_EVENT', `event ${task.seq + 1}: no action ${id} in this task`)
  return vertex
}

/** @throws TASK_ILLEGAL_EVENT always */
export function refuse(task: TaskDraft, vertex: Vertex, event: TaskEvent, why: string): never {
  const { view } = vertex
  throw new LichenError('TASK_ILLEGAL_EVENT', `event ${task.seq + 1}, ${event.type} of ${view.id}: ${why} (action is ${view.state}, attempt ${view.attempt}; task is ${task.state})`)
}

/** Changes the state and the counts together. */
export function setState(task: TaskDraft, vertex: Vertex, state: ActionState): void {
  task.counts[vertex.view.state] -= 1
  task.counts[state] += 1
  vertex.view.state = state
}

/** True while what fails may be tried again and what is unknown may be answered. */
export const isGoingOn = (task: TaskDraft): boolean => task.state === 'running' || task.state === 'paused'

const isWaiting = (vertex: Vertex): boolean => vertex.view.state === 'pending' || vertex.view.state === 'waitingRetry'

/** An attempt goes out. */
export function applyActionSent(task: TaskDraft, event: EventOf<'actionSent'>, at: number): void {
  const vertex = vertexOf(task, event.action)
  const { view } = vertex
  if (task.state !== 'running') refuse(task, vertex, event, 'nothing is sent now')
  if (!isWaiting(vertex) || vertex.blockers > 0) refuse(task, vertex, event, 'the action cannot begin')
  if (event.attempt !== view.attempt + 1) refuse(task, vertex, event, `attempt ${event.attempt} is not the next one`)
  if (event.node !== vertex.action.node) refuse(task, vertex, event, `node ${event.node} is not its node`)
  moveTo(task.index, vertex, null)
  setState(task, vertex, 'sent')
  Object.assign(view, {
    attempt: event.attempt, attemptsInRun: view.attemptsInRun + 1, epoch: event.epoch, sentAt: at, begunAt: view.begunAt ?? at, timeoutMs: event.timeoutMs, deadline: event.deadline,
    notBefore: null, endedAt: null, reason: '',
  })
  moveTo(task.index, vertex, task.index.deadlines)
  countLive(task.index, vertex, 1)
}

/**
 * The live attempt ended; or an attempt that could not even be sent: then its number is the next one; or an attempt whose outcome is unknown because its node
 * did not answer in time: the late answer is as good as any.
 */
export function applyActionEnded(task: TaskDraft, event: EventOf<'actionEnded'>, at: number): void {
  const vertex = vertexOf(task, event.action)
  const { view } = vertex
  const { outcome } = event.result
  if (view.state === 'sent') {
    if (event.attempt !== view.attempt) refuse(task, vertex, event, `attempt ${event.attempt} is not the live one`)
    countLive(task.index, vertex, -1)
    noteChange(vertex, event)
  } else if (vertex.heap === task.index.unknown) {
    if (event.attempt !== view.attempt || outcome === 'unknown') refuse(task, vertex, event, 'its outcome is unknown')
  } else {
    if (!isWaiting(vertex) || event.attempt !== view.attempt + 1) refuse(task, vertex, event, `attempt ${event.attempt} is not live`)
    if (outcome === 'succeeded') refuse(task, vertex, event, 'an attempt that was never sent cannot have succeeded')
    view.attempt = event.attempt
    view.attemptsInRun += 1
  }
  moveTo(task.index, vertex, null)
  setState(task, vertex, outcome)
  Object.assign(view, { timeoutMs: null, deadline: null, notBefore: null, endedAt: at, result: event.result, reason: event.result.failure?.message ?? '' })
  settle(task, vertex, event, at)
}

/** What succeeded says whether it changed something. What did not may have stopped half-way, whatever it says. */
function noteChange(vertex: Vertex, { result }: EventOf<'actionEnded'>): void {
  if (vertex.action.mode === 'check' || isVerifying(vertex) || (result.outcome === 'succeeded' && !result.changed)) return
  vertex.hasChanged = true
  vertex.reach = farther(vertex.reach, vertex.action.isAddition ? 'near' : 'all')
}

function settle(task: TaskDraft, vertex: Vertex, { result }: EventOf<'actionEnded'>, at: number): void {
  const { index } = task
  if (result.outcome === 'succeeded') return settleSuccess(task, vertex, at)
  if (!isGoingOn(task)) return settleFailure(task, vertex, at)
  if (result.outcome === 'unknown' && vertex.action.mode === 'do' && !isVerifying(vertex)) return moveTo(index, vertex, index.unknown)
  if (!isRetryable(vertex, result)) return settleFailure(task, vertex, at)
  if (!isOutOfTime(vertex, at)) return moveTo(index, vertex, index.unsettled)
  vertex.view.reason += `; no time is left for another attempt within the limit of the action, ${describeMs(vertex.action.limitMs ?? 0)}`
  settleFailure(task, vertex, at)
}

/** The action is done: what comes after it may go on. */
export function settleSuccess(task: TaskDraft, vertex: Vertex, at: number): void {
  task.index.open -= 1
  announce(task, vertex, at)
}

/** The action ended for good without success: what comes after it cannot run. Of a verifying action that is no failure. */
export function settleFailure(task: TaskDraft, vertex: Vertex, at: number): void {
  moveTo(task.index, vertex, null)
  task.index.open -= 1
  if (isVerifying(vertex)) task.index.excused += 1
  else countFailure(task.index, vertex, 1)
  passPending(task.index, vertex.group)
  announce(task, vertex, at)
}

/** The failed attempt is followed by another one later. */
export function applyRetryPlanned(task: TaskDraft, event: EventOf<'actionRetryPlanned'>): void {
  const vertex = vertexOf(task, event.action)
  const { view } = vertex
  if (!isGoingOn(task)) refuse(task, vertex, event, 'nothing is tried again now')
  if ((view.state !== 'failed' && view.state !== 'timedOut') || event.attempt !== view.attempt) refuse(task, vertex, event, `attempt ${event.attempt} has not failed`)
  if (vertex.heap !== task.index.unsettled) reviveFailure(task, vertex)
  moveTo(task.index, vertex, null)
  setState(task, vertex, 'waitingRetry')
  Object.assign(view, { notBefore: event.notBefore, reason: event.reason })
  moveTo(task.index, vertex, task.index.retries)
}

/** Events of a version with another retry policy: what this one counted as a failure for good was none. */
function reviveFailure(task: TaskDraft, vertex: Vertex): void {
  task.index.open += 1
  if (isVerifying(vertex)) task.index.excused -= 1
  else countFailure(task.index, vertex, -1)
  takeBack(task, vertex)
}

/** The action will not run. Its last result, if it had one, stays. */
export function applyActionSkipped(task: TaskDraft, event: EventOf<'actionSkipped'>, at: number): void {
  const vertex = vertexOf(task, event.action)
  if (!isWaiting(vertex)) refuse(task, vertex, event, 'only a waiting action can be skipped')
  moveTo(task.index, vertex, null)
  setState(task, vertex, 'skipped')
  Object.assign(vertex.view, { notBefore: null, endedAt: at, reason: event.reason })
  task.index.open -= 1
  if (isVerifying(vertex)) task.index.excused += 1
  passPending(task.index, vertex.group)
  announce(task, vertex, at)
}

/** The action need not run: it counts as succeeded, with the outputs of when it last did. */
export function applyActionUnchanged(task: TaskDraft, event: EventOf<'actionUnchanged'>, at: number): void {
  const vertex = vertexOf(task, event.action)
  if (!isGoingOn(task)) refuse(task, vertex, event, 'nothing is settled so now')
  if (vertex.view.state !== 'pending' || vertex.blockers > 0) refuse(task, vertex, event, 'the action could not begin')
  moveTo(task.index, vertex, null)
  setState(task, vertex, 'succeeded')
  const outputs = vertex.action.unchanged?.outputs ?? {}
  Object.assign(vertex.view, { endedAt: at, reason: event.reason, isUnchanged: true, result: { outcome: 'succeeded', changed: false, commands: [], outputs, startedAt: at, endedAt: at } })
  task.unchanged += 1
  settleSuccess(task, vertex, at)
}

/**
 * A retry of the task: every action that did not succeed starts over, or those on `nodes`. A verifying action does so with the first of those that it looks after: what it
 * found in the run before may not hold any more.
 */
export function restartActions(task: TaskDraft, nodes: readonly NodeId[] | undefined): void {
  const wanted = nodes === undefined ? undefined : new Set(nodes)
  for (const vertex of task.index.vertices) {
    if (vertex.view.state === 'succeeded' || wanted?.has(vertex.action.node) === false) continue
    restart(task, vertex)
    if (vertex.slice !== null && vertex.reach === 'none') restart(task, vertex.slice.by)
  }
}

function restart(task: TaskDraft, vertex: Vertex): void {
  setState(task, vertex, 'pending')
  vertex.cause = null
  Object.assign(vertex.view, { attemptsInRun: 0, sentAt: null, begunAt: null, timeoutMs: null, deadline: null, notBefore: null, endedAt: null, result: null, reason: '' })
}
