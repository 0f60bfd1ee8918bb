import type { TaskId } from '@lichen/core'
import type { TaskSummary } from '@lichen/store'
import type { Context } from '../../context.js'

const pageSize = 100

/** A task of the same deployment that came after this one and may change what this one made, or has; undefined when none does, and for checks, which change nothing. */
export async function findNewerTask(store: Context['store'], { id, kind, project, deployment }: TaskSummary): Promise<TaskId | undefined> {
  if (kind === 'check') return undefined
  for (let before: TaskId | undefined; ; ) {
    const page: readonly TaskSummary[] = await store.tasks.list({ project, deployment, limit: pageSize, ...(before === undefined ? {} : { before }) })
    const newer = page.find((task) => task.id > id && task.kind !== 'check' && !isWithoutEffect(task))
    before = page.at(-1)?.id
    if (newer !== undefined || before === undefined || before <= id) return newer?.id
  }
}

/** It ended before it was planned. */
const isWithoutEffect = ({ state, counts }: TaskSummary): boolean => state === 'ended' && Object.values(counts).every((count) => count === 0)
