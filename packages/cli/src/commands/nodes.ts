import type { Command } from 'commander'
import { readPages } from '../api/tasks.js'
import { printResult, type Context } from '../context.js'
import { exitCodes, type ExitCode } from '../exit-codes.js'
import { usageFailure } from '../failure.js'
import { formatAge } from '../text/duration.js'
import { buildTable } from '../text/table.js'

interface Facts {
  readonly hostname: string
  readonly address: string
  readonly os: { readonly prettyName: string }
  readonly kernel: string
  readonly architecture: string
  readonly cpus: number
  readonly memoryBytes: number
  readonly diskFreeBytes: number
}

interface Node {
  readonly id: string
  readonly labels: Readonly<Record<string, string>>
  readonly facts: Facts
  readonly state: 'ready' | 'lost'
  /** The engine at which its stream ends. */
  readonly engine: string | null
  readonly cordoned: boolean
  readonly agentVersion: string
  readonly joinedAt: number
  readonly lastSeenAt: number
}

type Run = (action: (context: Context) => Promise<ExitCode>) => Promise<void>

const nodePath = (id: string): string => `/v1/nodes/${encodeURIComponent(id)}`

/** Adds `nodes` and what can be done with one. */
export function addNodeCommands(program: Command, run: Run): void {
  const nodes = program.command('nodes').summary('list, show, label, cordon and remove nodes').description('Nodes: the machines that have joined.')
  nodes
    .command('ls', { isDefault: true })
    .description('Lists nodes.')
    .action(() => run((context) => listNodes(context)))
  nodes
    .command('show')
    .description('Shows a node with its facts.')
    .argument('<id>')
    .action((id: string) => run((context) => showNode(context, id)))
  nodes
    .command('label')
    .description('Sets labels (key=value) and removes them (key-).')
    .argument('<id>')
    .argument('<labels...>')
    .action((id: string, labels: readonly string[]) => run((context) => changeNode(context, id, { labels: parseLabelChanges(labels) }, (node) => `has the labels ${describeLabels(node.labels) || '(none)'}`)))
  nodes
    .command('cordon')
    .description('Gives the node no new work; what runs goes on.')
    .argument('<id>')
    .action((id: string) => run((context) => changeNode(context, id, { cordoned: true }, () => 'is cordoned: it gets no new work')))
  nodes
    .command('uncordon')
    .description('Lets the node have work again.')
    .argument('<id>')
    .action((id: string) => run((context) => changeNode(context, id, { cordoned: false }, () => 'gets work again')))
  nodes
    .command('rm')
    .description('Forgets a node: its certificate is no longer accepted. What was installed on it stays there.')
    .argument('<id>')
    .action((id: string) => run((context) => removeNode(context, id)))
}

const describeNodeState = (node: Node): string => (node.cordoned ? `${node.state}, cordoned` : node.state)
const describeLabels = (labels: Readonly<Record<string, string>>): string =>
  Object.entries(labels)
    .map(([key, value]) => `${key}=${value}`)
    .join(' ')
const gibibytes = (bytes: number): string => `${(bytes / 2 ** 30).toFixed(1)} GiB`

async function listNodes(context: Context): Promise<ExitCode> {
  const nodes: Node[] = []
  for await (const node of readPages<Node>(context.client(), '/v1/nodes')) nodes.push(node)
  const now = Date.now()
  // With one engine, which every small installation has, the column would say nothing.
  const hasEngines = new Set(nodes.map((node) => node.engine).filter((engine) => engine !== null)).size > 1
  const rows = () => nodes.map((node) => [node.id, describeNodeState(node), ...(hasEngines ? [node.engine ?? ''] : []), node.facts.address, node.facts.os.prettyName, `${node.facts.cpus}`, gibibytes(node.facts.memoryBytes), formatAge(node.lastSeenAt, now), describeLabels(node.labels)])
  printResult(context, nodes, () => (nodes.length === 0 ? ['no nodes have joined; a token for one: lichen join-token'] : buildTable(['ID', 'STATE', ...(hasEngines ? ['ENGINE'] : []), 'ADDRESS', 'SYSTEM', 'CPUS', 'MEMORY', 'SEEN', 'LABELS'], rows())))
  return exitCodes.ok
}

async function showNode(context: Context, id: string): Promise<ExitCode> {
  const node = await context.client().call<Node>('GET', nodePath(id))
  const now = Date.now()
  printResult(context, node, () => [
    context.terminal.style('bold', node.id),
    `  state     ${describeNodeState(node)}, seen ${formatAge(node.lastSeenAt, now)}, joined ${formatAge(node.joinedAt, now)}`,
    `  labels    ${describeLabels(node.labels)}`,
    `  address   ${node.facts.address} (${node.facts.hostname})`,
    `  system    ${node.facts.os.prettyName}, Linux ${node.facts.kernel}, ${node.facts.architecture}`,
    `  size      ${node.facts.cpus} CPUs, ${gibibytes(node.facts.memoryBytes)} memory, ${gibibytes(node.facts.diskFreeBytes)} free on disk`,
    `  agent     ${node.agentVersion}${node.engine === null ? '' : `, connected to engine ${node.engine}`}`,
  ])
  return exitCodes.ok
}

/** The changes `key=value` (set) and `key-` (remove, null) as a merge patch. @throws CliFailure (usage) for a change of neither form */
export function parseLabelChanges(changes: readonly string[]): Readonly<Record<string, string | null>> {
  return Object.fromEntries(
    changes.map((change): [string, string | null] => {
      const [, key, value] = /^([^=]+)=(.*)$/.exec(change) ?? []
      if (key !== undefined) return [key, value!]
      if (/^[^=]+-$/.test(change)) return [change.slice(0, -1), null]
      throw usageFailure(`"${change}" is neither key=value nor key-`)
    }),
  )
}

async function changeNode(context: Context, id: string, change: { readonly labels?: Readonly<Record<string, string | null>>; readonly cordoned?: boolean }, words: (node: Node) => string): Promise<ExitCode> {
  const node = await context.client().call<Node>('PATCH', nodePath(id), { body: change })
  printResult(context, node, () => [`${id} ${words(node)}`])
  return exitCodes.ok
}

async function removeNode(context: Context, id: string): Promise<ExitCode> {
  await context.client().call('DELETE', nodePath(id))
  printResult(context, { id, removed: true }, () => [`${id} is forgotten`])
  return exitCodes.ok
}
