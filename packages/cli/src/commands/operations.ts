/** Operations on a deployment: run one and follow it, or list those there are. */
import { InvalidArgumentError, type Command } from 'commander'
import { submitOnDeployment, type OperationBody } from '../api/tasks.js'
import { printResult, type Context } from '../context.js'
import { exitCodes, type ExitCode } from '../exit-codes.js'
import { buildPreviewLines, type Preview } from '../text/preview.js'
import { buildTable } from '../text/table.js'
import { addExitOnWait, collect, parseValue } from './options.js'
import { followHelp, followSubmitted } from './run-plan.js'

/** What `addWhere` reads. */
export interface Where {
  readonly deployment: string
  readonly project: string
}

interface Options extends Where {
  readonly component?: readonly string[]
  readonly node?: readonly string[]
  readonly set?: Readonly<Record<string, unknown>>
  readonly preview?: boolean
  readonly follow: boolean
  readonly logs?: boolean
  readonly exitOnWait?: boolean
}

interface Operation {
  readonly name: string
  readonly component: string
  readonly summary: string
  readonly parameters: { readonly properties?: Readonly<Record<string, { readonly default?: unknown }>>; readonly required?: readonly string[] }
}

type Run = (action: (context: Context) => Promise<ExitCode>) => Promise<void>

/** Adds the options that say which deployment is meant. */
export const addWhere = (command: Command): Command =>
  command.requiredOption('--deployment <name>', 'name of the deployment: `metadata.name` of its plan').option('--project <name>', 'its project', 'default')

/** Adds `run` and `operations`. */
export function addOperationCommands(program: Command, run: Run): void {
  addExitOnWait(
    addWhere(
      program
        .command('run')
        .summary('run an operation on a deployment, and follow it')
        .description('Runs an operation that the blueprints of a deployment declare, with the plan and on the nodes of its newest apply. `lichen operations` lists them.')
        .argument('<operation>'),
    )
      .option('-c, --component <name>', 'only this component; more than once for more', collect)
      .option('-n, --node <id>', 'only this node; more than once for more', collect)
      .option('--set <key=value>', 'a parameter of the operation; the value is YAML', collectValue)
      .option('--preview', 'show what would run, and run nothing')
      .option('--no-follow', 'print the task and end; do not wait for it')
      .option('--logs', 'show the task log beside'),
  )
    .addHelpText('after', followHelp)
    .action((operation: string, options: Options) => run((context) => runOperation(context, operation, options)))
  addWhere(program.command('operations').summary('list the operations of a deployment').description('Lists what can be done with a deployment: operations, the components that have them, and their parameters.')).action((options: Where) =>
    run((context) => listOperations(context, options)),
  )
}

function collectValue(text: string, values: Readonly<Record<string, unknown>> = {}): Readonly<Record<string, unknown>> {
  const [, name, value] = /^([^=]+)=(.*)$/s.exec(text) ?? []
  if (name === undefined || value === undefined) throw new InvalidArgumentError('key=value is expected.')
  return { ...values, [name]: parseValue(value) }
}

const pathOf = ({ project, deployment }: Where): string => `/v1/deployments/${encodeURIComponent(project)}/${encodeURIComponent(deployment)}/operations`

async function runOperation(context: Context, operation: string, options: Options): Promise<ExitCode> {
  const { component, node, set } = options
  const body: OperationBody = { operation, ...(component && { components: component }), ...(node && { nodes: node }), ...(set && { parameters: set }) }
  if (options.preview) {
    const preview = await context.client().call<Preview>('POST', `${pathOf(options)}/preview`, { body })
    printResult(context, preview, () => buildPreviewLines(context.terminal.style, preview, { file: '', kind: operation, listsAll: false }))
    return exitCodes.ok
  }
  return followSubmitted(context, operation, await submitOnDeployment(context.client(), pathOf(options), body), options)
}

async function listOperations(context: Context, where: Where): Promise<ExitCode> {
  const { items } = await context.client().call<{ readonly items: readonly Operation[] }>('GET', pathOf(where))
  printResult(context, items, () => (items.length === 0 ? [`no component of ${where.deployment} has operations`] : buildTable(['OPERATION', 'COMPONENT', 'PARAMETERS', 'SUMMARY'], items.map((each) => [each.name, each.component, describeParameters(each), each.summary]))))
  return exitCodes.ok
}

const describeParameters = ({ parameters: { properties = {}, required = [] } }: Operation): string =>
  Object.entries(properties).map(([name, schema]) => (schema.default === undefined ? (required.includes(name) ? `${name} (needed)` : name) : `${name}=${JSON.stringify(schema.default)}`)).join(' ')
