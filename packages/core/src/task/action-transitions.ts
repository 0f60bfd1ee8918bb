/**
 * What an event does to one action: checks that the pair fits, then changes the action, the counts and the index together.
 * Called by state.ts alone. A pair that does not fit is TASK_ILLEGAL_EVENT and changes nothing.
 */
import { LichenError } from '../errors.js'
import type { TaskEvent } from './events.js'
import { isRetryable } from './retry-policy.js'
import { countLive, markReady, moveTo, type Vertex } from './task-index.js'
import type { ActionState } from './task-view.js'
import type { TaskDraft } from './tracked-task.js'

type EventOf<Type extends TaskEvent['type']> = Extract<TaskEvent, { type: Type }>

/** The action an event speaks of. @throws TASK_ILLEGAL_EVENT when the task has no such action */
export function vertexOf(task: TaskDraft, id: string): Vertex {
  const vertex = task.index.byId.get(id as never)
  if (vertex === undefined) throw new LichenError('TASK_ILLEGAL_EVENT', `event ${task.seq + 1}: no action ${id} in this task`)
  return vertex
}

function refuse(task: TaskDraft, vertex: Vertex, event: TaskEvent, why: string): never {
  const { view } = vertex
  throw new LichenError('TASK_ILLEGAL_EVENT', `event ${task.seq + 1}, ${event.type} of ${view.id}: ${why} (action is ${view.state}, attempt ${view.attempt}; task is ${task.state})`)
}

function setState(task: TaskDraft, vertex: Vertex, state: ActionState): void {
  task.counts[vertex.view.state] -= 1
  task.counts[state] += 1
  vertex.view.state = state
}

const isWaiting = (vertex: Vertex): boolean => vertex.view.state === 'pending' || vertex.view.state === 'waitingRetry'

/** An attempt goes out. */
export function applyActionSent(task: TaskDraft, event: EventOf<'actionSent'>, at: number): void {
  const vertex = vertexOf(task, event.action)
  if (task.state !== 'running') refuse(task, vertex, event, 'nothing is sent now')
  if (!isWaiting(vertex) || vertex.blockers > 0) refuse(task, vertex, event, 'the action cannot begin')
  if (event.attempt !== vertex.view.attempt + 1) refuse(task, vertex, event, `attempt ${event.attempt} is not the next one`)
  if (event.node !== vertex.action.node) refuse(task, vertex, event, `node ${event.node} is not its node`)
  moveTo(task.index, vertex, null)
  setState(task, vertex, 'sent')
  Object.assign(vertex.view, {
    attempt: event.attempt, attemptsInRun: vertex.view.attemptsInRun + 1, epoch: event.epoch, sentAt: at, deadline: event.deadline, notBefore: null, endedAt: null, reason: '',
  })
  moveTo(task.index, vertex, task.index.deadlines)
  countLive(task.index, vertex, 1)
}

/** The live attempt ended; or an attempt that could not even be sent: then its number is the next one. */
export function applyActionEnded(task: TaskDraft, event: EventOf<'actionEnded'>, at: number): void {
  const vertex = vertexOf(task, event.action)
  const { view } = vertex
  if (view.state === 'sent') {
    if (event.attempt !== view.attempt) refuse(task, vertex, event, `attempt ${event.attempt} is not the live one`)
    countLive(task.index, vertex, -1)
  } else {
    if (!isWaiting(vertex) || event.attempt !== view.attempt + 1) refuse(task, vertex, event, `attempt ${event.attempt} is not live`)
    if (event.result.outcome === 'succeeded') refuse(task, vertex, event, 'an attempt that was never sent cannot have succeeded')
    view.attempt = event.attempt
    view.attemptsInRun += 1
  }
  moveTo(task.index, vertex, null)
  setState(task, vertex, event.result.outcome)
  Object.assign(view, { deadline: null, notBefore: null, endedAt: at, result: event.result, reason: event.result.failure?.message ?? '' })
  if (event.result.outcome === 'succeeded') settleSuccess(task, vertex, at)
  else if (task.state === 'running' && isRetryable(vertex, event.result)) moveTo(task.index, vertex, task.index.unsettled)
  else settleFailure(task, vertex)
}

function settleSuccess(task: TaskDraft, vertex: Vertex, at: number): void {
  task.index.open -= 1
  for (const dependent of vertex.dependents) {
    dependent.blockers -= 1
    if (dependent.blockers === 0 && dependent.view.state === 'pending') markReady(task.index, dependent, at)
  }
}

/** The action ended for good without success: what comes after it cannot run. */
export function settleFailure(task: TaskDraft, vertex: Vertex): void {
  moveTo(task.index, vertex, null)
  task.index.open -= 1
  task.index.failures += 1
  task.index.firstFailure ??= vertex
  doomDependents(task, vertex, vertex)
}

function doomDependents(task: TaskDraft, vertex: Vertex, cause: Vertex): void {
  for (const dependent of vertex.dependents) {
    if (dependent.view.state !== 'pending' || dependent.cause !== null) continue
    dependent.cause = cause
    moveTo(task.index, dependent, task.index.doomed)
  }
}

/** The failed attempt is followed by another one later. */
export function applyRetryPlanned(task: TaskDraft, event: EventOf<'actionRetryPlanned'>): void {
  const vertex = vertexOf(task, event.action)
  const { view } = vertex
  if (task.state !== 'running') refuse(task, vertex, event, 'nothing is tried again now')
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
  task.index.failures -= 1
  if (task.index.firstFailure === vertex) task.index.firstFailure = null
  for (const dependent of vertex.dependents) {
    if (dependent.cause !== vertex || dependent.view.state !== 'pending') continue
    dependent.cause = null
    moveTo(task.index, dependent, null)
  }
}

/** The action will not run. Its last result, if it had one, stays. */
export function applyActionSkipped(task: TaskDraft, event: EventOf<'actionSkipped'>, at: number): void {
  const vertex = vertexOf(task, event.action)
  if (!isWaiting(vertex)) refuse(task, vertex, event, 'only a waiting action can be skipped')
  moveTo(task.index, vertex, null)
  setState(task, vertex, 'skipped')
  Object.assign(vertex.view, { notBefore: null, endedAt: at, reason: event.reason })
  task.index.open -= 1
  doomDependents(task, vertex, vertex.cause ?? vertex)
  const { index } = task
  while (index.pendingFrom < index.vertices.length && index.vertices[index.pendingFrom]?.view.state !== 'pending') index.pendingFrom += 1
}

/** A retry of the task: every action that did not succeed starts over. */
export function restartActions(task: TaskDraft): void {
  for (const vertex of task.index.vertices) {
    if (vertex.view.state === 'succeeded') continue
    setState(task, vertex, 'pending')
    Object.assign(vertex.view, { attemptsInRun: 0, sentAt: null, deadline: null, notBefore: null, endedAt: null, result: null, reason: '' })
  }
}
