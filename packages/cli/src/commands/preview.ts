import type { Command } from 'commander'
import type { Context } from '../context.js'
import { printResult } from '../context.js'
import { exitCodes, type ExitCode } from '../exit-codes.js'
import { CliFailure, type Problem } from '../failure.js'
import { countOf } from '../follow/words.js'
import { firstLine } from '../terminal.js'
import { readPlanFile } from './plan-file.js'

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
}

interface Preview {
  readonly digest: string
  readonly deployment: string
  /** Each after those it depends on. */
  readonly actions: readonly PreviewAction[]
}

type Run = (action: (context: Context) => Promise<ExitCode>) => Promise<void>

/** Adds `preview` and `validate`: what a plan means, without a task. */
export function addPreviewCommands(program: Command, run: Run): void {
  program
    .command('preview')
    .summary('show what applying a plan would run, and where')
    .description('Shows the exact actions and commands that applying the plan would run. `lichen apply FILE --preview DIGEST` runs exactly these.')
    .argument('<file>', 'deployment plan, YAML or JSON; - for stdin')
    .option('--destroy', 'what destroying would run')
    .action((file: string, options: { destroy?: boolean }) => run((context) => showPreview(context, file, options.destroy ? 'destroy' : 'apply')))
  program
    .command('validate')
    .summary('report every problem of a plan; touch nothing')
    .description('Checks the plan against the catalog and the nodes and reports every problem with its path. Exit code 2 when there is one.')
    .argument('<file>', 'deployment plan, YAML or JSON; - for stdin')
    .action((file: string) => run((context) => validatePlan(context, file)))
}

async function showPreview(context: Context, file: string, kind: 'apply' | 'destroy'): Promise<ExitCode> {
  const plan = await readPlanFile(file, process.stdin)
  const preview = await context.client().call<Preview>('POST', '/v1/previews', { body: { kind, plan } })
  printResult(context, preview, () => buildPreviewLines(context, preview, file, kind))
  return exitCodes.ok
}

function buildPreviewLines({ terminal }: Context, { digest, deployment, actions }: Preview, file: string, kind: 'apply' | 'destroy'): string[] {
  const lines = [terminal.style('bold', `${kind} ${deployment}: ${countOf(actions.length, 'action')}, in this order where one needs another`)]
  for (const action of actions) {
    lines.push('', `${terminal.style('cyan', `${action.component}/${action.name}`)} on ${action.node}`)
    if (action.after.length > 0) lines.push(terminal.style('dim', `  after ${action.after.join(', ')}`))
    lines.push(...action.commands.map((command) => `  ${command.kind.padEnd(9)} ${command.name}${terminal.style('dim', describeSubject(command))}`))
  }
  lines.push('', `digest ${digest}`)
  if (kind === 'apply') lines.push(`Run exactly this: lichen apply ${file} --preview ${digest}`)
  return lines
}

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

async function validatePlan(context: Context, file: string): Promise<ExitCode> {
  const plan = await readPlanFile(file, process.stdin)
  const answer = await context.client().call<{ readonly problems?: readonly Problem[] }>('POST', '/v1/plans/check', { body: { plan } })
  const problems = answer.problems ?? []
  if (problems.length > 0) throw new CliFailure(exitCodes.rejected, `${file} has ${countOf(problems.length, 'problem')}`, { problems })
  printResult(context, { valid: true, problems: [] }, () => [`${file}: no problem found`])
  return exitCodes.ok
}
