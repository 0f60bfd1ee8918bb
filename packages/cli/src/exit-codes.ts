/** How `lichen` ends, for scripts. Public: a meaning is never changed (docs/cli.md lists them). */
export const exitCodes = {
  /** What was asked is done; a followed task succeeded. */
  ok: 0,
  /** The task failed, timed out or was cancelled; or `check --exit-code` found a difference. */
  taskFailed: 1,
  /** The command line is wrong, or the server rejected the plan or the request. */
  rejected: 2,
  /** No server at this address, or it went away for longer than reconnecting is tried, or it cannot work now. */
  unreachable: 3,
  /** The token is missing, unknown or expired. */
  unauthenticated: 4,
  /** With `--exit-on-wait`: the task goes no further until a person approves, settles or resumes. */
  personNeeded: 5,
  /** Ctrl-C. A followed task goes on. */
  interrupted: 130,
} as const

export type ExitCode = (typeof exitCodes)[keyof typeof exitCodes]
