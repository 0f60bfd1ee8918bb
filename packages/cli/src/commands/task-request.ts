/** What can be asked of a task that runs: pause, resume, cancel. Each command stands beside the others and below `tasks`. */
import type { Command } from 'commander'
import { readTask, type Task } from '../api/tasks.js'
import { printResult, type Context } from '../context.js'
import { exitCodes, type ExitCode } from '../exit-codes.js'
import { followTask } from '../follow/follow-task.js'
import { printSummary } from '../follow/summary.js'
import { addFollowAfter, type FollowAfter } from './options.js'

type Run = (action: (context: Context) => Promise<ExitCode>) => Promise<void>

/** Adds `pause`, `resume` and `cancel`. */
export function addTaskRequestCommands(parent: Command, run: Run): void {
  parent
    .command('pause')
    .summary('begin nothing new of a task; what runs goes on')
    .description('Pauses a task: nothing new is begun until it is resumed, what runs on nodes goes on to its end. ID may be `latest`.')
    .argument('<id>')
    .option('--reason <text>', 'kept with the task')
    .addHelpText('after', "\nExample:\n  lichen pause latest --reason 'the switch in rack 4 is being replaced'")
    .action((id: string, options: { reason?: string }) => run((context) => request(context, id, 'pause', reasonOf(options), (task) => [`task ${task.id} is paused; on with it: lichen resume ${task.id}`])))
  addFollowAfter(
    parent
      .command('resume')
      .summary('go on with a paused task')
      .description('Goes on with a paused task where it was. ID may be `latest`.')
      .argument('<id>')
      .addHelpText('after', '\nExample:\n  lichen resume latest --follow'),
  ).action((id: string, options: FollowAfter) => run((context) => request(context, id, 'resume', {}, (task) => [`task ${task.id} goes on`], options)))
  parent
    .command('cancel')
    .summary('stop a task')
    .description('Asks the task to stop: running commands are ended on their nodes, nothing new is started. ID may be `latest`.')
    .argument('<id>')
    .option('--reason <text>', 'kept with the task')
    .addHelpText('after', "\nExample:\n  lichen cancel latest --reason 'wrong version'")
    .action((id: string, options: { reason?: string }) => run((context) => request(context, id, 'cancel', reasonOf(options), (task) => [`task ${task.id} is asked to stop; its end: lichen tasks follow ${task.id}`])))
}

const reasonOf = ({ reason }: { readonly reason?: string }): object => (reason === undefined ? {} : { reason })

async function request(context: Context, id: string, verb: string, body: object, words: (task: Task) => readonly string[], after: FollowAfter = {}): Promise<ExitCode> {
  const { id: task } = await readTask(context.client(), id)
  return printRequested(context, await sendTaskRequest(context, task, verb, body), words, after)
}

/** The row of the task (no `latest`) after this was asked of it: `verb` is the last part of the path. */
export const sendTaskRequest = (context: Context, id: string, verb: string, body: object): Promise<Task> => context.client().call<Task>('POST', `/v1/tasks/${encodeURIComponent(id)}/${verb}`, { body })

/** Prints what was asked, and follows the task where that was asked for too. */
export async function printRequested(context: Context, task: Task, words: (task: Task) => readonly string[], { follow, exitOnWait }: FollowAfter): Promise<ExitCode> {
  if (!follow && !exitOnWait) {
    printResult(context, task, () => words(task))
    return exitCodes.ok
  }
  if (context.isJson) context.terminal.line(JSON.stringify({ type: 'task', task }))
  else for (const line of words(task)) context.terminal.line(line)
  return printSummary(context, await followTask(context, task, { wantsLogs: false, skipHistory: true, exitsOnWait: exitOnWait === true }))
}
