import type { Command } from 'commander'
import { submitTask, type Task, type TaskKind } from '../api/tasks.js'
import type { Context } from '../context.js'
import { exitCodes, type ExitCode } from '../exit-codes.js'
import { followTask, type Followed } from '../follow/follow-task.js'
import { countActions } from '../follow/progress.js'
import { printSummary } from '../follow/summary.js'
import { confirmOnTerminal } from './confirm.js'
import { addExitOnWait } from './options.js'
import { readPlanFile } from './plan-file.js'

interface Options {
  readonly follow: boolean
  readonly logs?: boolean
  readonly preview?: string
  readonly exitCode?: boolean
  readonly yes?: boolean
  readonly exitOnWait?: boolean
}

type PlanKind = Exclude<TaskKind, 'operation'>
type Run = (action: (context: Context) => Promise<ExitCode>) => Promise<void>

/** What following means, for the help of commands that do. */
export const followHelp = `
On a terminal a live view is shown, in a pipe one line for each change, with --json one object for each event.
Ctrl-C stops following; the task goes on (\`lichen tasks follow ID\` comes back, \`lichen cancel ID\` stops it).
Where it waits for a person (an approval, an unknown outcome, a pause), what to type is printed, and it is followed on; --exit-on-wait ends then.

Exit code: 0 succeeded, 1 failed, timed out or cancelled, 2 rejected, 3 no server, 4 bad token, 5 waits for a person (--exit-on-wait), 130 no longer followed.`

/** Adds `apply`, `check` and `destroy`: submit a plan as a task and follow it. */
export function addPlanCommands(program: Command, run: Run): void {
  const add = (kind: PlanKind, summary: string) =>
    addExitOnWait(program
      .command(kind)
      .summary(summary)
      .argument('<file>', 'deployment plan, YAML or JSON; - for stdin')
      .option('--no-follow', 'print the task and end; do not wait for it')
      .option('--logs', 'show the task log beside'))
      .addHelpText('after', followHelp)
  add('apply', 'make the nodes as the plan says, and follow it')
    .description('Makes the nodes as the plan says. What is there already is left alone, so applying twice changes nothing.')
    .option('--preview <digest>', 'only exactly what this preview showed; refused when something has moved since')
    .action((file: string, options: Options) => run((context) => runPlan(context, 'apply', file, options)))
  add('check', 'compare the nodes with the plan; change nothing')
    .description('Compares the nodes with the plan and shows every difference. Changes nothing.')
    .option('--exit-code', 'end with 1 when something differs')
    .action((file: string, options: Options) => run((context) => runPlan(context, 'check', file, options)))
  add('destroy', 'take what the plan made off the nodes')
    .description('Takes what the plan made off the nodes, in the reverse order. Data stays unless a parameter of the plan says otherwise.')
    .option('-y, --yes', 'do not ask')
    .action((file: string, options: Options) => run((context) => destroyPlan(context, file, options)))
}

async function runPlan(context: Context, kind: PlanKind, file: string, options: Options): Promise<ExitCode> {
  return submitAndFollow(context, kind, await readPlanFile(file, process.stdin), options)
}

async function destroyPlan(context: Context, file: string, options: Options): Promise<ExitCode> {
  const plan = await readPlanFile(file, process.stdin)
  if (!options.yes && file !== '-') await confirmOnTerminal(context, `Destroy what ${file} made?`)
  return submitAndFollow(context, 'destroy', plan, options)
}

async function submitAndFollow(context: Context, kind: PlanKind, plan: string, options: Options): Promise<ExitCode> {
  return followSubmitted(context, kind, await submitTask(context.client(), { kind, plan, previewDigest: options.preview }), options)
}

/** Says which task was made, and follows it where that is wanted. `what`: what the task does, in a word. */
export async function followSubmitted(context: Context, what: string, task: Task, options: Pick<Options, 'follow' | 'logs' | 'exitCode' | 'exitOnWait'>): Promise<ExitCode> {
  const { terminal } = context
  if (context.isJson) terminal.line(JSON.stringify(options.follow ? { type: 'task', task } : task))
  else terminal.line(`${what} ${task.deployment}: task ${task.id}`)
  if (!options.follow) {
    if (!context.isJson) terminal.note(`it goes on by itself; follow it: lichen tasks follow ${task.id}`)
    return exitCodes.ok
  }
  const followed = await followTask(context, task, { wantsLogs: options.logs === true, skipHistory: false, exitsOnWait: options.exitOnWait === true })
  const code = await printSummary(context, followed)
  return code === exitCodes.ok && options.exitCode && hasDifference(followed) ? exitCodes.taskFailed : code
}

const hasDifference = (followed: Followed): boolean => countActions(followed.progress).changed > 0
