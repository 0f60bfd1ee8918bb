/** Which outcomes another attempt may follow. */
import type { AttemptResult } from '../command/result.js'
import type { Vertex } from './task-index.js'

// The same attempt again would meet the same: the order or its references are wrong, or its node was waited for long enough already.
const finalCodes: ReadonlySet<string> = new Set(['ACTION_REFERENCE', 'ACTION_NODE_LOST', 'ORDER_MALFORMED', 'ORDER_UNSIGNED', 'ORDER_STALE_EPOCH'])

/**
 * True when the policy of the action allows another attempt after this result: it failed or timed out, and attempts of this run are left.
 * Not after `cancelled` (somebody wanted it so) nor `unknown` (a second effect might be done on top of the first).
 */
export function isRetryable(vertex: Vertex, result: AttemptResult): boolean {
  if (result.outcome !== 'failed' && result.outcome !== 'timedOut') return false
  if (result.failure !== undefined && finalCodes.has(result.failure.code)) return false
  return vertex.view.attemptsInRun < vertex.action.retry.attempts
}
