/**
 * The program `lichen-agent`. Reads the command line, the environment and the configuration file; everything else is in the library.
 *
 * Joining, renewing and reading YAML need libraries that an idle agent should not hold in memory for months: they run in short-lived processes of
 * this same program (`join`, `certificate-request`, `config`), which print what they found.
 */
import { execFile, execFileSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { clockOf, LichenError } from '@lichen/core'
import { startAgent } from './agent.js'
import { type Agent, type AgentOptions, agentVersion, gatewaysOf } from './agent-options.js'
import type { AgentConfig } from './agent-config.js'
import { durableWrites, type OnWrite } from './durable-write.js'
import { findAddress } from './facts/address.js'
import { readFacts } from './facts/facts.js'
import type { KeyAndRequest } from './identity/certificate-request.js'
import { joinOnce } from './identity/joining.js'
import { parseAddress } from './identity/pinned-ca.js'
import type { Log } from './log.js'

const defaultConfigPath = '/etc/lichen/agent.yaml'
/** sysexits(3) EX_CONFIG: trying again without a change makes no sense; the systemd unit does not restart on it. */
const exitConfig = 78

const help = `lichen-agent ${agentVersion}: does what the engine of Lichen orders on this node, and proves it

usage: lichen-agent COMMAND [--config FILE]

  run       join if the node has not joined yet, then serve until SIGTERM
  join      join only, and print the node's id
  facts     print what this machine says of itself, as JSON
  version   print the version

  --config FILE   configuration (default ${defaultConfigPath})

exit codes: 0 well, 1 failed, 64 wrong usage, ${exitConfig} wrong configuration or join refused
`

async function main(argv: readonly string[]): Promise<number> {
  const [command = '--help', ...rest] = argv
  const configPath = optionOf(rest, '--config') ?? defaultConfigPath
  switch (command) {
    case 'run':
      return await run(configPath)
    case 'join':
      process.stdout.write(`${await joinOnce(toOptions(await readConfig(configPath)))}\n`)
      return 0
    case 'facts': {
      const gateway = existsSync(configPath) ? gatewaysOf(await readConfig(configPath))[0] : undefined
      process.stdout.write(`${JSON.stringify(readFacts(await findAddress(gateway === undefined ? '192.0.2.1' : parseAddress(gateway).host)), undefined, 2)}\n`)
      return 0
    }
    case 'config':
      process.stdout.write(JSON.stringify(await readConfig(configPath)))
      return 0
    case 'certificate-request': {
      const { makeKeyAndRequest } = await import('./identity/certificate-request.js')
      const { keyPem, request } = await makeKeyAndRequest(rest[0] ?? '')
      process.stdout.write(JSON.stringify({ keyPem, request: request.toString('base64') }))
      return 0
    }
    case 'version':
    case '--version':
      process.stdout.write(`${agentVersion}\n`)
      return 0
    case 'help':
    case '--help':
      process.stdout.write(help)
      return 0
    default:
      process.stderr.write(`lichen-agent: no command ${JSON.stringify(command)}\n\n${help}`)
      return 64
  }
}

async function run(configPath: string): Promise<number> {
  const config = JSON.parse(execFileSync(process.execPath, [process.argv[1]!, 'config', '--config', configPath], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] })) as AgentConfig
  const abort = new AbortController()
  let end: (code: number) => void = () => {}
  const ended = new Promise<number>((resolve) => (end = resolve))
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.once(signal, () => {
      log.info({ signal }, 'stopping; what runs goes on, and the next start takes it up')
      abort.abort()
      end(0)
    })
  }
  let agent: Agent
  try {
    agent = await startAgent({ ...toOptions(config), makeKeyAndRequest: requestInProcess, signal: abort.signal, onFatal: () => end(1) })
  } catch (error) {
    // Asked to stop while it tried to join.
    if (abort.signal.aborted) return 0
    throw error
  }
  const code = await ended
  await agent.stop()
  return code
}

async function readConfig(path: string): Promise<AgentConfig> {
  if (!existsSync(path)) throw new LichenError('AGENT_CONFIG', `there is no configuration file ${path}`)
  const { parseAgentConfig } = await import('./agent-config.js')
  return parseAgentConfig(readFileSync(path, 'utf8'), path)
}

function toOptions(config: AgentConfig): AgentOptions {
  // systemd names where its credentials stand (systemd.exec(5), LoadCredential): a token can come that way, too.
  const credential = process.env['CREDENTIALS_DIRECTORY'] === undefined ? undefined : join(process.env['CREDENTIALS_DIRECTORY'], 'lichen.token')
  const fromCredential = credential !== undefined && config.token === undefined && existsSync(credential) ? readFileSync(credential, 'utf8').trim() : undefined
  const tokenFile = config.tokenFile !== undefined && existsSync(config.tokenFile) ? config.tokenFile : undefined
  // And which directory in memory is ours (RuntimeDirectory): it outlives this process, and ends with the boot, as what runs does.
  const runtime = process.env['RUNTIME_DIRECTORY']
  const runDirectory = runtime === undefined ? undefined : join(runtime, 'runs')
  return { ...config, runDirectory, token: config.token ?? fromCredential, tokenFile, onWrite: crashAt(process.env['LICHEN_TEST_CRASH_AT']), clock: clockOf(globalThis), log }
}

/** For tests alone: `NAME:before[:N]` or `NAME:after[:N]` kills this process, as nothing else can be told from a crash, at the Nth such durable write (durable-write.ts). */
function crashAt(text: string | undefined): OnWrite | undefined {
  if (text === undefined) return undefined
  const [, name, count = '1'] = /^(.+:(?:before|after))(?::(\d+))?$/.exec(text) ?? []
  if (!durableWrites.some((known) => name?.startsWith(`${known}:`))) throw new LichenError('AGENT_CONFIG', `LICHEN_TEST_CRASH_AT: ${text} names no durable write; there are ${durableWrites.join(', ')}`)
  let left = Number(count)
  return (write) => {
    if (write === name && --left === 0) process.kill(process.pid, 'SIGKILL')
  }
}

/** Makes key and request in a process of its own: see the file header. */
function requestInProcess(name: string): Promise<KeyAndRequest> {
  return new Promise((resolve, reject) => {
    execFile(process.execPath, [process.argv[1]!, 'certificate-request', name], { encoding: 'utf8' }, (error, stdout) => {
      if (error) return reject(error)
      const { keyPem, request } = JSON.parse(stdout) as { keyPem: string; request: string }
      resolve({ keyPem, request: Buffer.from(request, 'base64') })
    })
  })
}

/** Lines for the journal: the level as systemd reads it (sd-daemon(3)), the message, the fields as JSON. */
const write = (level: number, fields: object, message: string): void => {
  const text = JSON.stringify(fields)
  process.stderr.write(`${process.env['JOURNAL_STREAM'] === undefined ? '' : `<${level}>`}${message}${text === '{}' ? '' : ` ${text}`}\n`)
}
const log: Log = {
  debug: (fields, message) => (process.env['LICHEN_DEBUG'] === undefined ? undefined : write(7, fields, message)),
  info: (fields, message) => write(6, fields, message),
  warn: (fields, message) => write(4, fields, message),
  error: (fields, message) => write(3, fields, message),
}

function optionOf(args: readonly string[], name: string): string | undefined {
  const at = args.indexOf(name)
  if (at >= 0) return args[at + 1]
  return args.find((arg) => arg.startsWith(`${name}=`))?.slice(name.length + 1)
}

function exitCodeOf(error: unknown): number {
  // A child that this program started has said already what is wrong.
  const { status } = error as { status?: unknown }
  if (typeof status === 'number') return status
  const isRefused = error instanceof LichenError && error.entry.kind === 'rejected'
  process.stderr.write(`lichen-agent: ${error instanceof LichenError ? `${error.code}: ${error.message}` : error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`)
  return isRefused ? exitConfig : 1
}

main(process.argv.slice(2)).then(
  (code) => process.exit(code),
  (error: unknown) => process.exit(exitCodeOf(error)),
)
