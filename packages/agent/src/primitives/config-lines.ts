/**
 * What each line of a configuration file is, for files of lines `name = value` or `name: value`: the INI of oslo, KEY=value of shells, YAML. It knows no format: where formats differ, a line counts
 * as part of the value before it rather than as a line with a name of its own.
 */

/** `head` is all before the value. */
type Kind = { readonly kind: 'blank' | 'comment' | 'section' | 'rest' } | { readonly kind: 'option'; readonly name: string; readonly head: string; readonly value: string }

/** One line. `entry` is the index of the line that it belongs to: itself, or the one whose value it goes on with. */
export type ConfigLine = Kind & { readonly text: string; readonly section: string; readonly entry: number }

/** A colon stands before a blank: `http://host` and `user:password` have no name. */
const option = /^((?:export[ \t]+)?([A-Za-z_][\w.-]*)(?:[ \t]*=|[ \t]*:(?=\s|$))[ \t]*)(.*)$/s

/** The lines of the text, as many as there are between line feeds. */
export function parseConfigLines(text: string): ConfigLine[] {
  const lines: ConfigLine[] = []
  let section = ''
  let entry = 0
  let isArmoured = false
  let goesOn = false
  for (const [index, line] of text.split('\n').entries()) {
    const isPart = isArmoured || goesOn || /^\s/.test(line)
    const parsed = parseLine(line, isPart)
    // Also an array of several lines looks like one: then what follows is in a section that the other file does not have.
    if (line.trimStart().startsWith('[')) section = line.trim()
    if (!isPart && parsed.kind !== 'blank' && parsed.kind !== 'comment') entry = index
    lines.push({ text: line, section, entry: isPart ? entry : index, ...parsed })
    if (/---- ?BEGIN /.test(line)) isArmoured = true
    if (/---- ?END /.test(line)) isArmoured = false
    goesOn = /\\\r?$/.test(line)
  }
  return lines
}

function parseLine(line: string, isPart: boolean): Kind {
  if (line.trim() === '') return { kind: 'blank' }
  if (isPart) return { kind: 'rest' }
  if (/^[#;]/.test(line)) return { kind: 'comment' }
  if (line.startsWith('[')) return { kind: 'section' }
  const [, head, name, value] = option.exec(line) ?? []
  return head === undefined ? { kind: 'rest' } : { kind: 'option', name: name!, head, value: value!.trim() }
}

/** The name and value of a part that has some, as in nested YAML. */
export function parseNested(text: string): { readonly name: string; readonly value: string } | undefined {
  const [, name, value] = /^\s*(?:- +)?["']?([A-Za-z_][\w.-]*)["']?[ \t]*(?::(?=\s|$)|=(?=[ \t]))[ \t]*(.*)$/s.exec(text.trimEnd()) ?? []
  return name === undefined ? undefined : { name, value: value! }
}

/** Whether a quotation mark stays open at the end of the line, or may: the next lines are then part of a value, whatever they look like. */
export function opensQuotation(line: string): boolean {
  let open = ''
  for (let at = 0; at < line.length; at++) {
    const character = line[at]!
    if (character === '\\') {
      // In shells a backslash is itself between single quotes, in Python it is not.
      if (open === "'" && line[at + 1] === "'") return true
      at++
    } else if (open === '') open = character === '"' || character === "'" ? character : ''
    else if (character === open) open = ''
  }
  return open !== ''
}
