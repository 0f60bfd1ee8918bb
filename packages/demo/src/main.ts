/**
 * The program behind `npm run demo`. Exit codes: 0 when everything worked, 1 when not, 2 when called wrongly, 130 and above when interrupted.
 * The first Ctrl-C ends the demo and cleans up; more of them do not make it faster.
 */
import { existsSync } from 'node:fs'
import { constants } from 'node:os'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { LichenError } from '@lichen/core'
import { cleanDemo, defaultLabDirectory, runDemo, type DemoOptions } from './demo.js'
import { DemoFailure, Interrupted, NodesImpossible } from './failure.js'
import { runLocalDemo } from './local-demo.js'

const help = `npm run demo [-- OPTIONS]

Makes two Debian nodes on this machine, installs OpenStack's Keystone on them from examples/keystone.yaml, and asks it for a token.
A second run finds the same nodes and has nothing to change.

  --keep    stay up afterwards, until Ctrl-C
  --clean   remove what the last run left on disk, and end
  --local   no nodes: examples/hello.yaml on an agent confined to a temporary directory
  --help    this
`

async function main(): Promise<number> {
  const values = parseOptions()
  if (!values) return 2
  if (values.help) return (process.stdout.write(help), 0)
  const options = buildOptions(values.keep, listenForSignals())
  if (values.clean) return (await cleanDemo(options), 0)
  const obstacle = values.local ? 'as asked for' : (findObstacle() ?? (await tryNodes(options)))
  if (obstacle === undefined) return 0
  options.write(`no nodes are made (${obstacle}): running examples/hello.yaml on a local agent confined to a temporary directory\n`)
  await runLocalDemo(options)
  return 0
}

/** Runs the demo; gives the reason when this machine turns out not to be able to have nodes. */
async function tryNodes(options: DemoOptions): Promise<string | undefined> {
  try {
    await runDemo(options)
    return undefined
  } catch (error) {
    if (error instanceof NodesImpossible) return error.message
    throw error
  }
}

function parseOptions() {
  const boolean = { type: 'boolean', default: false } as const
  try {
    return parseArgs({ options: { keep: boolean, clean: boolean, local: boolean, help: boolean } }).values
  } catch (error) {
    process.stderr.write(`demo: ${(error as Error).message}\n\n${help}`)
    return undefined
  }
}

function buildOptions(isKept: boolean, signal: AbortSignal): DemoOptions {
  const { env } = process
  return {
    checkout: dirname(dirname(dirname(dirname(fileURLToPath(import.meta.url))))),
    labName: 'demo',
    labDirectory: env['LICHEN_LAB_DIR'] ?? defaultLabDirectory,
    cacheDirectory: env['LICHEN_LAB_CACHE'] ?? '/var/cache/lichen-lab',
    isKept,
    env,
    write: (text) => void process.stdout.write(text),
    hasColour: process.stdout.isTTY === true && !env['NO_COLOR'],
    // a pipe has no width: wide enough for a token
    width: process.stdout.columns ?? 200,
    signal,
  }
}

/** Aborted by the first signal that asks us to end; its reason is `Interrupted`. */
function listenForSignals(): AbortSignal {
  const controller = new AbortController()
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => {
      if (controller.signal.aborted) return void process.stderr.write('demo: still cleaning up\n')
      process.stderr.write(`\ndemo: ${signal}: cleaning up\n`)
      controller.abort(new Interrupted(signal))
    })
  }
  // a reader that has gone away (`npm run demo | head`) must not keep us from cleaning up
  process.stdout.on('error', () => controller.abort(new Interrupted('SIGHUP')))
  return controller.signal
}

/** Why this machine cannot have nodes, where that can be seen at once; the lab finds out the rest. */
function findObstacle(): string | undefined {
  if (process.platform !== 'linux') return 'this is not Linux'
  if (process.getuid?.() !== 0) return 'that needs root'
  const programs = ['/usr/bin/systemd-nspawn', '/usr/bin/apt-get']
  if (!programs.some((program) => existsSync(program))) return 'this machine has neither systemd-nspawn nor apt to install it'
  return undefined
}

function describe(error: unknown): number {
  if (error instanceof Interrupted) return 128 + constants.signals[error.signal]
  if (error instanceof DemoFailure) {
    if (error.output.trim() !== '') process.stderr.write(`${error.output.trimEnd().split('\n').slice(-30).join('\n')}\n`)
    process.stderr.write(`demo: ${error.message}\n`)
    return 1
  }
  if (error instanceof LichenError) {
    process.stderr.write(`demo: ${error.message} (${error.code})\n`)
    return 1
  }
  throw error
}

process.exitCode = await main().catch(describe)
