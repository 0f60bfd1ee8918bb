import type { Outcome } from '../command/result.js'
import type { ActionId } from '../ids.js'
import type { TrackedTask } from './tracked-task.js'

/**
 * True when this outcome of the attempt can be recorded as `actionEnded`: the attempt is live; or it was given up because its node did not answer in time, a person is
 * asked what became of it, and now the node says.
 */
export function isAwaited(task: TrackedTask, action: ActionId, attempt: number, outcome: Outcome): boolean {
  const vertex = task.index.byId.get(action)
  if (vertex === undefined || vertex.view.attempt !== attempt) return false
  if (vertex.view.state === 'sent') return true
  return vertex.heap === task.index.unknown && outcome !== 'unknown' && vertex.view.result?.failure?.code === 'ACTION_NO_ANSWER'
}
