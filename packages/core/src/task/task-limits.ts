import type { Vertex } from './task-index.js'
import type { TaskView } from './task-view.js'

/** Limits of the engine that decisions keep, beside those of the plan. Milliseconds. */
export interface TaskLimits {
  /** Attempts of one task that may be live on one node. */
  readonly actionsPerNode: number
  /** How long an order may take to reach its node and begin there; after it the node refuses the order. */
  readonly beginWithinMs: number
  /** Added to the time limit of an attempt before its answer is given up: killing politely, journaling and reporting take time. */
  readonly answerGraceMs: number
  /** How long an action that could start waits for a node that is out of reach, where the plan has no limit for waiting (`limits.queuedMs`). */
  readonly nodeWaitMs: number
  /** How long a node that was asked to cancel may take to answer. */
  readonly cancelWaitMs: number
  /** Decisions given at once. */
  readonly decisionsAtOnce: number
}

/** The limits of production. */
export const defaultTaskLimits: TaskLimits = {
  // Packages of different components wait for the same dpkg lock anyway; more than a few only raise the load of the node, fewer leave it idle.
  actionsPerNode: 4,
  // A reboot of a big machine takes minutes: half of this would expire orders that a rebooting node could still begin.
  beginWithinMs: 600_000,
  // A process group gets some ten seconds to end politely; twice that, and the way back.
  answerGraceMs: 30_000,
  nodeWaitMs: 600_000,
  cancelWaitMs: 60_000,
  // Some 200 bytes each in one transaction. Ten times as many make a round of a big task take noticeable time, a tenth costs flushes.
  decisionsAtOnce: 1_000,
}

// Backoff doubles with each attempt up to this: longer than a mirror or a database usually needs to come back.
const maxBackoffMs = 300_000

/** Milliseconds between a failed attempt and the next: `backoffMs` doubled for each attempt after the first, at most five minutes. */
export const backoffOf = (backoffMs: number, attemptsInRun: number): number => Math.min(maxBackoffMs, backoffMs * 2 ** Math.min(30, Math.max(0, attemptsInRun - 1)))

/** When the action's own limit over all its attempts is over, ms since the epoch; infinity when it has none or has not begun. */
export const actionEndOf = ({ action, view }: Vertex): number => (action.limitMs === null || view.begunAt === null ? Number.POSITIVE_INFINITY : view.begunAt + action.limitMs)

/** When the limit of the task is over, ms since the epoch; null when it has none. */
export function taskEndOf({ graph, runSince }: TaskView): number | null {
  const taskMs = graph?.limits.taskMs ?? null
  return taskMs === null ? null : runSince + taskMs
}

/** A length of time in words, e.g. `90 s`. */
export const describeMs = (ms: number): string => `${ms / 1000} s`

/** A point in time in words. */
export const describeTime = (at: number): string => new Date(at).toISOString()
