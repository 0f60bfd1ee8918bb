import type { Command } from 'commander'
import { readResumed } from '../api/resumed-stream.js'
import { readActions, readPages, readTask, type Action, type Page, type Task, type TaskDetail, type TaskEvent } from '../api/tasks.js'
import { printResult, type Context } from '../context.js'
import { exitCodes, type ExitCode } from '../exit-codes.js'
import { followTask } from '../follow/follow-task.js'
import { printSummary } from '../follow/summary.js'
import { describeState } from '../follow/words.js'
import { firstLine, sanitizeLine } from '../terminal.js'
import { formatAge, formatDuration, formatTime } from '../text/duration.js'
import { formatProblem } from '../text/problems.js'
import { buildTable } from '../text/table.js'
import { parseCount } from './options.js'

type Run = (action: (context: Context) => Promise<ExitCode>) => Promise<void>

/** Adds `tasks` and what can be done with one. An id may be `latest`. */
export function addTaskCommands(program: Command, run: Run): void {
  const tasks = program.command('tasks').summary('list, show, follow, cancel and retry tasks').description('Tasks: the runs of plans. ID may be `latest`.')
  tasks
    .command('ls', { isDefault: true })
    .description('Lists tasks, newest first.')
    .option('-n, --limit <count>', 'how many', parseCount, 20)
    .option('--project <name>', 'of this project')
    .option('--deployment <name>', 'of this deployment')
    .option('--state <state>', 'accepted, running, cancelling or ended')
    .action((options: { limit: number; project?: string; deployment?: string; state?: string }) => run((context) => listTasks(context, options)))
  tasks
    .command('show')
    .description('Shows a task with its actions, what each waits for and what failed.')
    .argument('<id>')
    .option('--timing', 'order the actions by how long they took')
    .action((id: string, options: { timing?: boolean }) => run((context) => showTask(context, id, options.timing === true)))
  tasks
    .command('follow')
    .description('Follows a task to its end, as `apply` does.')
    .argument('<id>')
    .option('--logs', 'show the task log beside')
    .action((id: string, options: { logs?: boolean }) => run(async (context) => follow(context, await readTask(context.client(), id), options.logs === true)))
  tasks
    .command('cancel')
    .description('Asks the task to stop: running commands are ended on their nodes, nothing new is started.')
    .argument('<id>')
    .option('--reason <text>', 'kept with the task')
    .action((id: string, options: { reason?: string }) => run((context) => cancelTask(context, id, options.reason)))
  tasks
    .command('retry')
    .description('Starts over what did not succeed in an ended task, and follows it.')
    .argument('<id>')
    .option('--no-follow', 'do not wait for its end')
    .option('--logs', 'show the task log beside')
    .action((id: string, options: { follow: boolean; logs?: boolean }) => run((context) => retryTask(context, id, options)))
  tasks
    .command('events')
    .description('Prints the events of a task, oldest first.')
    .argument('<id>')
    .option('-f, --follow', 'go on until the task ends')
    .action((id: string, options: { follow?: boolean }) => run((context) => printEvents(context, id, options.follow === true)))
}

async function listTasks(context: Context, options: { limit: number; project?: string; deployment?: string; state?: string }): Promise<ExitCode> {
  const { items } = await context.client().call<Page<Task>>('GET', '/v1/tasks', { query: options })
  const now = Date.now()
  printResult(context, items, () =>
    items.length === 0
      ? ['no tasks']
      : buildTable(['ID', 'KIND', 'DEPLOYMENT', 'STATE', 'ACCEPTED', 'REASON'], items.map((task) => [task.id, task.kind, `${task.project}/${task.deployment}`, task.outcome ?? task.state, formatAge(task.createdAt, now), firstLine(task.reason)])),
  )
  return exitCodes.ok
}

async function showTask(context: Context, id: string, isByTime: boolean): Promise<ExitCode> {
  const task = await readTask(context.client(), id)
  const actions = await readActions(context.client(), task.id)
  printResult(context, { ...task, actions }, () => buildTaskLines(context, task, actions, isByTime))
  return exitCodes.ok
}

const tookMs = (action: Action, now: number): number => (action.sentAt === null ? 0 : (action.endedAt ?? now) - action.sentAt)

function buildTaskLines({ terminal }: Context, task: TaskDetail, actions: readonly Action[], isByTime: boolean): string[] {
  const now = Date.now()
  const lines = [
    terminal.style('bold', `${task.kind} ${task.project}/${task.deployment}  ${task.id}`),
    `  ${task.outcome ?? task.state}${task.reason ? `: ${firstLine(task.reason)}` : ''}`,
    `  accepted ${formatTime(task.createdAt)} (${formatAge(task.createdAt, now)}), ${task.state === 'ended' ? 'took' : 'so far'} ${formatDuration(task.timing.durationMs)}`,
    ...task.problems.map((problem) => `  ${formatProblem(problem)}`),
    '',
  ]
  const sorted = isByTime ? [...actions].sort((a, b) => tookMs(b, now) - tookMs(a, now)) : actions
  const rows = sorted.map((action) => {
    const result = { state: action.state, result: action.result ?? undefined }
    const reason = action.waitingFor?.reason ?? action.result?.failure?.message ?? action.reason
    return [`${action.component}/${action.name}`, action.node, describeState(result, task.kind), action.sentAt === null ? '' : formatDuration(tookMs(action, now)), action.attempt === 0 ? '' : String(action.attempt), firstLine(reason)]
  })
  lines.push(...buildTable(['ACTION', 'NODE', 'STATE', 'TOOK', 'ATTEMPT', 'REASON'], rows))
  if (isByTime) lines.push(...buildCommandTimes(actions))
  return lines
}

// The slowest commands over all actions: where the time of a task went.
function buildCommandTimes(actions: readonly Action[]): string[] {
  const commands = actions.flatMap((action) => (action.result?.commands ?? []).map((command) => ({ ...command, action })))
  const slowest = commands.sort((a, b) => b.durationMs - a.durationMs).slice(0, 15)
  const rows = slowest.map(({ action, name, kind, durationMs, changed }) => [formatDuration(durationMs), `${action.component}/${action.name}`, action.node, `${kind}: ${name}`, changed ? 'changed' : ''])
  return ['', ...buildTable(['TOOK', 'ACTION', 'NODE', 'COMMAND', ''], rows)]
}

async function follow(context: Context, task: Task, wantsLogs: boolean): Promise<ExitCode> {
  return printSummary(context, await followTask(context, task, { wantsLogs, skipHistory: false }))
}

async function cancelTask(context: Context, id: string, reason: string | undefined): Promise<ExitCode> {
  const task = await readTask(context.client(), id)
  const cancelled = await context.client().call<Task>('POST', `/v1/tasks/${encodeURIComponent(task.id)}/cancel`, { body: reason === undefined ? {} : { reason } })
  printResult(context, cancelled, () => [`task ${task.id} is asked to stop; its end: lichen tasks follow ${task.id}`])
  return exitCodes.ok
}

async function retryTask(context: Context, id: string, options: { follow: boolean; logs?: boolean }): Promise<ExitCode> {
  const before = await readTask(context.client(), id)
  const task = await context.client().call<Task>('POST', `/v1/tasks/${encodeURIComponent(before.id)}/retry`)
  if (!options.follow) {
    printResult(context, task, () => [`task ${task.id} runs again; follow it: lichen tasks follow ${task.id}`])
    return exitCodes.ok
  }
  return printSummary(context, await followTask(context, task, { wantsLogs: options.logs === true, skipHistory: true }))
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
