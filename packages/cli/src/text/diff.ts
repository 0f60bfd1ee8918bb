import type { Terminal } from '../terminal.js'
import { sanitizeLine } from '../terminal.js'

/** Lines of a unified diff, coloured where the terminal takes colours: added green, removed red, positions cyan. */
export function paintDiff(terminal: Terminal, diff: string): string[] {
  return diff
    .replace(/\n$/, '')
    .split('\n')
    .map((line) => paintLine(terminal, sanitizeLine(line)))
}

function paintLine(terminal: Terminal, line: string): string {
  if (line.startsWith('+++') || line.startsWith('---')) return terminal.style('bold', line)
  if (line.startsWith('@@')) return terminal.style('cyan', line)
  if (line.startsWith('+')) return terminal.style('green', line)
  if (line.startsWith('-')) return terminal.style('red', line)
  return line
}
