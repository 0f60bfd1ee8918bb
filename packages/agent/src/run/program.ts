/** What commands ask to be run, and how that went. */
import type { ProcessMark } from '../journal/records.js'
import type { AttemptLog } from '../output/attempt-log.js'
import type { Outbox } from '../output/outbox.js'
import type { Programs } from '../programs/programs.js'
import type { Account } from './account.js'
import type { Deadline } from './deadline.js'

/** What to run. */
export interface Program {
  readonly argv: readonly string[]
  readonly env?: Readonly<Record<string, string>> | undefined
  readonly cwd?: string | undefined
  /** Run as this user, with its groups. */
  readonly user?: Account | undefined
  readonly stdin?: string | undefined
  /** Where output goes beside what is captured: `log` (default), nothing of stdout (`stderr`), or nothing at all (`quiet`). */
  readonly output?: 'log' | 'stderr' | 'quiet' | undefined
  /** Bytes of stdout to give back, 64 KiB at most; 0 when not given. */
  readonly captureBytes?: number | undefined
}

/** How it went. `exitCode` is undefined when a signal ended it, it never started, or nobody knows (`isLost`). */
export interface Execution {
  readonly exitCode: number | undefined
  readonly signal: string | undefined
  /** Why it could not be started. */
  readonly startError: string | undefined
  /** Its supervisor was killed: it is over, and nobody saw how it ended. */
  readonly isLost: boolean
  /** Its supervisor ended it, as its time was over. */
  readonly isOverdue: boolean
  /** This agent ended it, as the deadline was over or it was cancelled. */
  readonly wasEnded: boolean
  readonly stdout: Buffer
  readonly isStdoutCut: boolean
  /** The last bytes of both outputs, masked, for a failure's message. */
  readonly tail: string
}

/** What executions of one command share. */
export interface ExecutionContext {
  readonly log: AttemptLog
  readonly outbox: Outbox
  readonly programs: Programs
  readonly deadline: Deadline
  readonly environment: Readonly<Record<string, string>>
  readonly defaultCwd: string
  /** Called at once when a program was started. */
  readonly onStart: (mark: ProcessMark, run?: string) => void
}
