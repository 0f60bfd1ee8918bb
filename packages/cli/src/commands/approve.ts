import type { Command } from 'commander'
import { readTask, type Gate, type TaskDetail } from '../api/tasks.js'
import type { Context } from '../context.js'
import type { ExitCode } from '../exit-codes.js'
import { usageFailure } from '../failure.js'
import { confirmOnTerminal } from './confirm.js'
import { addFollowAfter, type FollowAfter } from './options.js'
import { printRequested, sendTaskRequest } from './task-request.js'

interface Options extends FollowAfter {
  readonly reason?: string
  readonly yes?: boolean
}

/** Adds `approve`: opens a gate that waits for a person. */
export function addApproveCommand(parent: Command, run: (action: (context: Context) => Promise<ExitCode>) => Promise<void>): void {
  addFollowAfter(
    parent
      .command('approve')
      .summary('let a task begin what waits for approval')
      .description('Opens a gate of a task that waits for a person: a component or a wave with `approve: true` in the plan. Shows what it approves, and asks on a terminal. ID may be `latest`.')
      .argument('<id>')
      .argument('[gate]', 'may be left out when only one waits')
      .option('--reason <text>', 'kept with the task')
      .option('-y, --yes', 'do not ask')
      .addHelpText('after', "\nExample:\n  lichen approve latest --reason 'the canary looks good' --follow"),
  ).action((id: string, gate: string | undefined, options: Options) => run((context) => approve(context, id, gate, options)))
}

async function approve(context: Context, id: string, name: string | undefined, options: Options): Promise<ExitCode> {
  const task = await readTask(context.client(), id)
  const gate = chooseGate(task, name)
  const what = gate === undefined ? (name ?? 'what waits') : gate.meaning
  // Of what does not wait the server says why; there is nothing to confirm.
  if (gate?.state === 'waiting' && !options.yes) await confirmOnTerminal(context, `Approve ${what}, in ${task.kind} ${task.deployment}?`)
  const answer = await sendTaskRequest(context, task.id, 'approve', { ...(gate === undefined ? {} : { gate: gate.id }), ...(gate === undefined && name !== undefined ? { gate: name } : {}), ...(options.reason === undefined ? {} : { reason: options.reason }) })
  return printRequested(context, answer, () => [`approved: ${what}`], options)
}

/** The gate of this name, or the only one that waits; undefined when there is none to be found here. */
function chooseGate(task: TaskDetail, name: string | undefined): Gate | undefined {
  if (name !== undefined) return task.gates.find((gate) => gate.id === name)
  const waiting = task.gates.filter((gate) => gate.state === 'waiting')
  if (waiting.length < 2) return waiting[0]
  throw usageFailure(`${waiting.length} gates of task ${task.id} wait for approval; name one:\n${waiting.map(({ id, meaning }) => `  lichen approve ${task.id} ${id}    (${meaning})`).join('\n')}`)
}
