import type { Command } from 'commander'
import { readPages } from '../api/tasks.js'
import { printResult, type Context } from '../context.js'
import { exitCodes, type ExitCode } from '../exit-codes.js'
import { formatAge } from '../text/duration.js'
import { buildTable } from '../text/table.js'

interface Engine {
  readonly name: string
  readonly isAlive: boolean
  readonly gateway: string
  /** How many nodes have their stream there. */
  readonly nodes: number
  readonly startedAt: number
  readonly until: number
}

/** Adds `engines`: the processes that drive tasks. */
export function addEngineCommand(program: Command, run: (action: (context: Context) => Promise<ExitCode>) => Promise<void>): void {
  program
    .command('engines')
    .summary('list the processes that drive tasks')
    .description('Lists engines: the processes that drive tasks and hold the streams of nodes. Those that are gone are listed for a day.')
    .addHelpText('after', '\nExample:\n  lichen engines')
    .action(() => run((context) => listEngines(context)))
}

async function listEngines(context: Context): Promise<ExitCode> {
  const engines: Engine[] = []
  for await (const engine of readPages<Engine>(context.client(), '/v1/engines')) engines.push(engine)
  const now = Date.now()
  const rows = () => engines.map(({ name, isAlive, gateway, nodes, startedAt, until }) => [name, isAlive ? 'alive' : `gone since ${formatAge(until, now)}`, gateway, String(nodes), formatAge(startedAt, now)])
  printResult(context, engines, () => (engines.length === 0 ? ['no engine has registered'] : buildTable(['NAME', 'STATE', 'GATEWAY', 'NODES', 'STARTED'], rows())))
  return exitCodes.ok
}
