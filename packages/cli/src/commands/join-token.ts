import type { Command } from 'commander'
import { createJoinToken, type JoinToken } from '../api/join-tokens.js'
import { readPages } from '../api/tasks.js'
import { printResult, type Context } from '../context.js'
import { exitCodes, type ExitCode } from '../exit-codes.js'
import { formatTime } from '../text/duration.js'
import { buildTable } from '../text/table.js'
import { collectLabel, parseTtlS, parseUses } from './options.js'

interface Options {
  readonly ttl: number
  readonly uses: number | null
  readonly label?: Readonly<Record<string, string>>
  readonly cloudInit?: boolean
}

type Run = (action: (context: Context) => Promise<ExitCode>) => Promise<void>

/** A day: long enough to boot a rack, short enough that a token found in an old image is worth nothing. */
const defaultTtlS = 86_400

/** Adds `join-token`: what a node needs to join. */
export function addJoinTokenCommand(program: Command, run: Run): void {
  const tokens = program
    .command('join-token')
    .summary('make a token that nodes join with')
    .description('Makes a join token and prints it, alone on stdout. It also tells the node which certificate authority to trust.')
    .option('--ttl <duration>', 'how long it is valid, e.g. 30m, 24h (default), 30d (longest)', parseTtlS, defaultTtlS)
    .option('--uses <count>', 'how many nodes may join with it, or "unlimited"', parseUses, 1)
    .option('--label <key=value>', 'label of the nodes that join with it; may be repeated', collectLabel)
    .option('--cloud-init', 'print cloud-init user data for machines whose image has the agent')
    .action((options: Options) => run((context) => makeJoinToken(context, options)))
  tokens
    .command('ls')
    .description('Lists join tokens, without their secrets.')
    .action(() => run((context) => listJoinTokens(context)))
  tokens
    .command('rm')
    .description('Deletes a join token. Nodes that joined with it stay.')
    .argument('<id>')
    .action((id: string) => run((context) => removeJoinToken(context, id)))
}

async function makeJoinToken(context: Context, options: Options): Promise<ExitCode> {
  const made = await createJoinToken(context.client(), { ttlS: options.ttl, uses: options.uses, labels: options.label ?? {} })
  printResult(context, made, () => (options.cloudInit ? made.cloudInit.trimEnd().split('\n') : [made.token]))
  if (context.isJson || options.cloudInit || !context.terminal.isInteractive) return exitCodes.ok
  context.terminal.note(`\nvalid until ${formatTime(made.expiresAt)}; on the node, in /etc/lichen/agent.yaml:\n\n${made.agentConfig.trimEnd().replace(/^/gm, '  ')}`)
  return exitCodes.ok
}

async function listJoinTokens(context: Context): Promise<ExitCode> {
  const tokens: JoinToken[] = []
  for await (const token of readPages<JoinToken>(context.client(), '/v1/join-tokens')) tokens.push(token)
  const rows = () => tokens.map((token) => [token.id, token.usesLeft === null ? 'unlimited' : String(token.usesLeft), formatTime(token.expiresAt), token.createdBy, Object.entries(token.labels).map(([key, value]) => `${key}=${value}`).join(' ')])
  printResult(context, tokens, () => (tokens.length === 0 ? ['no join tokens'] : buildTable(['ID', 'USES LEFT', 'EXPIRES', 'BY', 'LABELS'], rows())))
  return exitCodes.ok
}

async function removeJoinToken(context: Context, id: string): Promise<ExitCode> {
  await context.client().call('DELETE', `/v1/join-tokens/${encodeURIComponent(id)}`)
  printResult(context, { id, removed: true }, () => [`${id} is deleted`])
  return exitCodes.ok
}
