import type { LogRecord } from '../api/logs.js'
import type { TaskDetail, TaskEvent } from '../api/tasks.js'
import type { CliFailure } from '../failure.js'
import type { ActionProgress } from './progress.js'

/** One way to show a task while it runs; each call follows a change of the picture it was opened with. */
export interface View {
  event(recorded: TaskEvent, action: ActionProgress | undefined): void
  /** A line of the task log. `isWanted`: the user asked to see them all. */
  log(record: LogRecord, isWanted: boolean): void
  /** The task as the server tells it now: what it waits for, its gates, what it needs a person for. Comes every second or so. */
  detail(task: TaskDetail): void
  connection(state: 'lost' | 'back', failure?: CliFailure): void
  /** Leaves the screen as it should stay. */
  close(): void
}
