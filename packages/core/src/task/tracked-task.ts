import type { TaskIndex } from './task-index.js'
import type { ActionState, TaskView } from './task-view.js'

/** The view with the index that decisions need. Only state.ts changes either. */
export interface TrackedTask extends TaskView {
  readonly index: TaskIndex
  /** When somebody asked to cancel this run, or its limit was over; null while neither is so. */
  readonly cancelRequestedAt: number | null
  /** It is being cancelled because its own time limit was over. */
  readonly isOverLimit: boolean
  /** Since when it is paused; null while it is not. */
  readonly pausedAt: number | null
  /** When it was last resumed; 0 when it never was. Waits for a turn count from then. */
  readonly resumedAt: number
}

/** The view while events are applied to it. */
export type TaskDraft = { -readonly [Key in keyof TrackedTask]: TrackedTask[Key] } & { counts: Record<ActionState, number> }
