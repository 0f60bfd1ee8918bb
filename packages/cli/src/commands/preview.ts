import type { Command } from 'commander'
import type { Context } from '../context.js'
import { printResult } from '../context.js'
import { exitCodes, type ExitCode } from '../exit-codes.js'
import { CliFailure, type Problem } from '../failure.js'
import { countOf } from '../follow/words.js'
import { buildPreviewLines, type Preview } from '../text/preview.js'
import { readPlanFile } from './plan-file.js'

interface Options {
  readonly destroy?: boolean
  readonly all?: boolean
}

type Run = (action: (context: Context) => Promise<ExitCode>) => Promise<void>

/** Adds `preview` and `validate`: what a plan means, without a task. */
export function addPreviewCommands(program: Command, run: Run): void {
  program
    .command('preview')
    .summary('show what applying a plan would run, and where')
    .description('Shows the exact actions and commands that applying the plan would run, in which waves and after whose approval, and counts what is unchanged. `lichen apply FILE --preview DIGEST` runs exactly these.')
    .argument('<file>', 'deployment plan, YAML or JSON; - for stdin')
    .option('--destroy', 'what destroying would run')
    .option('--all', 'list what is unchanged too, and the checks that look after it')
    .action((file: string, options: Options) => run((context) => showPreview(context, file, options)))
  program
    .command('validate')
    .summary('report every problem of a plan; touch nothing')
    .description('Checks the plan against the catalog and the nodes and reports every problem with its path. Exit code 2 when there is one.')
    .argument('<file>', 'deployment plan, YAML or JSON; - for stdin')
    .action((file: string) => run((context) => validatePlan(context, file)))
}

async function showPreview(context: Context, file: string, options: Options): Promise<ExitCode> {
  const kind = options.destroy ? 'destroy' : 'apply'
  const plan = await readPlanFile(file, process.stdin)
  const preview = await context.client().call<Preview>('POST', '/v1/previews', { body: { kind, plan } })
  printResult(context, preview, () => buildPreviewLines(context.terminal.style, preview, { file, kind, listsAll: options.all === true }))
  return exitCodes.ok
}

async function validatePlan(context: Context, file: string): Promise<ExitCode> {
  const plan = await readPlanFile(file, process.stdin)
  const answer = await context.client().call<{ readonly problems?: readonly Problem[] }>('POST', '/v1/plans/check', { body: { plan } })
  const problems = answer.problems ?? []
  if (problems.length > 0) throw new CliFailure(exitCodes.rejected, `${file} has ${countOf(problems.length, 'problem')}`, { problems })
  printResult(context, { valid: true, problems: [] }, () => [`${file}: no problem found`])
  return exitCodes.ok
}
