/**
 * The program `lab` (`lichen lab …` runs the same): throwaway Debian nodes from the terminal. This is the only file that reads the environment.
 *
 * Exit codes: that of the program for `exec` and `shell`, 125 when it could not be run; otherwise 0, 1 when it failed, 2 when it was called wrongly.
 */
import { createReadStream, existsSync } from 'node:fs'
import { pipeline } from 'node:stream/promises'
import { Command, CommanderError, InvalidArgumentError } from 'commander'
import { LichenError } from '@lichen/core'
import { requireRoot } from './host.js'
import { listLabs, openLab, purgeCache, type Lab } from './lab.js'
import type { LabView } from './view.js'

/** Options that may stand before or after the verb. */
interface PlaceOptions {
  readonly name?: string
  readonly dir?: string
  readonly cache?: string
}

/** Bytes of a size such as `512M` or `2G` (powers of 1024); a bare number is bytes. */
function parseSize(text: string): number {
  const match = /^(\d+)([KMG]?)i?B?$/i.exec(text)
  const factor = { '': 1, K: 1024, M: 1024 ** 2, G: 1024 ** 3 }[match?.[2]?.toUpperCase() ?? '']
  if (!match || factor === undefined) throw new InvalidArgumentError('a size such as 512M or 2G')
  const bytes = Number(match[1]) * factor
  if (bytes < 64 * 1024 ** 2) throw new InvalidArgumentError('a node needs at least 64M to boot')
  return bytes
}

function parseCount(text: string): number {
  if (!/^\d+$/.test(text)) throw new InvalidArgumentError('a whole number')
  return Number(text)
}

function buildProgram(env: NodeJS.ProcessEnv): Command {
  const program = new Command('lab')
  const upstreamProxy = env['http_proxy'] ?? env['HTTP_PROXY']
  const log = (line: string): void => void process.stderr.write(`${line}\n`)
  const placed = (command: Command): Command =>
    command
      .option('--name <lab>', 'which lab ($LICHEN_LAB_NAME, or "default")')
      .option('--dir <path>', 'where labs are kept ($LICHEN_LAB_DIR, or /var/lib/lichen-lab)')
      .option('--cache <path>', 'where base images and packages are kept ($LICHEN_LAB_CACHE, or /var/cache/lichen-lab)')
  const placeOf = (command: Command): { name: string | undefined; directory: string; cacheDirectory: string } => {
    const place: PlaceOptions = { ...program.opts<PlaceOptions>(), ...command.opts<PlaceOptions>() }
    return {
      name: place.name ?? env['LICHEN_LAB_NAME'],
      directory: place.dir ?? env['LICHEN_LAB_DIR'] ?? '/var/lib/lichen-lab',
      cacheDirectory: place.cache ?? env['LICHEN_LAB_CACHE'] ?? '/var/cache/lichen-lab',
    }
  }
  const open = (command: Command, name = placeOf(command).name ?? 'default'): Lab =>
    openLab({ ...placeOf(command), name, log, ...(upstreamProxy ? { upstreamProxy } : {}) })
  placed(program)
    .description('Throwaway Debian nodes as systemd-nspawn machines. Needs root.')
    .enablePositionalOptions()
    .exitOverride()
  placed(program.command('up [nodes...]'))
    .description('make and boot nodes; what is there stays as it is')
    .option('-n, --nodes <count>', 'how many nodes: node-1, node-2, … (or give their names)', parseCount)
    .option('--memory <size>', 'memory limit of each new node, e.g. 1G', parseSize)
    .option('--privileged', 'all capabilities and the devices a kubelet needs, for new nodes')
    .option('--link <name>', 'an interface beside host0, up and without address, for new nodes (repeatable)', (name: string, before: readonly string[]) => [...before, name], [])
    .option('--json', 'print the lab as JSON')
    .action(async (names: string[], own: { nodes?: number; memory?: number; privileged?: boolean; link: readonly string[]; json?: boolean }, command: Command) => {
      const view = await open(command).up({
        nodes: names.length > 0 ? names : (own.nodes ?? 1),
        ...(own.memory === undefined ? {} : { memoryBytes: own.memory }),
        isPrivileged: own.privileged ?? false,
        links: own.link,
      })
      if (own.json) printJson(view)
      else printLabs([view])
    })
  placed(program.command('ls'))
    .description('list labs and nodes')
    .option('--json', 'print JSON')
    .action((own: { json?: boolean }, command: Command) => {
      const { name, directory } = placeOf(command)
      const labs = (name === undefined ? listLabs(directory) : [name]).map((each) => open(command, each).list())
      const found = labs.filter((lab) => lab !== undefined)
      if (own.json) printJson(found)
      else printLabs(found)
    })
  placed(program.command('exec <node> <command...>'))
    .description('run a program in a node, with this terminal or pipe; its exit code is ours')
    .passThroughOptions()
    .action(async (node: string, words: string[], _own: unknown, command: Command) => {
      // `exec NODE -- ls -l` and `exec NODE ls -l` are the same
      const argv = words[0] === '--' ? words.slice(1) : words
      process.exitCode = await runInTerminal(open(command), node, argv, env)
    })
  placed(program.command('shell <node>'))
    .description('a root shell in a node')
    .action(async (node: string, _own: unknown, command: Command) => {
      process.exitCode = await runInTerminal(open(command), node, ['bash', '-l'], env)
    })
  placed(program.command('logs <node>'))
    .description('what the node printed on its console')
    .action(async (node: string, _own: unknown, command: Command) => {
      requireRoot() // consoles are readable by root alone
      const { consolePath } = open(command).node(node)
      if (existsSync(consolePath)) await pipeline(createReadStream(consolePath), process.stdout, { end: false })
    })
  for (const [verb, meaning] of [['start', 'boot a node that is off'], ['reboot', 'reboot a node from inside'], ['kill', 'power loss: kill a node at once']] as const) {
    placed(program.command(`${verb} <node>`))
      .description(meaning)
      .action(async (node: string, _own: unknown, command: Command) => open(command)[verb](node))
  }
  placed(program.command('down'))
    .description('remove nodes, network, processes and files of the lab')
    .option('--all', 'every lab')
    .option('--purge-cache', 'also delete base images and packages')
    .action(async (own: { all?: boolean; purgeCache?: boolean }, command: Command) => {
      const { directory, cacheDirectory } = placeOf(command)
      for (const name of own.all ? listLabs(directory) : [undefined]) await open(command, name).down()
      if (own.purgeCache) await purgeCache(cacheDirectory)
    })
  return program
}

/** SIGINT belongs to the program in the node while it has the terminal; we only wait for how it ends. */
async function runInTerminal(lab: Lab, node: string, argv: readonly string[], env: NodeJS.ProcessEnv): Promise<number> {
  const ignore = (): void => undefined
  process.on('SIGINT', ignore)
  try {
    const { exitCode } = await lab.exec(node, argv, { stdin: 'inherit', env: { TERM: env['TERM'] ?? 'dumb' } })
    return exitCode
  } finally {
    process.off('SIGINT', ignore)
  }
}

function printJson(value: unknown): void {
  process.stdout.write(JSON.stringify(value, null, 2) + '\n')
}

function printLabs(labs: readonly LabView[]): void {
  if (labs.length === 0) process.stdout.write('no labs; make one with: lab up --nodes 3\n')
  for (const lab of labs) {
    process.stdout.write(`lab ${lab.name}: network ${lab.network}, host ${lab.gateway}\n`)
    for (const node of lab.nodes) process.stdout.write(`  ${node.name.padEnd(16)} ${node.address.padEnd(16)} ${node.state.padEnd(8)} ${node.root}\n`)
  }
}

try {
  await buildProgram(process.env).parseAsync()
} catch (error) {
  if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : 2
  else if (error instanceof LichenError) {
    process.stderr.write(`lab: ${error.code}: ${error.message}\n`)
    process.exitCode = ['exec', 'shell'].some((verb) => process.argv.slice(2).includes(verb)) ? 125 : 1
  } else throw error
}
