/** How a task ends, and what its row says meanwhile. */
import type { Failure } from '../command/result.js'
import type { TaskEvent, TaskOutcome } from './events.js'
import type { Vertex } from './task-index.js'
import type { ActionState, TaskView } from './task-view.js'
import type { TrackedTask } from './tracked-task.js'

/** The `taskEnded` of a task whose actions are all settled: succeeded only if each of them succeeded. */
export function concludeTask(task: TrackedTask): Extract<TaskEvent, { type: 'taskEnded' }> {
  const { counts, index } = task
  const total = index.vertices.length
  if (task.graph !== null && counts.succeeded === total) return { type: 'taskEnded', outcome: 'succeeded', reason: total === 0 ? 'nothing to do' : `all ${total} actions succeeded` }
  if (task.state === 'cancelling') return { type: 'taskEnded', outcome: 'cancelled', reason: task.graph === null ? `${task.reason}; nothing was begun` : `${task.reason}; ${describeCounts(counts)}` }
  const first = index.firstFailure
  if (first === null) return { type: 'taskEnded', outcome: 'failed', reason: describeCounts(counts) }
  return { type: 'taskEnded', outcome: 'failed', reason: `${describeFailure(first)}${others(index.failures - 1)}`, failure: failureOf(first) }
}

const others = (count: number): string => (count === 0 ? '' : ` (and ${count} more ${count === 1 ? 'action' : 'actions'} without success)`)

function failureOf({ view }: Vertex): Failure {
  return view.result?.failure ?? { code: 'ACTION_FAILED', message: `the node reported the outcome ${view.state} without a reason` }
}

function describeFailure(vertex: Vertex): string {
  const { action, view } = vertex
  const failure = failureOf(vertex)
  const what = { failed: 'failed', timedOut: 'timed out', cancelled: 'was cancelled', unknown: 'ended with an unknown outcome' }[view.state as string] ?? view.state
  const where = failure.command === undefined ? '' : ` at command "${failure.command}"`
  return `component ${action.component}: action ${action.name} on node ${action.node} ${what}${where}: ${failure.message}`
}

// In the order in which an operator asks: what went wrong first.
const countWords: readonly [ActionState, string][] = [
  ['failed', 'failed'], ['timedOut', 'timed out'], ['unknown', 'unknown'], ['cancelled', 'cancelled'], ['skipped', 'skipped'],
  ['sent', 'running'], ['waitingRetry', 'waiting for another attempt'], ['pending', 'pending'], ['succeeded', 'succeeded'],
]

/** Counts in words, e.g. `1 failed, 2 skipped, 7 succeeded`; states that no action is in are left out. */
export function describeCounts(counts: Readonly<Record<ActionState, number>>): string {
  const parts = countWords.filter(([state]) => counts[state] > 0).map(([state, word]) => `${counts[state]} ${word}`)
  return parts.length === 0 ? 'no actions' : parts.join(', ')
}

/** What belongs on the row of the task: state, outcome, the last reason in words, and a copy of the counts. */
export function summarizeTask(task: TaskView): { readonly state: TaskView['state']; readonly outcome: TaskOutcome | null; readonly reason: string; readonly counts: Readonly<Record<ActionState, number>> } {
  return { state: task.state, outcome: task.outcome, reason: task.state === 'running' ? describeCounts(task.counts) : task.reason, counts: { ...task.counts } }
}
