/** Names of supervised programs: which attempt, which of its commands, the how manieth program of that one. */
import { hash } from 'node:crypto'

/** The name, of letters, digits and dashes; the same for the same three, on every start of the agent. */
export const runName = (keyText: string, command: number, number: number): string => `${digest(keyText)}-${command}-${number}`

/** Of these names, those of the attempt, and of its command when one is given, in the order they were started. */
export function runsOf(names: readonly string[], keyText: string, command?: number): string[] {
  const prefix = command === undefined ? `${digest(keyText)}-` : `${digest(keyText)}-${command}-`
  return names.filter((name) => name.startsWith(prefix)).sort((a, b) => numberOf(a) - numberOf(b))
}

/** Which program of its command it is. */
export const numberOf = (name: string): number => Number(name.slice(name.lastIndexOf('-') + 1))

// Keys of attempts hold whatever names people gave; file names should not.
const digest = (keyText: string): string => hash('sha256', keyText).slice(0, 20)
