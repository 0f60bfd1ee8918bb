import { countOf, formatCount } from '../follow/words.js'
import { firstLine, type Terminal } from '../terminal.js'

interface PreviewCommand {
  readonly name: string
  readonly kind: string
  readonly spec: Readonly<Record<string, unknown>>
}

interface PreviewAction {
  readonly id: string
  readonly component: string
  readonly name: string
  readonly node: string
  readonly after: readonly string[]
  readonly commands: readonly PreviewCommand[]
  readonly unchanged: { readonly since: string } | null
  readonly verifies: readonly unknown[]
  readonly isDeparture?: true
}

interface PreviewGate {
  readonly id: string
  readonly after: readonly string[]
  readonly approve: boolean
  readonly maxFailures: number
  readonly meaning: string
}

/** The answer of POST /v1/previews, as far as it is shown. */
export interface Preview {
  readonly digest: string
  readonly deployment: string
  readonly counts: { readonly toRun: number; readonly unchanged: number; readonly verifying: number; readonly approvals: number; readonly toRunAfterApproval: number }
  /** Each after those it depends on. */
  readonly actions: readonly PreviewAction[]
  readonly gates: readonly PreviewGate[]
  readonly departures?: readonly { readonly departures: readonly PreviewDeparture[] }[]
}

interface PreviewDeparture {
  readonly component: string
  readonly nodes: readonly string[]
  readonly isWhole: boolean
}

export interface PreviewOptions {
  /** Path of the plan, for the command that runs it. */
  readonly file: string
  /** What is previewed, in a word: `apply`, `destroy`, or an operation. */
  readonly kind: string
  /** Whether what is unchanged is listed too. */
  readonly listsAll: boolean
}

/** The preview for a person: numbers, waves and approvals, what runs with its commands, and the digest. */
export function buildPreviewLines(style: Terminal['style'], preview: Preview, options: PreviewOptions): string[] {
  const { digest, deployment, counts, actions, gates, departures = [] } = preview
  const leaving = departures.flatMap((former) => former.departures)
  const lines = [style('bold', `${options.kind} ${deployment}: ${[...describeCounts(counts), ...describeLeaving(leaving)].join(', ')}`)]
  if (counts.verifying > 0) lines.push(style('dim', `first ${countOf(counts.verifying, 'check')} whether what is unchanged is still there; what is gone runs too, and so does what comes after a change`))
  lines.push(...listSteps(gates))
  for (const action of options.listsAll ? actions : actions.filter((each) => each.unchanged === null && each.verifies.length === 0)) {
    lines.push('', `${style('cyan', `${action.component}/${action.name}`)} on ${action.node}${action.unchanged === null ? '' : style('dim', ` unchanged since ${action.unchanged.since}`)}${action.isDeparture ? style('dim', ' (leaves)') : ''}`)
    if (action.after.length > 0) lines.push(style('dim', `  after ${shorten(action.after)}`))
    lines.push(...action.commands.map((command) => `  ${command.kind.padEnd(9)} ${command.name}${style('dim', describeSubject(command))}`))
  }
  if (counts.unchanged > 0 && !options.listsAll) lines.push('', style('dim', `${formatCount(counts.unchanged)} unchanged not listed (--all lists them)`))
  lines.push('', `digest ${digest}`)
  if (options.kind === 'apply') lines.push(`Run exactly this: lichen apply ${options.file} --preview ${digest}`)
  return lines
}

function describeCounts({ toRun, unchanged, approvals, toRunAfterApproval }: Preview['counts']): string[] {
  const parts = [`${formatCount(toRun)} to run`]
  if (unchanged > 0) parts.push(`${formatCount(unchanged)} unchanged`)
  if (approvals > 0) parts.push(`${countOf(approvals, 'approval')}${toRunAfterApproval > 0 ? ` (${formatCount(toRunAfterApproval)} of them to run after one)` : ''}`)
  return parts
}

/** More than these in one line are told by their number. */
const maxLeaving = 3

/** `1 node leaves (w2 of workers)`, `1 component leaves (cache)`: nodes that components lose while they stay, and components that go altogether. */
function describeLeaving(leaving: readonly PreviewDeparture[]): string[] {
  const byNode = new Map<string, string[]>()
  for (const { component, nodes, isWhole } of leaving) if (!isWhole) for (const node of nodes) byNode.set(node, [...(byNode.get(node) ?? []), component])
  const nodes = [...byNode].map(([node, components]) => `${node} of ${listSome(components)}`)
  const components = leaving.filter(({ isWhole }) => isWhole).map(({ component }) => component)
  return ([['node', nodes], ['component', components]] as const).flatMap(([what, list]) => (list.length === 0 ? [] : [`${countOf(list.length, what)} ${list.length === 1 ? 'leaves' : 'leave'} (${listSome(list)})`]))
}

const listSome = (list: readonly string[]): string => (list.length > maxLeaving ? `${list.slice(0, maxLeaving).join(', ')} and ${list.length - maxLeaving} more` : list.join(', '))

/** Waves and approvals; barriers are nothing that a person thinks of. A rollout of hundreds of waves is told by its beginning. */
const maxSteps = 20

function listSteps(gates: readonly PreviewGate[]): string[] {
  const steps = gates.filter((gate) => gate.approve || gate.meaning.startsWith('wave '))
  const lines = steps.slice(0, maxSteps).map((gate) => `  ${gate.meaning}${describeGate(gate)}`)
  return steps.length > maxSteps ? [...lines, `  and ${countOf(steps.length - maxSteps, 'more step')}`] : lines
}

function describeGate({ id, approve, maxFailures }: PreviewGate): string {
  const conditions = [...(approve ? [`a person must approve ${id}`] : []), ...(maxFailures > 0 ? [`${countOf(maxFailures, 'failure')} may pass`] : [])]
  return conditions.length === 0 ? '' : `: ${conditions.join(', ')}`
}

/** More ids than these fill a screen for each action. */
const maxNamed = 8

const shorten = (ids: readonly string[]): string => (ids.length > maxNamed ? `${ids.slice(0, maxNamed).join(', ')} and ${ids.length - maxNamed} more` : ids.join(', '))

// What the command is about, in a few words; `--json` has every field.
function describeSubject({ spec }: PreviewCommand): string {
  const { path, names, unit, user, destination, argv, shell } = spec
  const thing = [path, unit, user, destination, Array.isArray(names) ? names.join(' ') : undefined].find((value) => typeof value === 'string')
  const program = Array.isArray(argv) ? argv.join(' ') : typeof shell === 'string' ? shell : ''
  const text = typeof thing === 'string' ? thing : firstLine(program).slice(0, 80)
  if (text === '') return ''
  const state = typeof spec['state'] === 'string' ? ` (${spec['state']})` : ''
  return `  ${text}${state}`
}
