import type { TaskId } from '@lichen/core'
import type { Context } from '../../context.js'
import type { TaskReading } from '../../tail/task-views.js'

/** The task of the same deployment that comes before this one and has not ended; undefined when none does, and for checks, which wait for nobody. */
export async function findTaskBefore(store: Context['store'], id: TaskId, { view, accepted }: TaskReading): Promise<TaskId | undefined> {
  if (view.state === 'ended' || view.kind === 'check') return undefined
  const front = await store.tasks.readFront(accepted.project, accepted.deployment)
  return front === id ? undefined : front
}
