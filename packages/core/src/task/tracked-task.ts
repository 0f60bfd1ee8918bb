import type { TaskIndex } from './task-index.js'
import type { ActionState, TaskView } from './task-view.js'

/** The view with the index that decisions need. Only state.ts changes either. */
export interface TrackedTask extends TaskView {
  readonly index: TaskIndex
  /** When somebody asked to cancel this run; null while nobody has. */
  readonly cancelRequestedAt: number | null
}

/** The view while events are applied to it. */
export type TaskDraft = { -readonly [Key in keyof TrackedTask]: TrackedTask[Key] } & { counts: Record<ActionState, number> }
