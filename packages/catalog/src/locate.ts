import { isMap, isSeq, LineCounter, parseDocument, type Node, type Pair } from 'yaml'

/** The line, from 1, on which the value at a path such as `actions.install.commands[2].file` stands in a YAML text; of the nearest that is there when it is not; undefined for the whole. */
export function findLine(text: string, path: string): number | undefined {
  const lines = new LineCounter()
  const document = parseDocument(text, { lineCounter: lines, uniqueKeys: false })
  let node: unknown = document.contents
  let offset: number | undefined
  for (const part of path.match(/[^.[\]]+/g) ?? []) {
    if (isMap(node)) {
      const pair = node.items.find((item: Pair) => String((item.key as { value?: unknown } | null)?.value) === part)
      if (pair === undefined) break
      offset = (pair.key as Node).range?.[0] ?? offset
      node = pair.value
    } else if (isSeq(node)) {
      node = node.items[Number(part)]
      if (node === undefined) break
      offset = (node as Node).range?.[0] ?? offset
    } else break
  }
  return offset === undefined ? undefined : lines.linePos(offset).line
}
