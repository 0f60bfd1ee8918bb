/** The programs that `lichen` starts beside talking to the API: server, agent and lab, each a program of its own in its package. */
import { spawn } from 'node:child_process'
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { constants } from 'node:os'
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Command } from 'commander'
import { stringify } from 'yaml'
import { createJoinToken } from '../api/join-tokens.js'
import type { Context } from '../context.js'
import { exitCodes, type ExitCode } from '../exit-codes.js'
import { CliFailure, usageFailure } from '../failure.js'
import { collectLabel } from './options.js'

type Run = (action: (context: Context) => Promise<ExitCode>) => Promise<void>

interface AgentOptions {
  readonly local?: string
  readonly config?: string
  readonly name: string
  readonly label?: Readonly<Record<string, string>>
}

/** Ten minutes: the agent of this command joins at once. */
const localTokenTtlS = 600

/** Adds `server` and `agent`; `lab` stands in the help alone, because its command line is its own (see `runLab`). */
export function addProgramCommands(program: Command, run: Run): void {
  program
    .command('server')
    .summary('run api, engine and gateway in this process')
    .description('Runs the server, as `npm start` does. Its settings are environment variables: docs/configuration.md.')
    .option('--role <roles>', 'what this process does: any of api, engine, gateway, separated by commas (default: all; as LICHEN_ROLES)')
    .action(({ role }: { readonly role?: string }) => run(() => runProgram('server', role === undefined ? [] : ['--role', role])))
  program
    .command('agent')
    .summary('run the agent of a node here')
    .description('Runs the agent in this terminal until Ctrl-C. On real nodes it is installed as a package and runs as a service.')
    .option('--local <directory>', 'join the server with a fresh token, as a node that may change nothing outside this directory')
    .option('--config <file>', 'run with this configuration file')
    .option('--name <name>', 'name of the node, with --local', 'local')
    .option('--label <key=value>', 'label of the node, with --local; may be repeated', collectLabel)
    .action((options: AgentOptions) => run((context) => runAgent(context, options)))
  program.command('lab').summary('throwaway Debian nodes on this machine (lichen lab --help)').description('Makes and removes throwaway Debian nodes: lichen lab --help.')
}

/** Runs the lab program with this command line, unread. */
export const runLab = (args: readonly string[]): Promise<ExitCode> => runProgram('lab', args)

async function runAgent(context: Context, options: AgentOptions): Promise<ExitCode> {
  if ((options.local === undefined) === (options.config === undefined)) throw usageFailure('one of --local DIRECTORY and --config FILE is needed')
  const config = options.config ?? (await writeLocalConfig(context, resolve(options.local!), options))
  return runProgram('agent', ['run', '--config', config])
}

// The token is only for the first join; once the node has its certificate the agent does not look at it, so a fresh one each time is harmless. An
// identity that this server does not know (its data directory was removed, or the node was) would never be let in again: the agent starts over.
async function writeLocalConfig(context: Context, directory: string, options: AgentOptions): Promise<string> {
  const { token, gateway } = await createJoinToken(context.client(), { ttlS: localTokenTtlS, uses: 1, labels: options.label ?? {} })
  if (!(await isKnownNode(context, options.name))) await rm(join(directory, 'agent'), { recursive: true, force: true })
  await mkdir(directory, { recursive: true })
  const path = join(directory, 'agent.yaml')
  await writeFile(path, stringify({ gateway, token, name: options.name, labels: options.label ?? {}, dataDirectory: join(directory, 'agent'), confine: directory }), { mode: 0o600 })
  context.terminal.note(`node "${options.name}" joins ${gateway}, confined to ${directory}; Ctrl-C stops it`)
  return path
}

async function isKnownNode(context: Context, name: string): Promise<boolean> {
  try {
    await context.client().call('GET', `/v1/nodes/${encodeURIComponent(name)}`)
    return true
  } catch (error) {
    if (error instanceof CliFailure && error.code === 'REQUEST_NOT_FOUND') return false
    throw error
  }
}

/** Runs a program of another package in the foreground, with this terminal; gives back its exit code. Signals reach it as if it were alone. */
async function runProgram(name: 'server' | 'agent' | 'lab', args: readonly string[]): Promise<ExitCode> {
  const path = await findProgram(name)
  const child = spawn(process.execPath, [path, ...args], { stdio: 'inherit' })
  // A Ctrl-C reaches the child from the terminal itself; this process only has to outlive it.
  const ignore = () => undefined
  const forward = () => void child.kill('SIGTERM')
  process.on('SIGINT', ignore)
  process.on('SIGTERM', forward)
  try {
    return await new Promise<ExitCode>((settle, fail) => {
      child.on('error', fail)
      child.on('exit', (code, signal) => settle((code ?? 128 + constants.signals[signal ?? 'SIGTERM']) as ExitCode))
    })
  } finally {
    process.off('SIGINT', ignore)
    process.off('SIGTERM', forward)
  }
}

async function findProgram(name: string): Promise<string> {
  try {
    const path = fileURLToPath(import.meta.resolve(`@lichen/${name}/main`))
    await readFile(path)
    return path
  } catch (error) {
    throw new CliFailure(exitCodes.rejected, `the program "${name}" is not part of this installation, or is not built`, { hint: 'in a checkout: npm run setup', cause: error })
  }
}
