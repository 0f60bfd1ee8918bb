import type { ActionState, Gate } from '../api/tasks.js'
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

/** What a state is in words; a success says whether something changed (in a check: would change), or that a person said so. */
export function describeState(action: Pick<ActionProgress, 'state' | 'result'> & { readonly isSettled?: boolean }, kind: string): string {
  if (action.isSettled) return `settled as ${action.state}`
  if (action.state !== 'succeeded') return stateWords[action.state] ?? action.state
  if (kind === 'check') return action.result?.changed ? 'differs' : 'as planned'
  return action.result?.changed ? 'changed' : 'unchanged'
}

/** A number as people read it: `4,988`. */
export const formatCount = (count: number): string => count.toLocaleString('en-US')

/** `1 action`, `2 actions`, `0 actions`. */
export const countOf = (count: number, noun: string): string => `${formatCount(count)} ${noun}${count === 1 ? '' : 's'}`

/** Whether a gate is a step of a rollout that people think of, a wave or an approval; the others only keep the order. */
export const isStep = (gate: Gate): boolean => gate.approve || gate.meaning.startsWith('wave ')
