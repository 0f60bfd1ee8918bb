import type { Command } from 'commander'
import type { Page } from '../api/tasks.js'
import { printResult, type Context } from '../context.js'
import { exitCodes, type ExitCode } from '../exit-codes.js'
import { sanitizeLine } from '../terminal.js'
import { formatAge } from '../text/duration.js'
import { buildTable } from '../text/table.js'
import { parseCount } from './options.js'

interface DeadLetter {
  readonly id: string
  readonly queue: string
  readonly body: string
  readonly reason: string
  readonly diedAt: number
}

type Run = (action: (context: Context) => Promise<ExitCode>) => Promise<void>

/** Adds `dead-letters`: messages that could not be read, and a way to try them again. */
export function addDeadLetterCommands(program: Command, run: Run): void {
  const letters = program.command('dead-letters').summary('list and replay messages that could not be read').description('Dead letters: messages of the queue that could not be read, kept with the reason. No task is lost with one: tasks stand in the store.')
  letters
    .command('ls', { isDefault: true })
    .description('Lists dead letters, oldest first.')
    .option('-n, --limit <count>', 'how many', parseCount, 50)
    .action((options: { limit: number }) => run((context) => listDeadLetters(context, options.limit)))
  letters
    .command('replay')
    .description('Puts a dead letter back on its queue.')
    .argument('<id>')
    .action((id: string) => run((context) => replayDeadLetter(context, id)))
}

async function listDeadLetters(context: Context, limit: number): Promise<ExitCode> {
  const { items } = await context.client().call<Page<DeadLetter>>('GET', '/v1/dead-letters', { query: { limit } })
  const now = Date.now()
  printResult(context, items, () => (items.length === 0 ? ['no dead letters'] : buildTable(['ID', 'QUEUE', 'DIED', 'REASON', 'BODY'], items.map((letter) => [letter.id, letter.queue, formatAge(letter.diedAt, now), sanitizeLine(letter.reason), sanitizeLine(letter.body).slice(0, 80)]))))
  return exitCodes.ok
}

async function replayDeadLetter(context: Context, id: string): Promise<ExitCode> {
  await context.client().call('POST', `/v1/dead-letters/${encodeURIComponent(id)}/replay`)
  printResult(context, { id, replayed: true }, () => [`${id} is back on its queue`])
  return exitCodes.ok
}
