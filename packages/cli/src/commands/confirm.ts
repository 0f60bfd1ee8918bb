import { createInterface } from 'node:readline/promises'
import type { Context } from '../context.js'
import { usageFailure } from '../failure.js'

/**
 * Resolves when the user says yes on the terminal; at once when nobody can be asked, or the output is for a program.
 * @throws CliFailure (usage) at any other answer
 */
export async function confirmOnTerminal(context: Context, question: string): Promise<void> {
  if (context.isJson || !context.terminal.canAsk) return
  const lines = createInterface({ input: process.stdin, output: process.stderr })
  try {
    if (/^y(es)?$/i.test((await lines.question(`${question} [y/N] `)).trim())) return
  } finally {
    lines.close()
  }
  throw usageFailure('not confirmed; nothing was done')
}
