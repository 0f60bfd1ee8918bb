import type { TaskId } from '@lichen/core'

/** Body of the message that says "look at this task". */
export const buildBell = (task: TaskId): string => JSON.stringify({ v: 1, task })
