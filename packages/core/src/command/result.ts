/** What came of an attempt. Values, never thrown. */

/** How an attempt ended. `unknown`: it cannot be known whether the effect happened. */
export type Outcome = 'succeeded' | 'failed' | 'timedOut' | 'cancelled' | 'unknown'

/** What went wrong in words for a person, with a code (`COMMAND_*`, `ORDER_*`, `ACTION_*`) for a machine. */
export interface Failure {
  readonly code: string
  readonly message: string
  /** Name of the command that did not succeed, where one did not. */
  readonly command?: string
}

/** One command of an attempt. */
export interface CommandResult {
  readonly name: string
  readonly kind: string
  readonly outcome: Outcome
  /** True when something on the node was changed; in check mode: when something would be. */
  readonly changed: boolean
  /** How an interrupted command was settled after a crash of the agent or a reboot, where it was. */
  readonly settledByCheck?: boolean
  readonly durationMs: number
  readonly exitCode?: number
  /** Unified diff or a sentence of what changed or would change; masked; at most 64 KiB with a marker. */
  readonly diff?: string
  readonly failure?: Failure
}

/** The result of an attempt as the agent reports it and the engine records it. */
export interface AttemptResult {
  readonly outcome: Outcome
  readonly changed: boolean
  readonly commands: readonly CommandResult[]
  /** Outputs by name. Secret ones never stand here: they travel beside and are stored encrypted. */
  readonly outputs: Readonly<Record<string, string>>
  readonly failure?: Failure
  /** Milliseconds since the epoch, by the clock of the node. */
  readonly startedAt: number
  readonly endedAt: number
}
