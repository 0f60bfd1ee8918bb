/** One line of the report: what was measured, beside the target and the floor of the same run. */
export interface Figure {
  readonly what: string
  readonly value: number
  readonly unit: string
  readonly target?: { readonly atLeast: number } | { readonly atMost: number } | { readonly below: number }
  /** Floor of the machine for the part that limits this figure, same unit. */
  readonly floor?: { readonly what: string; readonly value: number }
  readonly note?: string
}

const format = (value: number): string => (Number.isNaN(value) ? '–' : value >= 100 ? Math.round(value).toLocaleString('en') : value.toPrecision(3))

function targetText(figure: Figure): string {
  if (figure.target === undefined) return ''
  const { value, target } = figure
  const [sign, bound, isMet] = 'atLeast' in target ? ['≥', target.atLeast, value >= target.atLeast] : 'atMost' in target ? ['≤', target.atMost, value <= target.atMost] : ['<', target.below, value < target.below]
  return `${sign} ${format(bound)} ${isMet ? 'met' : 'MISSED'}`
}

/** The figures as an aligned table, one line each. */
export function buildTable(figures: readonly Figure[]): string {
  const rows = figures.map((figure) => [
    figure.what,
    `${format(figure.value)} ${figure.unit}`,
    targetText(figure),
    figure.floor === undefined ? '' : `${format(figure.floor.value)} ${figure.floor.what} (×${(figure.value / figure.floor.value).toPrecision(2)})`,
    figure.note ?? '',
  ])
  const header = ['measured', 'value', 'target', 'floor in this run (ratio)', 'note']
  const widths = header.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column]!.length)))
  const line = (cells: readonly string[]) => cells.map((cell, column) => cell.padEnd(widths[column]!)).join('  ').trimEnd()
  return [line(header), line(widths.map((width) => '-'.repeat(width))), ...rows.map(line)].join('\n')
}
