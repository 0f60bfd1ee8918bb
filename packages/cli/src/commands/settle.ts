import { Option, type Command } from 'commander'
import { readTask, type TaskDetail } from '../api/tasks.js'
import type { Context } from '../context.js'
import type { ExitCode } from '../exit-codes.js'
import { usageFailure } from '../failure.js'
import { buildNeedLines, listNeeds } from '../follow/needs.js'
import { addFollowAfter, type FollowAfter } from './options.js'
import { printRequested, sendTaskRequest } from './task-request.js'

const answers = { succeeded: 'succeeded', failed: 'failed', 'run-again': 'runAgain' } as const

interface Options extends FollowAfter {
  readonly as?: keyof typeof answers
  readonly reason?: string
}

/** Adds `settle`: says what became of an action whose outcome is unknown. */
export function addSettleCommand(parent: Command, run: (action: (context: Context) => Promise<ExitCode>) => Promise<void>): void {
  addFollowAfter(
    parent
      .command('settle')
      .summary('say what became of an action whose outcome is unknown')
      .description('An action that was interrupted and cannot be checked is unknown: only a person can say whether its effect is there, and what comes after it waits for the answer. ID may be `latest`; without ACTION the unknown ones are listed.')
      .argument('<id>')
      .argument('[action]', 'e.g. keystone/migrate@node-2')
      .addOption(new Option('--as <answer>', 'succeeded: its effect is there, go on; failed: it is not, skip what comes after; run-again: it may run once more').choices(Object.keys(answers)))
      .option('--reason <text>', 'how you know, kept with the task; needed')
      .addHelpText('after', "\nExample:\n  lichen settle latest keystone/migrate@node-2 --as succeeded --reason 'the schema version is 42'"),
  ).action((id: string, action: string | undefined, options: Options) => run((context) => settle(context, id, action, options)))
}

async function settle(context: Context, id: string, action: string | undefined, options: Options): Promise<ExitCode> {
  const task = await readTask(context.client(), id)
  if (action === undefined) throw explainMissingAction(task)
  const { as, reason } = options
  if (as === undefined) throw usageFailure(`what became of ${action}? --as succeeded, --as failed, or --as run-again`)
  if (!reason?.trim()) throw usageFailure('how do you know? --reason TEXT is kept with the task, for whoever looks later')
  const answer = await sendTaskRequest(context, task.id, 'settle', { action, answer: answers[as], reason })
  return printRequested(context, answer, () => [as === 'run-again' ? `${action} runs again` : `${action} is settled as ${as}`], options)
}

function explainMissingAction(task: TaskDetail): Error {
  const needs = listNeeds(task).filter((need) => need.kind === 'settle')
  if (needs.length === 0) return usageFailure(`task ${task.id} has no action whose outcome is unknown; nothing to settle`)
  return usageFailure(`name the action:\n${buildNeedLines(needs).map((line) => `  ${line}`).join('\n')}`)
}
