import type { Problem } from '../failure.js'
import type { Terminal } from '../terminal.js'

/** Problems as lines `components[2].uses.database: message (CODE)`; a problem of the whole document has no path. */
export const formatProblem = (problem: Problem): string => `${problem.path === '' ? '' : `${problem.path}: `}${problem.message} (${problem.code})`

/** Every problem on a line of its own, in the order in which they were found. */
export function printProblems(terminal: Terminal, problems: readonly Problem[]): void {
  for (const problem of problems) terminal.note(`  ${formatProblem(problem)}`)
}
