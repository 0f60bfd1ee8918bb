/**
 * YAML from strangers. The parser we use answers hostile text with more than an error: nesting without bound ends in a stack overflow that may take the process
 * with it, and its search for repeated keys takes a time that grows with the square of their number. Both are looked for here instead.
 */
import { isMap, isPair, isScalar, Lexer, LineCounter, parseDocument, visit, type Document } from 'yaml'

/** Aliases may multiply a document at most this often: enough for anchors that people write, far too little for a bomb. */
const maxAliasCount = 100
/** Faults told. One bracket left open makes many more, and only the first matter. */
const maxFaults = 20
/** Deepest flow collection, and half as many columns of block indentation as are read as structure. Beyond a few hundred levels the parser's stack is in danger. */
const maxFlowDepth = 64
const maxIndent = 256

/** The value of one YAML 1.2 document (JSON is one), or what is wrong with the text: sentences that begin with line and column where they can. */
export function parseYamlText(text: string): { readonly ok: true; readonly value: unknown } | { readonly ok: false; readonly faults: readonly string[] } {
  const lines = new LineCounter()
  const tell = (offset: number, message: string): string => {
    const { line, col } = lines.linePos(offset)
    return `line ${line}, column ${col}: ${message}`
  }
  const tooDeep = findDeepNesting(text)
  if (tooDeep !== undefined) return { ok: false, faults: [`line ${tooDeep}: the document is nested too deeply`] }
  try {
    const document = parseDocument(text, { version: '1.2', uniqueKeys: false, lineCounter: lines })
    const faults = document.errors.slice(0, maxFaults).map((error) => tell(error.pos[0], error.message.split('\n')[0]!.replace(/ at line \d+, column \d+:?$/, '')))
    if (faults.length === 0) faults.push(...findRepeatedKeys(document).slice(0, maxFaults).map(({ key, offset }) => tell(offset, `key ${JSON.stringify(key)} stands twice in one object`)))
    return faults.length > 0 ? { ok: false, faults } : { ok: true, value: document.toJS({ maxAliasCount }) as unknown }
  } catch (error) {
    return { ok: false, faults: [error instanceof Error ? error.message : String(error)] }
  }
}

/** The line, from 1, on which nesting passes the limits; undefined when none does. The lexer keeps no stack; it marks a document by U+0002 and a scalar, which is the next token, by U+001F. */
function findDeepNesting(text: string): number | undefined {
  let line = 1
  let flowDepth = 0
  let indent = 0
  let isLineStart = true
  let isScalar = false
  for (const token of new Lexer().lex(text)) {
    if (isScalar) {
      isScalar = false
      isLineStart = token.endsWith('\n')
      if (token.includes('\n')) indent = 0
    } else if (token === '\x1f') isScalar = true
    else if (token === '\n' || token === '\r\n') {
      isLineStart = true
      indent = 0
    } else if (token === '[' || token === '{') flowDepth++
    else if (token === ']' || token === '}') flowDepth = Math.max(0, flowDepth - 1)
    else if (isLineStart && /^(?: +|[-?:])$/.test(token)) indent += token.length
    else if (token !== '\x02' && token !== '\uFEFF') isLineStart = false
    if (flowDepth > maxFlowDepth || (flowDepth === 0 && indent > maxIndent && !isScalar && /^[-?:]$/.test(token))) return line
    for (let at = token.indexOf('\n'); at !== -1; at = token.indexOf('\n', at + 1)) line++
  }
  return undefined
}

function findRepeatedKeys(document: Document): { readonly key: string; readonly offset: number }[] {
  const found: { key: string; offset: number }[] = []
  visit(document, {
    Map(_key, map) {
      if (!isMap(map)) return
      const keys = new Set<string>()
      for (const pair of map.items) {
        if (!isPair(pair) || !isScalar(pair.key)) continue
        const key = String(pair.key.value)
        if (keys.has(key)) found.push({ key, offset: pair.key.range?.[0] ?? 0 })
        keys.add(key)
      }
    },
  })
  return found
}
