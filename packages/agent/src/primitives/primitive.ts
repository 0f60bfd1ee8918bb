/**
 * What every command kind offers: a check of its effect and, for those that have one, the doing of it. The frame around them (check → do → check
 * again, check mode, interruption) is in run/command.ts.
 */
import type { CommandSpec, CommandKind, Failure } from '@lichen/core'
import type { Execution, Program } from '../run/program.js'
import type { Deadline } from '../run/deadline.js'
import type { AttemptLog } from '../output/attempt-log.js'

/** What a check found. */
export type Finding =
  | {
      readonly isThere: true
      readonly outputs?: Outputs | undefined
    }
  | {
      readonly isThere: false
      /** What would change: a unified diff, or lines that begin with + and -, or a sentence. Not masked yet. */
      readonly difference: string
    }
  /** It can neither be seen nor brought about, e.g. a path outside of where this agent may work. */
  | { readonly failure: Failure }

/** What came of doing it. */
export interface Done {
  readonly failure?: Failure | undefined
  readonly exitCode?: number | undefined
  readonly outputs?: Outputs | undefined
  /** In place of the check's difference, when only the doing knows what changed. */
  readonly difference?: string | undefined
}

/** Values for later actions, by name. */
export interface Outputs {
  readonly plain: Readonly<Record<string, string>>
  readonly secret: Readonly<Record<string, string>>
}

/** What a primitive may use of its surroundings. */
export interface CommandContext {
  readonly log: AttemptLog
  readonly deadline: Deadline
  readonly mode: 'do' | 'check'
  /** Directory outside of which this agent must have no effect; undefined for a real node. */
  readonly confine: string | undefined
  /** Private to the agent, for downloads. */
  readonly dataDirectory: string
  /** The node's present boot. */
  readonly bootId: string
  /** The boot in which the command began in an earlier run of the agent; undefined when it did not. */
  readonly begunBoot: string | undefined
  /** Runs a program within the deadline: supervised, so that it outlives the agent, when the command is being done and the output is not `quiet`; else as a child. */
  run(program: Program): Promise<Execution>
  /** Waits for the one place on this node where packages are changed; call what is given back to leave it. */
  lockPackages(): Promise<() => void>
}

/** One command kind. */
export interface Primitive<Kind extends CommandKind> {
  /** Looks, changes nothing. May throw errors of the file system: they become failures. */
  check(spec: CommandSpec<Kind>, context: CommandContext): Promise<Finding>
  /** Brings the effect about; absent for kinds without one. May throw as `check` does. */
  do?(spec: CommandSpec<Kind>, context: CommandContext): Promise<Done>
  /** False when the check cannot tell (a program without a check). Default: it can. */
  isCheckable?(spec: CommandSpec<Kind>): boolean
  /** Puts right what an interrupted doing left half-done of the agent's own, before the check. */
  recover?(): void
  /** The check after doing, where it differs from the one before. */
  verify?(spec: CommandSpec<Kind>, context: CommandContext): Promise<Finding>
}

/** A failure with a code. */
export const failure = (code: string, message: string): { readonly failure: Failure } => ({ failure: { code, message } })
