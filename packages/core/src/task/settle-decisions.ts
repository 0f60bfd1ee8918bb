/** Decisions that settle what is already so: retries of what failed, answers that did not come, waits that were too long, effects that are there. */
import type { Action, Unchanged } from '../graph/action-graph.js'
import type { NodeId } from '../ids.js'
import { type Decision, lostSince, record, type World } from './decision.js'
import { buildEngineResult } from './engine-result.js'
import type { TaskEvent } from './events.js'
import type { Vertex } from './task-index.js'
import { actionEndOf, backoffOf, describeMs, describeTime, type TaskLimits } from './task-limits.js'
import type { TrackedTask } from './tracked-task.js'

/** What is to be recorded of it now, at most `limits.decisionsAtOnce`. */
export function settle(task: TrackedTask, world: World, now: number, limits: TaskLimits): Decision[] {
  const { index } = task
  const events: TaskEvent[] = []
  const room = (): number => limits.decisionsAtOnce - events.length
  for (const vertex of index.unsettled.first(room())) events.push(planRetry(vertex, now))
  const cancelIsOver = task.cancelRequestedAt !== null && task.cancelRequestedAt + limits.cancelWaitMs <= now
  for (const vertex of index.deadlines.first(room(), ({ view }) => cancelIsOver || (view.deadline ?? 0) <= now)) events.push(giveUpAnswer(vertex, now, cancelIsOver))
  if (task.state !== 'running' && task.state !== 'paused') return events.map(record)
  const late = listDueRetries(task, now).filter((vertex) => actionEndOf(vertex) <= now)
  for (const vertex of late.slice(0, room())) events.push(giveUpAction(vertex, now))
  if (task.state === 'paused') return events.map(record)
  for (const vertex of index.candidates.first(room())) events.push(leaveOut(vertex))
  const given = new Set(late)
  const waited = listWaitedTooLong(task, world, now, limits).filter((vertex) => !given.has(vertex)).sort((left, right) => left.position - right.position)
  for (const vertex of waited.slice(0, room())) events.push(giveUpWaiting(task, vertex, world, now))
  return events.map(record)
}

function planRetry({ action, view }: Vertex, now: number): TaskEvent {
  const notBefore = Math.max(now, (view.endedAt ?? now) + backoffOf(action.retry.backoffMs, view.attemptsInRun))
  const failure = view.result?.failure
  const where = failure?.command === undefined ? '' : ` at command "${failure.command}"`
  const what = view.state === 'timedOut' ? 'timed out' : 'failed'
  const reason = `attempt ${view.attempt} ${what}${where}${failure ? `: ${failure.message}` : ''}; the next one (${view.attemptsInRun + 1} of ${action.retry.attempts}) begins ${notBefore <= now ? 'now' : `in ${describeMs(notBefore - now)}`}`
  return { type: 'actionRetryPlanned', action: action.id, attempt: view.attempt, notBefore, reason }
}

function giveUpAnswer({ action, view }: Vertex, now: number, cancelIsOver: boolean): TaskEvent {
  const why = cancelIsOver && (view.deadline ?? 0) > now ? `node ${action.node} did not answer after it was asked to cancel` : `node ${action.node} gave no answer to attempt ${view.attempt} before its deadline`
  const result = onlyLooks(action)
    ? buildEngineResult('timedOut', 'ACTION_NO_ANSWER', `${why}; it only looks, so nothing can have happened`, now)
    : buildEngineResult('unknown', 'ACTION_NO_ANSWER', `${why}; whether the effect happened is unknown`, now)
  return { type: 'actionEnded', action: action.id, attempt: view.attempt, result }
}

/** True when no attempt of the action changes anything, so that nobody need be asked whether one did. */
const onlyLooks = ({ mode, commands }: Action): boolean => mode === 'check' || (commands.length > 0 && commands.every(({ kind }) => kind === 'probe' || kind === 'note'))

const failUnsent = ({ action, view }: Vertex, code: string, message: string, now: number): TaskEvent =>
  ({ type: 'actionEnded', action: action.id, attempt: view.attempt + 1, result: buildEngineResult('failed', code, message, now) })

function giveUpAction(vertex: Vertex, now: number): TaskEvent {
  const message = `the action did not succeed within ${describeMs(vertex.action.limitMs ?? 0)} of its first attempt, its limit; ${vertex.view.reason}`
  return failUnsent(vertex, 'ACTION_LIMIT', message, now)
}

function leaveOut({ action }: Vertex): TaskEvent {
  const { since, check } = action.unchanged as Unchanged
  const how = check === null ? 'nothing that it depends on has changed' : 'its effect is still there'
  return { type: 'actionUnchanged', action: action.id, since, reason: `unchanged since task ${since}; ${how}` }
}

/** Retries whose pause is over, in order. */
export const listDueRetries = (task: TrackedTask, now: number): Vertex[] => task.index.retries.first(Number.POSITIVE_INFINITY, ({ view }) => (view.notBefore ?? 0) <= now)

/** Since when the action could begin: a pause of the task is not its waiting. */
export const waitingSince = (task: TrackedTask, { view, readySince }: Vertex): number => Math.max(task.resumedAt, view.state === 'waitingRetry' ? (view.notBefore ?? 0) : readySince)

/** Actions that could begin and waited for it longer than the limit: that of the plan for any wait, else that of the engine for a node that is out of reach. */
function listWaitedTooLong(task: TrackedTask, world: World, now: number, limits: TaskLimits): Vertex[] {
  const queuedMs = task.graph?.limits.queuedMs ?? null
  if (queuedMs === null) return listAbandoned(task, world, now, limits)
  const isOver = (vertex: Vertex): boolean => waitingSince(task, vertex) + queuedMs <= now
  return [...task.index.turns.first(limits.decisionsAtOnce, ({ vertex }) => isOver(vertex)).map(({ vertex }) => vertex), ...listDueRetries(task, now).filter(isOver)]
}

function listAbandoned(task: TrackedTask, world: World, now: number, limits: TaskLimits): Vertex[] {
  const isOver = (vertex: Vertex, lost: number): boolean => Math.max(waitingSince(task, vertex), lost) + limits.nodeWaitMs <= now
  const abandoned: Vertex[] = []
  for (const { node, queues } of task.index.readyLanes) {
    const lost = lostSince(node, world)
    if (lost === undefined || lost + limits.nodeWaitMs > now) continue
    for (const { ready } of queues) abandoned.push(...ready.values().filter((vertex) => isOver(vertex, lost)))
  }
  for (const vertex of listDueRetries(task, now)) {
    const lost = lostSince(vertex.action.node, world)
    if (lost !== undefined && isOver(vertex, lost)) abandoned.push(vertex)
  }
  return abandoned
}

function giveUpWaiting(task: TrackedTask, vertex: Vertex, world: World, now: number): TaskEvent {
  const { node } = vertex.action
  const queuedMs = task.graph?.limits.queuedMs ?? null
  const why = describeHindrance(node, world)
  if (queuedMs === null) return failUnsent(vertex, 'ACTION_NODE_LOST', `${why}; the action was not sent`, now)
  const message = `the action could begin since ${describeTime(waitingSince(task, vertex))} and did not within ${describeMs(queuedMs)}, the limit of the plan (limits.queuedS): ${why}`
  return failUnsent(vertex, 'ACTION_QUEUED_TOO_LONG', message, now)
}

function describeHindrance(node: NodeId, world: World): string {
  const { state, since } = world.reachOf(node)
  if (state === 'gone') return `node ${node} is not registered any more`
  if (state === 'lost') return `node ${node} has been out of reach since ${describeTime(since)}`
  return state === 'cordoned' ? `node ${node} is cordoned` : 'its turn did not come, because of the limits of the rollout'
}
