/** How a task ends, and what its row says meanwhile. */
import type { Failure } from '../command/result.js'
import type { TaskEvent, TaskOutcome } from './events.js'
import type { Vertex } from './task-index.js'
import type { ActionState, TaskView } from './task-view.js'
import type { TrackedTask } from './tracked-task.js'

type Ending = Extract<TaskEvent, { type: 'taskEnded' }>

/** The `taskEnded` of a task whose actions are all settled: succeeded only if each of them succeeded, verifying ones left aside. */
export function concludeTask(task: TrackedTask): Ending {
  const { counts, index } = task
  if (task.graph !== null && counts.succeeded + index.excused === index.vertices.length) return { type: 'taskEnded', outcome: 'succeeded', reason: describeSuccess(task) }
  if (task.state === 'cancelling') return concludeCancelled(task)
  const first = index.firstFailure
  if (first !== null) return { type: 'taskEnded', outcome: 'failed', reason: `${describeFailure(first)}${others(index.failures - 1)}`, failure: failureOf(first) }
  const kept = index.firstKept
  if (kept === null) return { type: 'taskEnded', outcome: 'failed', reason: describeCounts(counts) }
  return { type: 'taskEnded', outcome: 'failed', reason: `in an earlier run, and not tried again: ${describeFailure(kept)}${others(index.kept - 1)}`, failure: failureOf(kept) }
}

function concludeCancelled(task: TrackedTask): Ending {
  const reason = `${task.reason}; ${task.graph === null ? 'nothing was begun' : describeCounts(task.counts)}`
  return task.isOverLimit ? { type: 'taskEnded', outcome: 'timedOut', reason, failure: { code: 'TASK_LIMIT', message: task.reason } } : { type: 'taskEnded', outcome: 'cancelled', reason }
}

function describeSuccess({ index, unchanged }: TrackedTask): string {
  const total = index.vertices.length - index.excused
  if (total === 0) return 'nothing to do'
  const parts = [total === 1 ? 'the one action succeeded' : `all ${total} actions succeeded`]
  if (unchanged > 0) parts.push(describeUnchanged(index, unchanged))
  if (index.excused > 0) parts.push(`${count(index.excused, 'look', 'looks')} at what was there did not get to the end, so all that ${index.excused === 1 ? 'it' : 'they'} could not vouch for was run`)
  return parts.join('; ')
}

function describeUnchanged(index: TrackedTask['index'], unchanged: number): string {
  const nodes = new Set<string>()
  let hasChange = false
  for (const vertex of index.vertices) {
    if (vertex.view.isUnchanged) nodes.add(vertex.action.node)
    hasChange ||= vertex.hasChanged
  }
  return hasChange ? `${unchanged} of them ${unchanged === 1 ? 'was' : 'were'} unchanged and did not run` : `nothing had to change on ${count(nodes.size, 'node', 'nodes')} (${unchanged} unchanged, not run)`
}

const count = (number: number, one: string, many: string): string => `${number} ${number === 1 ? one : many}`

const others = (number: number): string => (number === 0 ? '' : ` (and ${number} more ${number === 1 ? 'action' : 'actions'} without success)`)

function failureOf({ view }: Vertex): Failure {
  return view.result?.failure ?? { code: 'ACTION_FAILED', message: view.state === 'skipped' ? view.reason : `the node reported the outcome ${view.state} without a reason` }
}

function describeFailure(vertex: Vertex): string {
  const { action, view } = vertex
  const failure = failureOf(vertex)
  const what = { failed: 'failed', timedOut: 'timed out', cancelled: 'was cancelled', unknown: 'ended with an unknown outcome', skipped: 'was skipped' }[view.state as string] ?? view.state
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
export function summarizeTask(task: TrackedTask): { readonly state: TaskView['state']; readonly outcome: TaskOutcome | null; readonly reason: string; readonly counts: Readonly<Record<ActionState, number>> } {
  return { state: task.state, outcome: task.outcome, reason: summarizeReason(task), counts: { ...task.counts } }
}

function summarizeReason(task: TrackedTask): string {
  if (task.graph === null || (task.state !== 'running' && task.state !== 'paused')) return task.reason
  return [...(task.state === 'paused' ? [task.reason] : []), ...describeQuestions(task), describeCounts(task.counts)].join('; ')
}

/** What people are asked: gates to approve, outcomes to settle. */
export function describeQuestions({ index }: TrackedTask): string[] {
  const [gate] = index.waitingGates
  const more = index.waitingGates.size > 1 ? ` and ${index.waitingGates.size - 1} more` : ''
  const unknown = index.unknown.size
  return [...(gate === undefined ? [] : [`waits for approval of ${gate.gate.meaning}${more}`]), ...(unknown === 0 ? [] : [`${count(unknown, 'action', 'actions')} unknown, waiting for an answer`])]
}
