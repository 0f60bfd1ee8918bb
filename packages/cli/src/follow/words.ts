import type { ActionState } from '../api/tasks.js'
import type { ActionProgress } from './progress.js'

/** An action as people name it: `keystone/install on node-2`. */
export const nameAction = (action: Pick<ActionProgress, 'component' | 'name' | 'node'>): string => `${action.component}/${action.name} on ${action.node}`

const stateWords: Readonly<Record<ActionState, string>> = {
  pending: 'waits',
  sent: 'runs',
  waitingRetry: 'waits for its next attempt',
  skipped: 'skipped',
  succeeded: 'done',
  failed: 'failed',
  timedOut: 'timed out',
  cancelled: 'cancelled',
  unknown: 'unknown whether it happened',
}

/** What a state is in words; a success says whether something changed (in a check: would change). */
export function describeState(action: Pick<ActionProgress, 'state' | 'result'>, kind: string): string {
  if (action.state !== 'succeeded') return stateWords[action.state] ?? action.state
  if (kind === 'check') return action.result?.changed ? 'differs' : 'as planned'
  return action.result?.changed ? 'changed' : 'unchanged'
}

/** `1 action`, `2 actions`, `0 actions`. */
export const countOf = (count: number, noun: string): string => `${count} ${noun}${count === 1 ? '' : 's'}`
