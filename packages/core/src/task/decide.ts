/**
 * What to do next for a task. Pure: the same view, world and time give the same decisions in the same order, and nothing is changed. The caller
 * records the events, applies them, and asks again until nothing is decided; then it waits for a result, a node, an event, or `nextWakeup`.
 *
 * Decisions come in phases, and only the first phase that has any is given, because each changes what the next may decide:
 * 1. limit: the task's own time is over;
 * 2. settle (settle-decisions.ts): retries are planned, attempts without an answer and waits beyond a limit are ended, what is unchanged is left out;
 * 3. skip (skip-decisions.ts): what can no longer run;
 * 4. end: when every action is settled;
 * 5. send (send-decisions.ts): what can begin, within the limits (or, while cancelling, asking nodes to stop).
 * A paused task has the first two alone, and of the second only what is not a beginning.
 */
import { concludeTask } from './conclusion.js'
import { type Decision, record, type World } from './decision.js'
import { send } from './send-decisions.js'
import { settle } from './settle-decisions.js'
import { skip } from './skip-decisions.js'
import { describeMs, describeTime, type TaskLimits, taskEndOf } from './task-limits.js'
import type { TrackedTask } from './tracked-task.js'

/** The next decisions, at most `limits.decisionsAtOnce`; none while the task has no graph (unless it is cancelled) and after it ended. */
export function decide(task: TrackedTask, world: World, now: number, limits: TaskLimits): Decision[] {
  if (task.state === 'ended') return []
  if (task.graph === null) return task.state === 'cancelling' ? [record(concludeTask(task))] : []
  if (isOverLimit(task, now)) return [record({ type: 'taskLimitReached', reason: describeLimit(task) })]
  const settled = settle(task, world, now, limits)
  if (settled.length > 0 || task.state === 'paused') return settled
  const skipped = skip(task, world, limits)
  if (skipped.length > 0) return skipped
  if (task.index.open === 0) return [record(concludeTask(task))]
  return task.state === 'cancelling' ? askToCancel(task) : send(task, world, now, limits)
}

/** What is settled already ends as it is, however late that is noticed. */
function isOverLimit(task: TrackedTask, now: number): boolean {
  const end = taskEndOf(task)
  return end !== null && end <= now && task.state !== 'cancelling' && (task.index.open > 0 || task.state === 'paused')
}

const describeLimit = (task: TrackedTask): string =>
  `the task did not end within ${describeMs(task.graph?.limits.taskMs ?? 0)}, its limit (limits.taskS)${task.pausedAt === null ? '' : `; it was ${task.reason}, since ${describeTime(task.pausedAt)}`}`

const askToCancel = (task: TrackedTask): Decision[] =>
  task.index.deadlines.values().map(({ action, view }) => ({ type: 'cancel', action, attempt: view.attempt, reason: task.reason }))
