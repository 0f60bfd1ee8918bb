/** What the CLI knows of where its output goes, and the colours it may use there. */
import { styleText } from 'node:util'

type Style = Parameters<typeof styleText>[0]

export interface Terminal {
  /** True when stdout is a terminal that a person looks at: live views and colours. */
  readonly isInteractive: boolean
  /** True when stdin is a terminal: questions can be asked. */
  readonly canAsk: boolean
  /** Width and height now; they change when the window does. */
  columns(): number
  rows(): number
  /** Writes to stdout; `line` adds the newline. */
  line(text: string): void
  write(text: string | Uint8Array): void
  /** Writes a line to stderr: notes that must not mix with what is piped on. */
  note(text: string): void
  /** The text in this style, or as it is when stdout takes no colours. */
  style(style: Style, text: string): string
  /** Resolves when stdout has taken what was written so far: back-pressure for long streams. */
  drained(): Promise<void>
}

/** The terminal of this process. `isPlain`: as if stdout were a pipe. */
export function openTerminal(stdin: NodeJS.ReadStream, stdout: NodeJS.WriteStream, stderr: NodeJS.WriteStream, env: Readonly<Record<string, string | undefined>>): Terminal {
  const isDumb = env['TERM'] === 'dumb'
  const isInteractive = stdout.isTTY === true && !isDumb && !env['CI']
  const isForced = env['FORCE_COLOR'] !== undefined && env['FORCE_COLOR'] !== '' && env['FORCE_COLOR'] !== '0'
  const hasColour = isForced || (!env['NO_COLOR'] && env['FORCE_COLOR'] !== '0' && stdout.isTTY === true && !isDumb)
  return {
    isInteractive,
    canAsk: stdin.isTTY === true && stderr.isTTY === true,
    columns: () => stdout.columns ?? 100,
    rows: () => stdout.rows ?? 24,
    line: (text) => void stdout.write(`${text}\n`),
    write: (text) => void stdout.write(text),
    note: (text) => void stderr.write(`${text}\n`),
    style: (style, text) => (hasColour ? styleText(style, text) : text),
    drained: () => (stdout.writableNeedDrain ? new Promise((resolve) => stdout.once('drain', () => resolve())) : Promise.resolve()),
  }
}

// ECMA-48: control sequences (colours, cursor), then operating system commands and other strings (titles, links) up to their terminator, then
// what is left of escapes. Node.js' stripVTControlCharacters takes any text between a colour and a later bell for a string and drops it.
const escapeSequences = /(?:\u001b\[|\u009b)[0-?]*[ -/]*[@-~]|(?:\u001b[\]PX^_]|[\u0090\u0098\u009d-\u009f])[^\u0007\u001b\u009c]*(?:\u0007|\u001b\\|\u009c)?|\u001b[ -/]*[0-~]?/g

/** A line of foreign output made safe to show: no escape sequence or control character of it reaches the terminal. */
export const sanitizeLine = (text: string): string => text.replace(escapeSequences, '').replaceAll('\t', '  ').replace(/[\u0000-\u001f\u007f-\u009f]/g, '')

/** What a message says in one line: its first line, without the words that only introduce the lines after it. */
export function firstLine(text: string): string {
  const [first = '', ...rest] = text.split('\n')
  return sanitizeLine(rest.length === 0 ? first : first.replace(/[;,]?[^;,]*:\s*$/, ''))
}
