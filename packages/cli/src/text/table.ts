/**
 * Lines of a table with one space-aligned column for each title, the last one unpadded. No rows: no lines. Cells are plain text; `paint` may
 * colour a padded cell, so that escape sequences do not count as width.
 */
export function buildTable(titles: readonly string[], rows: readonly (readonly string[])[], paint: (cell: string, column: number, row: number) => string = (cell) => cell): string[] {
  if (rows.length === 0) return []
  const widths = titles.map((title, column) => Math.max(title.length, ...rows.map((row) => (row[column] ?? '').length)))
  const pad = (text: string, column: number) => (column === titles.length - 1 ? text : text.padEnd(widths[column]!))
  const heading = titles.map(pad).join('  ').trimEnd()
  return [heading, ...rows.map((row, index) => titles.map((_title, column) => paint(pad(row[column] ?? '', column), column, index)).join('  ').trimEnd())]
}
