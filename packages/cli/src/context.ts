import type { Client } from './api/client.js'
import type { Terminal } from './terminal.js'

/** What every command is given: where to write, whom to ask, and how. */
export interface Context {
  readonly terminal: Terminal
  readonly stdout: NodeJS.WriteStream
  readonly isJson: boolean
  /** The client for the settings of this call. @throws CliFailure (usage) for an unusable URL */
  client(): Client
}

/** Prints one result: as one JSON document with `--json`, else as the lines that `lines` gives. */
export function printResult(context: Context, result: unknown, lines: () => readonly string[]): void {
  if (context.isJson) context.terminal.line(JSON.stringify(result))
  else for (const line of lines()) context.terminal.line(line)
}
