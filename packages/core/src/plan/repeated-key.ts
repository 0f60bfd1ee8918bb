const token = /"(?:[^"\\]|\\.)*"|[{}[\],]/gs

/** The first key that stands twice in one object of a well-formed JSON text, with the line it stands on; undefined when there is none. `JSON.parse` keeps the last one in silence. */
export function findRepeatedKey(json: string): { readonly key: string; readonly line: number } | undefined {
  const open: (Set<string> | null)[] = []
  let isKey = false
  for (const match of json.matchAll(token)) {
    const text = match[0]
    if (text === '{' || text === '[') {
      open.push(text === '{' ? new Set() : null)
      isKey = text === '{'
    } else if (text === '}' || text === ']') {
      open.pop()
      isKey = false
    } else if (text === ',') isKey = open.at(-1) instanceof Set
    else if (isKey) {
      const key = JSON.parse(text) as string
      const keys = open.at(-1)!
      if (keys.has(key)) return { key, line: json.slice(0, match.index).split('\n').length }
      keys.add(key)
      isKey = false
    }
  }
  return undefined
}
