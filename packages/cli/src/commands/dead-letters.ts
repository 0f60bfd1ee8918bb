import type { Command } from 'commander'
import type { Client } from '../api/client.js'
import type { Page } from '../api/tasks.js'
import { printResult, type Context } from '../context.js'
import { exitCodes, type ExitCode } from '../exit-codes.js'
import { CliFailure, usageFailure } from '../failure.js'
import { sanitizeLine } from '../terminal.js'
import { formatAge, formatTime } from '../text/duration.js'
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
  const letters = program.command('dead-letters').summary('list, show and replay messages that could not be read').description('Dead letters: messages of the queue that could not be read, kept with the reason. No task is lost with one: tasks stand in the store.')
  letters
    .command('ls', { isDefault: true })
    .description('Lists dead letters, oldest first.')
    .option('-n, --limit <count>', 'how many', parseCount, 50)
    .action((options: { limit: number }) => run((context) => listDeadLetters(context, options.limit)))
  letters
    .command('show')
    .description('Shows a dead letter with its reason and the whole message.')
    .argument('<id>')
    .action((id: string) => run((context) => showDeadLetter(context, id)))
  letters
    .command('replay')
    .description('Puts a dead letter back on its queue, or all of them. One that is still wrong comes back.')
    .argument('[id]')
    .option('--all', 'all dead letters that are there now')
    .action((id: string | undefined, options: { all?: boolean }) =>
      run((context) => {
        if ((id === undefined) !== (options.all === true)) throw usageFailure('the id of one dead letter is expected, or --all', 'lichen dead-letters')
        return id === undefined ? replayAll(context) : replayDeadLetter(context, id)
      }),
    )
}

const letterPath = (id: string): string => `/v1/dead-letters/${encodeURIComponent(id)}`
const readLetters = async (client: Client, limit: number): Promise<readonly DeadLetter[]> => (await client.call<Page<DeadLetter>>('GET', '/v1/dead-letters', { query: { limit } })).items

async function listDeadLetters(context: Context, limit: number): Promise<ExitCode> {
  const items = await readLetters(context.client(), limit)
  const now = Date.now()
  printResult(context, items, () => (items.length === 0 ? ['no dead letters'] : buildTable(['ID', 'QUEUE', 'DIED', 'REASON', 'BODY'], items.map((letter) => [sanitizeLine(letter.id), letter.queue, formatAge(letter.diedAt, now), sanitizeLine(letter.reason), sanitizeLine(letter.body).slice(0, 80)]))))
  return exitCodes.ok
}

async function showDeadLetter(context: Context, id: string): Promise<ExitCode> {
  const letter = await context.client().call<DeadLetter>('GET', letterPath(id))
  printResult(context, letter, () => [
    context.terminal.style('bold', sanitizeLine(letter.id)),
    `  queue     ${letter.queue}`,
    `  died      ${formatAge(letter.diedAt, Date.now())} (${formatTime(letter.diedAt)})`,
    `  reason    ${sanitizeLine(letter.reason)}`,
    '  body',
    ...letter.body.split('\n').map((line) => `    ${sanitizeLine(line)}`.trimEnd()),
  ])
  return exitCodes.ok
}

async function replayDeadLetter(context: Context, id: string): Promise<ExitCode> {
  await context.client().call('POST', `${letterPath(id)}/replay`)
  printResult(context, { id, replayed: true }, () => [`${id} is back on its queue`])
  return exitCodes.ok
}

// As many as the server gives at once.
const pageSize = 1000

async function replayAll(context: Context): Promise<ExitCode> {
  const client = context.client()
  const seen = new Set<string>()
  const replayed: string[] = []
  for (;;) {
    // A letter that is still wrong is there again with the same id, behind those that were not tried: each is tried once.
    const fresh = (await readLetters(client, pageSize)).filter(({ id }) => !seen.has(id))
    if (fresh.length === 0) break
    for (const { id } of fresh) {
      seen.add(id)
      if (await replayIfThere(client, id)) replayed.push(id)
    }
  }
  printResult(context, { replayed }, () => [replayed.length === 0 ? 'no dead letters' : `back on their queue: ${replayed.length}`])
  return exitCodes.ok
}

/** False when somebody else has replayed it meanwhile. */
async function replayIfThere(client: Client, id: string): Promise<boolean> {
  try {
    await client.call('POST', `${letterPath(id)}/replay`)
    return true
  } catch (error) {
    if (error instanceof CliFailure && error.code === 'REQUEST_NOT_FOUND') return false
    throw error
  }
}
