/** Which outcomes another attempt may follow. */
import type { AttemptResult } from '../command/result.js'
import { isVerifying, type Vertex } from './task-index.js'
import { actionEndOf, backoffOf } from './task-limits.js'

// The same attempt again would meet the same: the order or its references are wrong, its time is over, or a person has spoken.
const finalCodes: ReadonlySet<string> = new Set([
  'ACTION_REFERENCE', 'ACTION_NODE_LOST', 'ACTION_QUEUED_TOO_LONG', 'ACTION_LIMIT', 'ACTION_SETTLED', 'ORDER_MALFORMED', 'ORDER_UNSIGNED', 'ORDER_STALE_EPOCH',
])

/**
 * True when the policy of the action allows another attempt after this result: it failed or timed out, and attempts of this run are left.
 * Not after `cancelled` (somebody wanted it so) nor `unknown` (a second effect might be done on top of the first); never for a verifying action.
 */
export function isRetryable(vertex: Vertex, { outcome, failure }: AttemptResult): boolean {
  if ((outcome !== 'failed' && outcome !== 'timedOut') || isVerifying(vertex)) return false
  if (failure !== undefined && finalCodes.has(failure.code)) return false
  return vertex.view.attemptsInRun < vertex.action.retry.attempts
}

/** True when the next attempt after one that ended `at` would not begin before the limit of the action is over. */
export const isOutOfTime = (vertex: Vertex, at: number): boolean => at + backoffOf(vertex.action.retry.backoffMs, vertex.view.attemptsInRun) >= actionEndOf(vertex)
