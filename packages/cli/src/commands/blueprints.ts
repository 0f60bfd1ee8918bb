import type { Command } from 'commander'
import { stringify } from 'yaml'
import { readPages } from '../api/tasks.js'
import { printResult, type Context } from '../context.js'
import { exitCodes, type ExitCode } from '../exit-codes.js'
import { buildTable } from '../text/table.js'

interface Blueprint {
  readonly name: string
  readonly version: string
  readonly summary: string
}

type Run = (action: (context: Context) => Promise<ExitCode>) => Promise<void>

/** Adds `blueprints`: what plans can be made of. */
export function addBlueprintCommands(program: Command, run: Run): void {
  const blueprints = program.command('blueprints').summary('list and show blueprints').description('Blueprints: what the components of a plan are made from.')
  blueprints
    .command('ls', { isDefault: true })
    .description('Lists the blueprints of the server’s catalog.')
    .action(() => run((context) => listBlueprints(context)))
  blueprints
    .command('show')
    .description('Shows a blueprint: parameters, what it requires and provides.')
    .argument('<name>')
    .action((name: string) => run((context) => showBlueprint(context, name)))
}

async function listBlueprints(context: Context): Promise<ExitCode> {
  const blueprints: Blueprint[] = []
  for await (const blueprint of readPages<Blueprint>(context.client(), '/v1/blueprints')) blueprints.push(blueprint)
  printResult(context, blueprints, () => buildTable(['NAME', 'VERSION', 'SUMMARY'], blueprints.map(({ name, version, summary }) => [name, version, summary])))
  return exitCodes.ok
}

async function showBlueprint(context: Context, name: string): Promise<ExitCode> {
  const blueprint = await context.client().call<Blueprint>('GET', `/v1/blueprints/${encodeURIComponent(name)}`)
  printResult(context, blueprint, () => stringify(blueprint, { lineWidth: 0 }).trimEnd().split('\n'))
  return exitCodes.ok
}
