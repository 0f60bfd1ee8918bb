import { exitCodes, type ExitCode } from './exit-codes.js'

/** One thing wrong with an input, as the API reports it. */
export interface Problem {
  readonly code: string
  /** Path into the input, e.g. `components[2].uses.database`; empty for the whole. */
  readonly path: string
  readonly message: string
}

/** The one error of the CLI: what the user reads, and the exit code that goes with it. `hint` is what to do next. */
export class CliFailure extends Error {
  readonly exitCode: ExitCode
  readonly code: string | undefined
  readonly hint: string | undefined
  readonly problems: readonly Problem[]
  /** Whether the same request may work a little later: the server is away or busy. */
  readonly isTransient: boolean

  constructor(
    exitCode: ExitCode,
    message: string,
    options: { readonly code?: string | undefined; readonly hint?: string | undefined; readonly problems?: readonly Problem[] | undefined; readonly isTransient?: boolean; readonly cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.name = 'CliFailure'
    this.exitCode = exitCode
    this.code = options.code
    this.hint = options.hint
    this.problems = options.problems ?? []
    this.isTransient = options.isTransient ?? false
  }
}

/** A failure of kind usage: the command line or a file named on it is wrong. */
export const usageFailure = (message: string, hint?: string): CliFailure => new CliFailure(exitCodes.rejected, message, { hint })
