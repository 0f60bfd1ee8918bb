import { lostSince, type World } from './decision.js'
import { listDueRetries, waitingSince } from './settle-decisions.js'
import type { Vertex } from './task-index.js'
import { actionEndOf, type TaskLimits, taskEndOf } from './task-limits.js'
import type { TrackedTask } from './tracked-task.js'

// Waits for a lost node that are over are found within this; exact times would need one more heap for a limit of minutes.
const lostCheckMs = 1_000

/**
 * When to decide again although nothing happened (ms since the epoch); undefined when only a result, a node or an event can change anything.
 * May be early by design: the caller then decides nothing and asks again.
 */
export function nextWakeup(task: TrackedTask, world: World, now: number, limits: TaskLimits): number | undefined {
  if (task.state === 'ended') return undefined
  let first = Number.POSITIVE_INFINITY
  const add = (time: number): void => void (first = Math.min(first, time))
  const deadline = task.index.deadlines.peek()?.view.deadline
  if (typeof deadline === 'number') add(task.cancelRequestedAt === null ? deadline : Math.min(deadline, task.cancelRequestedAt + limits.cancelWaitMs))
  if (task.state !== 'cancelling') {
    add(taskEndOf(task) ?? first)
    const due = listDueRetries(task, now)
    for (const vertex of due) add(actionEndOf(vertex))
    if (task.state !== 'paused') addTurns(add, task, due, world, now, limits)
  }
  return first === Number.POSITIVE_INFINITY ? undefined : first
}

/** When waiting for a turn changes something: the pause before a retry is over, or the wait is too long. */
function addTurns(add: (time: number) => void, task: TrackedTask, due: readonly Vertex[], world: World, now: number, limits: TaskLimits): void {
  for (const { view } of task.index.retries.values()) if ((view.notBefore ?? 0) > now) add(view.notBefore ?? 0)
  const queuedMs = task.graph?.limits.queuedMs ?? null
  if (queuedMs !== null) {
    const longest = task.index.turns.peek()?.vertex
    for (const vertex of longest === undefined ? due : [longest, ...due]) add(waitingSince(task, vertex) + queuedMs)
    return
  }
  for (const lane of task.index.readyLanes) {
    const since = lostSince(lane.node, world)
    if (since !== undefined) add(Math.max(since + limits.nodeWaitMs, now + lostCheckMs))
  }
  if (due.some((vertex) => lostSince(vertex.action.node, world) !== undefined)) add(now + lostCheckMs)
}
