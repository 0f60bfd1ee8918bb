import type { Command } from 'commander'
import { findDeployment, readOutput, readOutputs, type Deployment, type ListedOutput } from '../api/outputs.js'
import { printResult, type Context } from '../context.js'
import { exitCodes, type ExitCode } from '../exit-codes.js'
import { CliFailure, usageFailure } from '../failure.js'
import { sanitizeLine } from '../terminal.js'
import { buildTable } from '../text/table.js'

interface Options {
  readonly project?: string
  readonly deployment?: string
  readonly component?: string
}

/** Longest value in the table: a URL fits, a file does not and is one command away. */
const maxCell = 100

/** Adds `output`: what a deployment gives to its users. */
export function addOutputCommand(program: Command, run: (action: (context: Context) => Promise<ExitCode>) => Promise<void>): void {
  program
    .command('output')
    .summary('print what a deployment gives: a kubeconfig, an endpoint, a password')
    .description('Lists what a deployment gives to its users, or prints one value, bare, so that it can go into a file or a variable. Secret values are printed to who names them.')
    .argument('[name]', 'prints this one alone')
    .option('--deployment <name>', 'of this deployment, or `latest`; needed when there are several')
    .option('--project <name>', 'of this project')
    .option('--component <name>', 'of this component')
    .addHelpText('after', '\nExamples:\n  lichen output --deployment demo\n  lichen output kubeconfig --deployment demo > kubeconfig')
    .action((name: string | undefined, options: Options) => run((context) => (name === undefined ? listOutputs(context, options) : printOutput(context, name, options))))
}

async function listOutputs(context: Context, options: Options): Promise<ExitCode> {
  const client = context.client()
  const deployment = await findDeployment(client, options)
  const outputs = (await readOutputs(client, deployment)).filter(({ component }) => options.component === undefined || component === options.component)
  printResult(context, outputs, () => (outputs.length === 0 ? [`${describe(deployment)}${options.component === undefined ? '' : `, component ${options.component},`} gives nothing`] : buildTable(['COMPONENT', 'NAME', 'VALUE', 'DESCRIPTION'], outputs.map(toRow))))
  return exitCodes.ok
}

const toRow = (output: ListedOutput): string[] => [output.component, output.name, describeValue(output), sanitizeLine(output.description)]

function describeValue({ isReady, isSecret, value }: ListedOutput): string {
  if (!isReady) return '(not there yet)'
  if (isSecret) return '(secret)'
  const text = sanitizeLine(formatValue(value).trimEnd().replaceAll('\n', ' '))
  return text.length > maxCell ? `${text.slice(0, maxCell - 1)}…` : text
}

async function printOutput(context: Context, name: string, options: Options): Promise<ExitCode> {
  const client = context.client()
  const deployment = await findDeployment(client, options)
  const component = options.component ?? chooseComponent(await readOutputs(client, deployment), name, deployment)
  const output = await readOutput(client, deployment, { component, name })
  const text = formatValue(output.value)
  if (context.isJson) context.terminal.line(JSON.stringify(output))
  // What is a file with a last newline stays that file; everything else gets one.
  else context.terminal.write(text.endsWith('\n') ? text : `${text}\n`)
  await context.terminal.drained()
  return exitCodes.ok
}

function chooseComponent(outputs: readonly ListedOutput[], name: string, deployment: Deployment): string {
  const named = outputs.filter((output) => output.name === name)
  const [only, ...more] = named
  if (only !== undefined && more.length === 0) return only.component
  if (only !== undefined) throw usageFailure(`several components have an output "${name}": ${named.map(({ component }) => component).join(', ')}; say which: --component NAME`)
  const known = outputs.map((output) => `${output.component}/${output.name}`)
  throw new CliFailure(exitCodes.rejected, `${describe(deployment)} has no output "${name}"; ${known.length === 0 ? 'it has none' : `it has ${known.join(', ')}`}`, { code: 'OUTPUT_UNKNOWN' })
}

const describe = ({ project, deployment }: Deployment): string => `deployment "${deployment}"${project === 'default' ? '' : ` in project "${project}"`}`

/** A text as it is, each entry of a list on a line of its own, anything else as JSON. */
const formatValue = (value: unknown): string => (Array.isArray(value) ? value.map(formatEntry).join('\n') : formatEntry(value))
const formatEntry = (value: unknown): string => (typeof value === 'string' ? value : JSON.stringify(value))
