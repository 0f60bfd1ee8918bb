import type { Context } from '../context.js'
import { exitCodes, type ExitCode } from '../exit-codes.js'
import { firstLine, sanitizeLine, type Terminal } from '../terminal.js'
import { paintDiff } from '../text/diff.js'
import { formatDuration } from '../text/duration.js'
import { formatProblem } from '../text/problems.js'
import { readLastLines, type Followed } from './follow-task.js'
import { buildNeedLines } from './needs.js'
import { countActions, type ActionProgress, type Progress } from './progress.js'
import { describeState, formatCount, nameAction } from './words.js'

/** Failures told in full; what is more is counted, with the command that lists it. */
const failuresTold = 5
const logLinesTold = 10

/** Prints how the task ended, in words or as the last NDJSON object, and gives back the exit code that says so. */
export async function printSummary(context: Context, followed: Followed): Promise<ExitCode> {
  const { task, progress } = followed
  const failed = listFailed(progress)
  if (context.isJson) context.terminal.line(JSON.stringify(buildJsonSummary(followed, failed)))
  else await printWords(context, followed, failed)
  if (followed.needs.length > 0) return exitCodes.personNeeded
  if (progress.outcome === 'succeeded') return exitCodes.ok
  return progress.outcome === 'rejected' || task.outcome === 'rejected' ? exitCodes.rejected : exitCodes.taskFailed
}

const listFailed = (progress: Progress): ActionProgress[] => [...progress.actions.values()].filter(({ state }) => state === 'failed' || state === 'timedOut' || state === 'unknown')

function buildJsonSummary({ task, progress, needs }: Followed, failed: readonly ActionProgress[]): unknown {
  const { changed, unchanged, notRun: asBefore, failed: failures, unknown, stopped, waiting, running } = countActions(progress)
  return {
    type: 'summary',
    task: task.id,
    outcome: progress.outcome ?? null,
    reason: progress.reason,
    needs,
    counts: { changed, unchanged, asBefore, failed: failures, unknown, stopped, notRun: waiting + running },
    durationMs: (progress.endedAt ?? Date.now()) - progress.startedAt,
    problems: progress.problems,
    failures: failed.map(({ id, component, name, node, state, attempt, result }) => ({ action: id, component, name, node, state, attempt, failure: result?.failure ?? null })),
  }
}

async function printWords(context: Context, followed: Followed, failed: readonly ActionProgress[]): Promise<void> {
  const { terminal } = context
  const { task, progress } = followed
  if (task.kind === 'check') for (const line of buildDifferences(terminal, progress)) terminal.line(line)
  for (const action of failed.slice(0, failuresTold)) await printFailure(context, followed, action)
  if (failed.length > failuresTold) terminal.line(`… and ${failed.length - failuresTold} more: lichen tasks show ${task.id}`)
  terminal.line('')
  for (const line of followed.needs.length > 0 ? buildWaitingLines(terminal, followed) : buildClosingLines(terminal, followed)) terminal.line(line)
}

/** The last lines when the task was left where it waits for a person: what has to be done, and how to come back. */
function buildWaitingLines(terminal: Terminal, { task, progress, needs }: Followed): string[] {
  const counts = countActions(progress)
  const numbers = `${formatCount(counts.changed + counts.unchanged)} of ${formatCount(counts.total)} actions done, ${counts.failed} failed`
  return [`${terminal.style('yellow', `${task.kind} ${task.deployment} waits for a person`)}: ${numbers}.`, ...buildNeedLines(needs).map((line) => `  ${line}`), `Then: lichen tasks follow ${task.id}`]
}

/** The last lines: what became of the task, in numbers, and what to do next when it did not succeed. */
export function buildClosingLines(terminal: Terminal, { task, progress }: Pick<Followed, 'task' | 'progress'>): string[] {
  const counts = countActions(progress)
  const took = formatDuration((progress.endedAt ?? Date.now()) - progress.startedAt)
  const words = task.kind === 'check' ? ([`${formatCount(counts.changed)} differ`, `${formatCount(counts.unchanged)} as planned`] as const) : ([`${formatCount(counts.changed)} changed`, `${formatCount(counts.unchanged)} unchanged${counts.notRun > 0 ? ` (${formatCount(counts.notRun)} without a run)` : ''}`] as const)
  const rest = [counts.unknown > 0 && `${counts.unknown} unknown`, counts.stopped > 0 && `${counts.stopped} cancelled or skipped`, counts.waiting > 0 && `${counts.waiting} not run`].filter(Boolean)
  const numbers = [...words, `${counts.failed} failed`, ...rest].join(', ')
  if (progress.outcome === 'succeeded') {
    const nothing = counts.changed > 0 ? '' : task.kind === 'check' ? ' Nothing differs from the plan.' : ' Nothing had to change.'
    return [`${terminal.style('green', `${task.kind} ${task.deployment} succeeded`)}: ${numbers}, in ${took}.${nothing}`]
  }
  const lines = [`${terminal.style('red', `${task.kind} ${task.deployment} ${progress.outcome ?? 'has not ended'}`)}: ${numbers}, in ${took}.`]
  if (progress.reason) lines.push(`  ${firstLine(progress.reason)}${progress.failure ? ` (${progress.failure.code})` : ''}`)
  lines.push(...progress.problems.map((problem) => `  ${formatProblem(problem)}`))
  if (progress.outcome === 'rejected') return lines
  return [...lines, `Next: lichen retry ${task.id}    (starts over what did not succeed; the whole log: lichen logs ${task.id})`]
}

async function printFailure(context: Context, followed: Followed, action: ActionProgress): Promise<void> {
  const { terminal } = context
  const failure = action.result?.failure
  terminal.line('')
  terminal.line(terminal.style('red', `${nameAction(action)}: ${describeState(action, followed.task.kind)}${action.attempt > 1 ? ` after ${action.attempt} attempts` : ''}`))
  if (failure) terminal.line(`  ${failure.command ? `command "${sanitizeLine(failure.command)}": ` : ''}${firstLine(failure.message)} (${failure.code})`)
  const lines = await readLastLines(context, followed, action.id, logLinesTold)
  if (lines.length === 0) return
  terminal.line(terminal.style('dim', `  its last lines (all: lichen logs ${followed.task.id} --action ${action.id})`))
  for (const { text } of lines) terminal.line(`  | ${sanitizeLine(text)}`)
}

/** What a check found different from the plan, by action and command, with diffs where there are some. Empty when nothing differs. */
export function buildDifferences(terminal: Terminal, progress: Progress): string[] {
  const lines: string[] = []
  for (const action of progress.actions.values()) {
    const different = action.result?.commands.filter((command) => command.changed) ?? []
    if (different.length > 0) lines.push('', terminal.style('bold', nameAction(action)))
    for (const { name, kind, diff } of different) {
      lines.push(`  ${kind}: ${name}`)
      if (diff) lines.push(...paintDiff(terminal, diff).map((line) => `    ${line}`))
    }
  }
  return lines
}
