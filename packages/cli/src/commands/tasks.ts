import type { Command } from 'commander'
import { readResumed } from '../api/resumed-stream.js'
import { readActions, readPages, readTask, type Action, type Page, type Task, type TaskDetail, type TaskEvent } from '../api/tasks.js'
import { printResult, type Context } from '../context.js'
import { exitCodes, type ExitCode } from '../exit-codes.js'
import { followTask } from '../follow/follow-task.js'
import { buildNeedLines, listNeeds } from '../follow/needs.js'
import { printSummary } from '../follow/summary.js'
import { countOf, describeState, formatCount, isStep } from '../follow/words.js'
import { firstLine, sanitizeLine } from '../terminal.js'
import { formatAge, formatDuration, formatTime } from '../text/duration.js'
import { formatProblem } from '../text/problems.js'
import { buildTable } from '../text/table.js'
import { addApproveCommand } from './approve.js'
import { addExitOnWait, parseCount } from './options.js'
import { addRetryCommand } from './retry.js'
import { addSettleCommand } from './settle.js'
import { addTaskRequestCommands } from './task-request.js'

type Run = (action: (context: Context) => Promise<ExitCode>) => Promise<void>

interface ListOptions {
  readonly limit: number
  readonly project?: string
  readonly deployment?: string
  readonly state?: string
  readonly outcome?: string
  readonly waiting?: boolean
}

/** Adds `tasks`, and what can be asked of one, both below it and beside it (`lichen pause ID`). An id may be `latest`. */
export function addTaskCommands(program: Command, run: Run): void {
  const tasks = addReadCommands(program, run)
  for (const parent of [tasks, program]) {
    addTaskRequestCommands(parent, run)
    addApproveCommand(parent, run)
    addSettleCommand(parent, run)
    addRetryCommand(parent, run)
  }
}

function addReadCommands(program: Command, run: Run): Command {
  const tasks = program.command('tasks').summary('list, show and follow tasks; pause, approve, settle, cancel, retry').description('Tasks: the runs of plans. ID may be `latest`.')
  tasks
    .command('ls', { isDefault: true })
    .description('Lists tasks, newest first.')
    .option('-n, --limit <count>', 'how many', parseCount, 20)
    .option('--project <name>', 'of this project')
    .option('--deployment <name>', 'of this deployment')
    .option('--state <state>', 'accepted, running, paused, cancelling or ended')
    .option('--outcome <outcome>', 'succeeded, failed, timedOut, cancelled or rejected')
    .option('--waiting', 'only those that wait for a person: paused, at an approval, with an unknown outcome')
    .action((options: ListOptions) => run((context) => listTasks(context, options)))
  tasks
    .command('show')
    .description('Shows a task with its actions, what each waits for and what failed.')
    .argument('<id>')
    .option('--timing', 'order the actions by how long they took, and show the critical path')
    .action((id: string, options: { timing?: boolean }) => run((context) => showTask(context, id, options.timing === true)))
  addExitOnWait(
    tasks
      .command('follow')
      .description('Follows a task to its end, as `apply` does.')
      .argument('<id>')
      .option('--logs', 'show the task log beside'),
  ).action((id: string, options: { logs?: boolean; exitOnWait?: boolean }) => run((context) => follow(context, id, options)))
  tasks
    .command('events')
    .description('Prints the events of a task, oldest first.')
    .argument('<id>')
    .option('-f, --follow', 'go on until the task ends')
    .action((id: string, options: { follow?: boolean }) => run((context) => printEvents(context, id, options.follow === true)))
  return tasks
}

async function listTasks(context: Context, { waiting, ...options }: ListOptions): Promise<ExitCode> {
  const items = waiting ? await listWaiting(context, options) : (await context.client().call<Page<Task>>('GET', '/v1/tasks', { query: options })).items
  const now = Date.now()
  printResult(context, items, () =>
    items.length === 0
      ? [waiting ? 'no task waits for a person' : 'no tasks']
      : buildTable(['ID', 'KIND', 'DEPLOYMENT', 'STATE', 'ACCEPTED', 'REASON'], items.map((task) => [task.id, task.kind, `${task.project}/${task.deployment}`, task.outcome ?? task.state, formatAge(task.createdAt, now), firstLine(task.reason)])),
  )
  return exitCodes.ok
}

// The server looks at a bounded number of tasks for one page, so a page may be short and another follow.
async function listWaiting(context: Context, options: Omit<ListOptions, 'waiting'>): Promise<readonly Task[]> {
  const found: Task[] = []
  for await (const task of readPages<Task>(context.client(), '/v1/tasks', { ...options, waiting: 'operator' })) {
    found.push(task)
    if (found.length === options.limit) break
  }
  return found
}

async function showTask(context: Context, id: string, isByTime: boolean): Promise<ExitCode> {
  const task = await readTask(context.client(), id)
  const actions = await readActions(context.client(), task.id)
  printResult(context, { ...task, actions }, () => buildTaskLines(context, task, actions, isByTime))
  return exitCodes.ok
}

/** That another task comes first is said by the reason; who else can help is not. */
const describeWait = ({ reason, owner }: NonNullable<TaskDetail['waitingFor']>): string => `${firstLine(reason)}${owner.startsWith('task ') ? '' : ` (${owner} can help)`}`

const tookMs = (action: Action, now: number): number => (action.sentAt === null ? 0 : (action.endedAt ?? now) - action.sentAt)

function buildTaskLines({ terminal }: Context, task: TaskDetail, actions: readonly Action[], isByTime: boolean): string[] {
  const now = Date.now()
  const needs = listNeeds(task)
  const lines = [
    terminal.style('bold', `${task.kind} ${task.project}/${task.deployment}  ${task.id}`),
    `  ${task.outcome ?? task.state}${task.reason ? `: ${firstLine(task.reason)}` : ''}`,
    `  accepted ${formatTime(task.createdAt)} (${formatAge(task.createdAt, now)}), ${task.state === 'ended' ? 'took' : 'so far'} ${formatDuration(task.timing.durationMs)}`,
    ...(task.engine === null ? [] : [`  driven by engine ${task.engine}`]),
    ...(task.unchanged === 0 ? [] : [`  ${countOf(task.unchanged, 'action')} of ${formatCount(task.actionCount)} unchanged since they last succeeded, and not run`]),
    ...(task.waitingFor === null || needs.length > 0 ? [] : [`  waits: ${describeWait(task.waitingFor)}`]),
    ...task.problems.map((problem) => `  ${formatProblem(problem)}`),
    ...buildNeedLines(needs).map((line) => terminal.style('yellow', `  ${line}`)),
    ...buildGateLines(task, now),
    '',
  ]
  const sorted = isByTime ? [...actions].sort((a, b) => tookMs(b, now) - tookMs(a, now)) : actions
  const rows = sorted.map((action) => {
    const result = { state: action.state, result: action.result ?? undefined }
    const reason = action.waitingFor?.reason ?? action.result?.failure?.message ?? action.reason
    return [`${action.component}/${action.name}`, action.node, describeState(result, task.kind), action.sentAt === null ? '' : formatDuration(tookMs(action, now)), action.attempt === 0 ? '' : String(action.attempt), firstLine(reason)]
  })
  lines.push(...buildTable(['ACTION', 'NODE', 'STATE', 'TOOK', 'ATTEMPT', 'REASON'], rows))
  if (isByTime) lines.push(...buildCriticalPath(task), ...buildCommandTimes(actions))
  return lines
}

function buildGateLines(task: TaskDetail, now: number): string[] {
  const rows = task.gates.filter(isStep).map(({ id, state, since, reason, meaning }) => [id, state, formatAge(since, now), meaning, firstLine(reason)])
  return rows.length === 0 ? [] : ['', ...buildTable(['GATE', 'STATE', 'SINCE', 'STANDS FOR', 'REASON'], rows)]
}

// What the task could not have ended sooner without.
function buildCriticalPath({ timing: { criticalPath } }: TaskDetail): string[] {
  if (criticalPath.length === 0) return []
  const rows = criticalPath.map(({ id, node, beganAt, endedAt, waitedMs }) => [waitedMs === 0 ? '' : formatDuration(waitedMs), node === null ? 'approved' : formatDuration(endedAt - beganAt), id.replace(/@.*/, ''), node ?? ''])
  return ['', `critical path, ${formatDuration(criticalPath.at(-1)!.endedAt - criticalPath[0]!.beganAt + criticalPath[0]!.waitedMs)}:`, ...buildTable(['WAITED', 'TOOK', 'STEP', 'NODE'], rows)]
}

// The slowest commands over all actions: where the time of a task went.
function buildCommandTimes(actions: readonly Action[]): string[] {
  const commands = actions.flatMap((action) => (action.result?.commands ?? []).map((command) => ({ ...command, action })))
  const slowest = commands.sort((a, b) => b.durationMs - a.durationMs).slice(0, 15)
  const rows = slowest.map(({ action, name, kind, durationMs, changed }) => [formatDuration(durationMs), `${action.component}/${action.name}`, action.node, `${kind}: ${name}`, changed ? 'changed' : ''])
  return ['', ...buildTable(['TOOK', 'ACTION', 'NODE', 'COMMAND', ''], rows)]
}

async function follow(context: Context, id: string, options: { readonly logs?: boolean; readonly exitOnWait?: boolean }): Promise<ExitCode> {
  const task = await readTask(context.client(), id)
  return printSummary(context, await followTask(context, task, { wantsLogs: options.logs === true, skipHistory: false, exitsOnWait: options.exitOnWait === true }))
}

async function printEvents(context: Context, id: string, isFollowed: boolean): Promise<ExitCode> {
  const task = await readTask(context.client(), id)
  const path = `/v1/tasks/${encodeURIComponent(task.id)}/events`
  const print = ({ seq, at, event }: TaskEvent) => {
    const { type, ...fields } = event
    context.terminal.line(context.isJson ? JSON.stringify({ seq, at, event }) : `${String(seq).padStart(5)}  ${formatTime(at)}  ${type.padEnd(18)} ${describeFields(fields)}`)
  }
  if (!isFollowed) for await (const event of readPages<TaskEvent>(context.client(), path)) print(event)
  else {
    const events = readResumed<TaskEvent>(context.client(), {
      path,
      query: { follow: true },
      positionName: 'after',
      position: 0,
      positionAfter: (event) => event.seq,
      isEnded: async (position) => {
        const now = await readTask(context.client(), task.id)
        return now.state === 'ended' && position >= now.seq
      },
    })
    for await (const event of events) print(event)
  }
  return exitCodes.ok
}

// Results are long; their outcome says what an overview needs, --json has the rest.
function describeFields(fields: Readonly<Record<string, unknown>>): string {
  return Object.entries(fields)
    .map(([name, value]) => `${name}=${name === 'result' ? (value as { outcome?: string }).outcome : typeof value === 'string' ? sanitizeLine(value) : JSON.stringify(value)}`)
    .join(' ')
}
