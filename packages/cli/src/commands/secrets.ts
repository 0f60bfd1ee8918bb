/** The generated secrets of a deployment: list their names, or give them new values. */
import type { Command } from 'commander'
import { submitOnDeployment } from '../api/tasks.js'
import { printResult, type Context } from '../context.js'
import { exitCodes, type ExitCode } from '../exit-codes.js'
import { buildPreviewLines, type Preview } from '../text/preview.js'
import { buildTable } from '../text/table.js'
import { confirmOnTerminal } from './confirm.js'
import { addWhere, type Where } from './operations.js'
import { addExitOnWait } from './options.js'
import { followHelp, followSubmitted } from './run-plan.js'

interface Options extends Where {
  readonly preview?: boolean
  readonly yes?: boolean
  readonly follow: boolean
  readonly logs?: boolean
  readonly exitOnWait?: boolean
}

interface Secret {
  readonly name: string
  readonly version: number
  readonly canRotate: boolean
}

type Run = (action: (context: Context) => Promise<ExitCode>) => Promise<void>

/** Adds `secrets` and `rotate`. */
export function addSecretCommands(program: Command, run: Run): void {
  addWhere(program.command('secrets').summary('list the generated secrets of a deployment').description('Lists the generated secrets of a deployment and how often each was rotated. Values are never shown; `lichen output` has those that are meant for people.')).action((options: Where) =>
    run((context) => listSecrets(context, options)),
  )
  addExitOnWait(
    addWhere(
      program
        .command('rotate')
        .summary('give secrets of a deployment new values, and follow it')
        .description('Gives secrets of a deployment new values: the plan of its newest apply is applied again, and whatever names one of them runs. Services whose files change restart. Between the change of a password and the restart of who uses it, that service is refused for some seconds.')
        .argument('[secret...]', 'only these; without any: all that can be rotated (`lichen secrets` lists them)'),
    )
      .option('--preview', 'show what would run, and run nothing')
      .option('-y, --yes', 'do not ask')
      .option('--no-follow', 'print the task and end; do not wait for it')
      .option('--logs', 'show the task log beside'),
  )
    .addHelpText('after', followHelp)
    .action((secrets: readonly string[], options: Options) => run((context) => rotate(context, secrets, options)))
}

const pathOf = ({ project, deployment }: Where): string => `/v1/deployments/${encodeURIComponent(project)}/${encodeURIComponent(deployment)}/secrets`

async function listSecrets(context: Context, where: Where): Promise<ExitCode> {
  const { items } = await context.client().call<{ readonly items: readonly Secret[] }>('GET', pathOf(where))
  const describe = ({ name, version, canRotate }: Secret): readonly string[] => [name, String(version), canRotate ? 'yes' : 'no']
  printResult(context, items, () => (items.length === 0 ? [`${where.deployment} has no generated secrets`] : buildTable(['SECRET', 'VERSION', 'CAN ROTATE'], items.map(describe))))
  return exitCodes.ok
}

async function rotate(context: Context, secrets: readonly string[], options: Options): Promise<ExitCode> {
  const body = secrets.length === 0 ? {} : { secrets: [...new Set(secrets)] }
  if (options.preview) {
    const preview = await context.client().call<Preview>('POST', `${pathOf(options)}/rotate/preview`, { body })
    printResult(context, preview, () => buildPreviewLines(context.terminal.style, preview, { file: '', kind: 'rotation', listsAll: false }))
    return exitCodes.ok
  }
  const what = secrets.length === 0 ? 'all secrets' : secrets.join(', ')
  if (!options.yes) await confirmOnTerminal(context, `give ${what} of ${options.deployment} new values?`)
  return followSubmitted(context, 'rotation', await submitOnDeployment(context.client(), `${pathOf(options)}/rotate`, body), options)
}
