/** The picture of a task on a terminal, as lines: a pure function of what is known, the time and the size of the window. */
import cliTruncate from 'cli-truncate'
import type { LogRecord } from '../api/logs.js'
import type { Gate, Task, TaskDetail } from '../api/tasks.js'
import { firstLine, sanitizeLine, type Terminal } from '../terminal.js'
import { formatDuration } from '../text/duration.js'
import { countNeeds, listNeeds } from './needs.js'
import { countActions, type ActionProgress, type Progress } from './progress.js'
import { countOf, describeState, formatCount, isStep } from './words.js'

export interface FrameInput {
  readonly task: Task
  readonly progress: Progress
  /** The task as the server told it last; undefined before it did. */
  readonly detail: TaskDetail | undefined
  /** Newest lines of the task log, oldest first. */
  readonly tail: readonly LogRecord[]
  /** What is wrong with the connection; empty when nothing is. */
  readonly trouble: string
  readonly now: number
  readonly columns: number
  readonly rows: number
  readonly style: Terminal['style']
}

type Phase = 'failed' | 'unknown' | 'running' | 'waiting' | 'done'
interface Part {
  readonly name: string
  readonly actions: readonly ActionProgress[]
  readonly phase: Phase
}

const signs: Readonly<Record<Phase, string>> = { failed: '✖', unknown: '?', running: '●', waiting: '○', done: '✔' }
const colours = { failed: 'red', unknown: 'yellow', running: 'cyan', waiting: 'dim', done: 'green' } as const
/** How many lines of the log stand under the picture when there is room. */
const tailLines = 6
/** Actions shown below one component; more are counted in one line. */
const actionLines = 8

/** Lines of the frame: never more than `rows - 1`, none wider than `columns`, so that a redraw does not scroll. */
export function buildFrame(input: FrameInput): string[] {
  const room = Math.max(4, input.rows - 1)
  const heading = buildHeading(input)
  const body = buildBody(input, room - heading.length)
  const left = room - heading.length - body.length
  const tail = left >= 3 ? buildTail(input, Math.min(tailLines, left - 1)) : []
  return [...heading, ...body, ...tail].slice(0, room).map((line) => cliTruncate(line, Math.max(10, input.columns - 1)))
}

function buildHeading({ task, progress, detail, now, style, trouble }: FrameInput): string[] {
  const counts = countActions(progress)
  const done = `${formatCount(counts.changed + counts.unchanged)} of ${formatCount(counts.total)} done${counts.notRun > 0 ? ` (${formatCount(counts.notRun)} unchanged)` : ''}`
  const numbers = [done, counts.running > 0 && `${counts.running} running`, counts.unknown > 0 && style('yellow', `${counts.unknown} unknown`), counts.failed > 0 && style('red', `${counts.failed} failed`)].filter(Boolean).join(', ')
  const state = progress.state === 'cancelling' || progress.state === 'paused' ? progress.state : ''
  const what = counts.total === 0 ? state || firstLine(detail?.waitingFor?.reason ?? 'accepted') : [state && style('yellow', state), numbers].filter(Boolean).join(', ')
  const lines = [`${style('bold', `${task.kind} ${task.deployment}`)}  ${style('dim', task.id)}  ${formatDuration((progress.endedAt ?? now) - progress.startedAt)}  ${what}`]
  const needs = progress.state === 'ended' || detail === undefined ? '' : countNeeds(listNeeds(detail))
  if (needs) lines.push(style('yellow', `  ${needs}`))
  if (trouble) lines.push(style('yellow', `  ${trouble}`))
  return lines
}

function buildBody(input: FrameInput, room: number): string[] {
  const parts = buildParts(input.progress)
  const full = parts.flatMap((part) => buildPart(input, part, actionLines))
  if (full.length <= room) return full
  // Too high: components that are done or have not begun become one line each for all of them.
  const active = parts.filter((part) => part.phase === 'failed' || part.phase === 'unknown' || part.phase === 'running')
  const rest = (['done', 'waiting'] as const).flatMap((phase) => {
    const count = parts.filter((part) => part.phase === phase).length
    return count === 0 ? [] : [paint(input, phase, `${countOf(count, 'component')} ${phase === 'done' ? 'done' : 'waiting'}`)]
  })
  const perPart = Math.max(0, Math.floor((room - rest.length) / Math.max(1, active.length)) - 1)
  const lines = active.flatMap((part) => buildPart(input, part, perPart))
  const shown = Math.max(0, room - rest.length - 1)
  return [...rest, ...(lines.length <= shown + 1 ? lines : [...lines.slice(0, shown), '  …'])].slice(0, room)
}

function buildParts(progress: Progress): Part[] {
  const groups = new Map<string, ActionProgress[]>()
  for (const action of progress.actions.values()) {
    const group = groups.get(action.component)
    if (group) group.push(action)
    else groups.set(action.component, [action])
  }
  return [...groups].map(([name, actions]) => ({ name, actions, phase: findPhase(actions) }))
}

const phaseOf = (action: ActionProgress): Phase => {
  if (action.state === 'succeeded' || action.state === 'skipped') return 'done'
  if (action.state === 'sent' || action.state === 'waitingRetry') return 'running'
  if (action.state === 'unknown') return 'unknown'
  return action.state === 'pending' ? 'waiting' : 'failed'
}

function findPhase(actions: readonly ActionProgress[]): Phase {
  const phases = new Set(actions.map(phaseOf))
  for (const phase of ['failed', 'unknown'] as const) if (phases.has(phase)) return phase
  if (phases.has('running')) return 'running'
  if (!phases.has('waiting')) return 'done'
  return phases.has('done') ? 'running' : 'waiting'
}

function buildPart(input: FrameInput, part: Part, limit: number): string[] {
  const ended = part.actions.filter((action) => phaseOf(action) === 'done').length
  const first = Math.min(...part.actions.map((action) => action.startedAt ?? Infinity))
  const last = part.phase === 'done' ? Math.max(...part.actions.map((action) => action.endedAt ?? 0)) : input.now
  const took = Number.isFinite(first) ? formatDuration(last - first) : ''
  const step = part.phase === 'done' ? undefined : nextStep(input, part.name)
  const heading = `${paint(input, part.phase, `${part.name.padEnd(20)} ${`${ended}/${part.actions.length}`.padStart(7)}  ${took}`)}${step ? input.style('dim', `  ${step.meaning}`) : ''}`
  if (part.phase === 'done') return [heading]
  const rank: Readonly<Record<Phase, number>> = { failed: 0, unknown: 1, running: 2, waiting: 3, done: 4 }
  const open = part.actions.filter((action) => phaseOf(action) !== 'done').sort((a, b) => rank[phaseOf(a)] - rank[phaseOf(b)])
  if (limit === 0) return [heading]
  const shown = open.length <= limit ? open : open.slice(0, limit - 1)
  const more = open.length - shown.length
  return [heading, ...shown.map((action) => buildAction(input, action)), ...(more > 0 ? [input.style('dim', `      … and ${more} more`)] : [])]
}

// The wave that is under way, or the approval that is next.
const nextStep = ({ detail }: FrameInput, component: string): Gate | undefined => detail?.gates.find((gate) => gate.component === component && gate.state !== 'open' && isStep(gate))

function buildAction(input: FrameInput, action: ActionProgress): string {
  const wait = input.detail?.waiting.find((waiting) => waiting.action === action.id)
  const took = action.startedAt === undefined ? '' : formatDuration((action.endedAt ?? input.now) - action.startedAt)
  const reason = action.state === 'pending' ? (wait?.reason ?? 'waits') : action.state === 'sent' ? (action.attempt > 1 ? `attempt ${action.attempt}` : '') : `${describeState(action, input.task.kind)}${action.reason ? `: ${action.reason}` : ''}`
  const phase = phaseOf(action)
  return `    ${input.style(colours[phase], `${signs[phase]} ${`${action.name}`.padEnd(18)} ${action.node.padEnd(14)} ${took.padStart(8)}`)}  ${input.style('dim', firstLine(reason))}`
}

const paint = (input: FrameInput, phase: Phase, text: string): string => `  ${input.style(colours[phase], `${signs[phase]} ${text}`)}`

function buildTail({ tail, style }: FrameInput, limit: number): string[] {
  const lines = tail.slice(-limit).map((record) => style('dim', `  ${record.node} ${record.action.replace(/@[^@]*$/, '')} │ ${sanitizeLine(record.text)}`))
  return lines.length === 0 ? [] : ['', ...lines]
}
