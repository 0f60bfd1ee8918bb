/**
 * Port: programs on the node. Two ways to start one: as a child, for checks, which is ended when the agent ends; and supervised, for effects, which goes on
 * without the agent, keeps its output and its exit code, and is found again by its name (`attach`). The simulator has programs of its own.
 */
import type { ProcessMark } from '../journal/records.js'

export type OutputName = 'stdout' | 'stderr'

/** A place in the outputs of one program: bytes from the beginning of each. */
export type OutputPositions = { readonly [Name in OutputName]: number }

/** What to start. */
export interface ProgramStart {
  readonly argv: readonly string[]
  /** The whole environment. */
  readonly env: Readonly<Record<string, string>>
  readonly cwd: string
  readonly stdin: string | undefined
}

/** How it ended. `startError`: why it could not be started. All undefined: nobody knows how. */
export interface ProgramEnd {
  readonly exitCode: number | undefined
  readonly signal: string | undefined
  readonly startError: string | undefined
  /** Its time limit was over, and the supervisor ended it; false for children. */
  readonly isOverdue: boolean
  /** So many bytes of its output were lost, as the disk was full to its end; beside what `onCut` said. */
  readonly lostBytes?: number | undefined
}

/** Nothing is called before the running program was given back, nor after `onEnd` or `detach`. */
export interface ProgramEvents {
  /** What it printed, at most 64 KiB at a time; `end`: the position right after these bytes in this output. */
  onOutput(name: OutputName, bytes: Buffer, end: number): void
  /** Its output cannot be kept, as the disk is full: some of it is lost (at most what was read at once), and it has to wait until there is room. Called once. */
  onCut?(): void
  /** It is over, and everything it printed was given (but for what daemons that it left behind print). */
  onEnd(end: ProgramEnd): void
}

/** A program that somebody follows. */
export interface RunningProgram {
  /** Enough to know it again; undefined when it is gone already, or could not be started. */
  readonly mark: ProcessMark | undefined
  /** No output is given until `resume`; a program that prints on has to wait. */
  pause(): void
  resume(): void
  /** Ends the program with everything it started: politely, and by force after the grace. Resolves when that is done; `onEnd` comes too. */
  end(): Promise<void>
  /** Follows it no longer. A supervised program goes on; a child must be ended first. */
  detach(): void
  /** What lies before these positions need not be given again, and its space may be given back. */
  release(before: OutputPositions): void
}

export interface Programs {
  /** Starts a child. */
  start(program: ProgramStart, events: ProgramEvents): RunningProgram
  /**
   * Starts a supervised program under a name of letters, digits, dots and dashes, new to this node. `limitMs`: when it is ended though no agent be there to do it.
   * `keepsStart`: the first 64 KiB of stdout can be read (`read`) until `forget`.
   */
  supervise(name: string, program: ProgramStart, options: { readonly limitMs: number; readonly keepsStart: boolean }, events: ProgramEvents): RunningProgram
  /**
   * Follows the supervised program of this name, started by an earlier run of the agent in this same boot of the node, with the output behind `from`; also when it
   * has ended meanwhile. Resolves with undefined when it was never started, or is of an earlier boot: it is certain then that it does not run, nor ever will.
   */
  attach(name: string, from: OutputPositions, events: ProgramEvents): Promise<RunningProgram | undefined>
  /** Up to `sizeBytes` of what is kept of an output, from `position`. */
  read(name: string, output: OutputName, position: number, sizeBytes: number): Buffer
  /** The names of the supervised programs that are not forgotten. */
  list(): string[]
  /** Removes what is kept of a supervised program that has ended (or of an earlier boot). */
  forget(name: string): void
  /** Ends a child that an earlier run of the agent left behind; false when there is none of this mark. */
  endStray(mark: ProcessMark): Promise<boolean>
}
