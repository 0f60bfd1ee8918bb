import { Option, type Command } from 'commander'
import { readLog, type LogRecord } from '../api/logs.js'
import { readTask } from '../api/tasks.js'
import type { Context } from '../context.js'
import { exitCodes, type ExitCode } from '../exit-codes.js'
import { runInterruptible } from '../interrupt.js'
import { sanitizeLine, type Terminal } from '../terminal.js'
import { parseCount, parseOffset } from './options.js'

interface Options {
  readonly follow?: boolean
  readonly node?: string
  readonly action?: string
  readonly offset: number
  readonly raw?: boolean
  readonly tail?: number
}

/** Adds `logs`: the task log from an offset, once, across lost connections. */
export function addLogCommand(program: Command, run: (action: (context: Context) => Promise<ExitCode>) => Promise<void>): void {
  program
    .command('logs')
    .summary('print the log of a task; -f goes on')
    .description('Prints what the commands of a task printed. ID may be `latest`. Reading again from a given offset misses nothing and repeats nothing.')
    .argument('[id]', 'task', 'latest')
    .option('-f, --follow', 'go on until the task ends')
    .option('--node <id>', 'of this node only')
    .option('--action <id>', 'of this action only, e.g. keystone/install@node-2')
    .option('--offset <bytes>', 'begin here; --json shows the offset behind each line', parseOffset, 0)
    .addOption(new Option('-n, --tail <lines>', 'begin with the last so many lines').argParser(parseCount).conflicts('offset'))
    .option('--raw', 'the lines alone, byte for byte, without time and origin')
    .action((id: string, options: Options) => run((context) => printLog(context, id, options)))
}

async function printLog(context: Context, id: string, options: Options): Promise<ExitCode> {
  const task = await readTask(context.client(), id)
  const { terminal } = context
  let offset = options.offset
  const print = async (signal: AbortSignal) => {
    const records = readLog(context.client(), task.id, {
      offset,
      tail: options.tail,
      isFollowed: options.follow === true,
      node: options.node,
      action: options.action,
      signal,
      onConnection: (state, failure) => terminal.note(state === 'lost' ? `connection lost (${failure?.message ?? ''}); trying again` : 'connected again'),
    })
    for await (const record of records) {
      offset = record.offset
      terminal.line(context.isJson ? JSON.stringify(record) : options.raw ? record.text : formatRecord(terminal, record))
      await terminal.drained()
    }
  }
  const goOn = () => `go on from here: lichen logs -f ${task.id} --offset ${offset}`
  await runInterruptible(print, { message: 'no longer following', get hint() { return goOn() } })
  return exitCodes.ok
}

function formatRecord(terminal: Terminal, record: LogRecord): string {
  const origin = `${new Date(record.at).toISOString().slice(11, 19)} ${record.node} ${record.action.replace(/@[^@]*$/, '')} |`
  const text = sanitizeLine(record.text)
  return `${terminal.style('dim', origin)} ${record.stream === 'stderr' ? terminal.style('yellow', text) : record.stream === 'agent' ? terminal.style('cyan', text) : text}`
}
