/** What was made on fresh nodes by Lichen and by a plain script: how long it took and what it cost, and the two beside each other. */
import { cpus } from 'node:os'
import { type Nodes, readMachineCpuS } from './cluster-nodes.js'
import { quantile } from './quantile.js'
import type { Figure } from './table.js'

/** How long a run took, by its own clock. */
export interface Ran {
  readonly wallS: number
  /** When each action was at work, in ms since the beginning. */
  readonly spans: ReadonlyMap<string, { readonly beganMs: number; readonly endedMs: number }>
}

export interface Making extends Ran {
  readonly by: 'Lichen' | 'script'
  /** In words, e.g. `3 workers`: those of the same are compared. */
  readonly what: string
  readonly cpuS: number
  /** Share of all cores that nodes and server used. */
  readonly cpuShare: number
  /** Share of all cores that whatever else ran on this machine used. */
  readonly otherShare: number
}

/** Runs it, and looks at what it costs in the meantime. */
export async function measureMaking(nodes: Nodes, by: Making['by'], what: string, run: () => Promise<Ran>): Promise<Making> {
  const before = { ownS: nodes.cpuS(), allS: readMachineCpuS(), at: performance.now() }
  const { wallS, spans } = await run()
  const coresS = ((performance.now() - before.at) / 1000) * cpus().length
  const cpuS = nodes.cpuS() - before.ownS
  return { by, what, wallS, spans, cpuS, cpuShare: cpuS / coresS, otherShare: Math.max(0, readMachineCpuS() - before.allS - cpuS) / coresS }
}

const percent = (share: number): string => `${Math.round(share * 100)} %`

export const describe = ({ by, what, wallS, cpuS, cpuShare, otherShare }: Making): string =>
  `${by}, ${what}: ${wallS.toFixed(1)} s; ${cpuS.toFixed(1)} s of processor time, ${percent(cpuShare)} of the cores; others used ${percent(otherShare)}`

const formatMs = (ms: number | undefined): string => (ms === undefined ? '–' : (ms / 1000).toFixed(1))

/** Of the last making of each: when each action began and ended. */
export function buildComparison(makings: readonly Making[], what: string): string {
  const last = (by: Making['by']) => makings.findLast((making) => making.by === by && making.what === what)?.spans
  const [plan, script] = [last('Lichen'), last('script')]
  const rows = [...(plan ?? [])].sort(([, a], [, b]) => a.endedMs - b.endedMs).map(([action, { beganMs, endedMs }]) => {
    const same = script?.get(action)
    return `  ${action.padEnd(48)} ${formatMs(beganMs).padStart(7)} ${formatMs(endedMs).padStart(7)} ${formatMs(endedMs - beganMs).padStart(6)} | ${formatMs(same?.beganMs).padStart(7)} ${formatMs(same?.endedMs).padStart(7)} ${formatMs(same && same.endedMs - same.beganMs).padStart(6)}`
  })
  return [`  ${`${what}, seconds: began, ended, took`.padEnd(48)} ${'by Lichen'.padStart(22)} | ${'by the script'.padStart(22)}`, ...rows].join('\n')
}

/** What there is of one thing made again and again. */
export interface Makings {
  readonly all: readonly Making[]
  middle(field: 'wallS' | 'cpuS' | 'cpuShare' | 'otherShare'): number
  least(): number
}

export function selectMakings(makings: readonly Making[], by: Making['by'], what: string): Makings {
  const all = makings.filter((making) => making.by === by && making.what === what)
  return { all, middle: (field) => medianOf(all.map((making) => making[field])), least: () => Math.min(...all.map(({ wallS }) => wallS)) }
}

/** A line of the report: its time, and what it took of the processors. */
export const buildTimeFigure = (what: string, { all, middle }: Makings): Figure => ({
  what, value: middle('wallS'), unit: 's',
  note: `${all.length} ${all.length === 1 ? 'run' : 'runs'}, ${all.map(({ wallS }) => wallS.toFixed(1)).join(', ')} s; ${middle('cpuS').toFixed(1)} s of processor time, ${percent(middle('cpuShare'))} of ${cpus().length} cores; others used ${percent(middle('otherShare'))}`,
})

/** What Lichen takes over what the script takes: of time, and of processor time. */
export const buildRatioFigures = (what: string, plan: Makings, script: Makings, atMost: number): Figure[] => [
  { what: `  ${what}`, value: plan.middle('wallS') / script.middle('wallS'), unit: '×', target: { atMost }, note: `of the fastest runs ${(plan.least() / script.least()).toPrecision(3)}` },
  { what: '  the same in processor time', value: plan.middle('cpuS') / script.middle('cpuS'), unit: '×', note: 'of nodes, agents and server; what else runs on this machine changes it little' },
]

/** Of an even number the mean of the middle two: of two runs neither is left out. */
export const medianOf = (samples: readonly number[]): number => (quantile(samples, 0.5) + quantile(samples.map((sample) => -sample), 0.5) * -1) / 2
