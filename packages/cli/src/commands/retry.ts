import type { Command } from 'commander'
import { readTask } from '../api/tasks.js'
import type { Context } from '../context.js'
import { printResult } from '../context.js'
import { exitCodes, type ExitCode } from '../exit-codes.js'
import { followTask } from '../follow/follow-task.js'
import { printSummary } from '../follow/summary.js'
import { addExitOnWait, collect, collectParameter, type Parameters } from './options.js'
import { sendTaskRequest } from './task-request.js'

interface Options {
  readonly node?: readonly string[]
  readonly set?: Parameters
  readonly follow: boolean
  readonly logs?: boolean
  readonly exitOnWait?: boolean
}

const examples = `
Actions that succeeded stay as they are. With --set the plan of the task changes for good; that is refused when it would change what has succeeded already, or
which actions there are: then apply the changed plan anew, which leaves alone what it does not change.

Examples:
  lichen retry latest
  lichen retry latest --node node-7 --node node-9
  lichen retry latest --set keystone.workers=4 --set haproxy.listen="'8443'"    (quotes within quotes: the text, not the number)`

/** Adds `retry`: starts over what did not succeed in an ended task. */
export function addRetryCommand(parent: Command, run: (action: (context: Context) => Promise<ExitCode>) => Promise<void>): void {
  addExitOnWait(
    parent
      .command('retry')
      .summary('start over what did not succeed in an ended task')
      .description('Starts over what did not succeed in an ended task, on all nodes or on some, with the same or with new parameters, and follows it. ID may be `latest`.')
      .argument('<id>')
      .option('--node <id>', 'only actions on this node; may be repeated', collect)
      .option('--set <component.parameter=value>', 'new parameter, the value as YAML; `null` takes it away; may be repeated', collectParameter)
      .option('--no-follow', 'do not wait for its end')
      .option('--logs', 'show the task log beside')
      .addHelpText('after', examples),
  ).action((id: string, options: Options) => run((context) => retry(context, id, options)))
}

async function retry(context: Context, id: string, options: Options): Promise<ExitCode> {
  const before = await readTask(context.client(), id)
  const task = await sendTaskRequest(context, before.id, 'retry', { ...(options.node && { nodes: [...new Set(options.node)] }), ...(options.set && { parameters: options.set }) })
  if (!options.follow) {
    printResult(context, task, () => [`task ${task.id} runs again; follow it: lichen tasks follow ${task.id}`])
    return exitCodes.ok
  }
  return printSummary(context, await followTask(context, task, { wantsLogs: options.logs === true, skipHistory: true, exitsOnWait: options.exitOnWait === true }))
}
