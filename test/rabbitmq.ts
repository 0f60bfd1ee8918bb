/**
 * A private RabbitMQ for tests: own node name, ports, epmd, cookie and data in a temporary directory. It is the distribution's server, run as the
 * current user; one that runs already is neither used nor touched. Processes are ended by their ids alone.
 */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { connect } from 'amqplib'
import type { Test } from 'tap'

export interface PrivateRabbit {
  readonly url: string
  /** `SIGTERM` lets it finish, `SIGKILL` is a crash. Resolves when the process is gone. */
  stop(signal?: 'SIGTERM' | 'SIGKILL'): Promise<void>
  /** Starts it again on its ports and data; resolves when it answers. */
  start(): Promise<void>
  /** Runs rabbitmqctl against it and gives back its output. Takes some seconds. */
  control(...args: readonly string[]): string
}

interface Ports {
  readonly amqp: number
  readonly distribution: number
  readonly epmd: number
}

const script = resolve(import.meta.dirname, '../scripts/install-rabbitmq.mjs')

/** Path of the server program, installed first when this is root; or why there is none. */
function findServer(): { readonly server: string } | { readonly missing: string } {
  const found = spawnSync(process.execPath, [script], { encoding: 'utf8' })
  return found.status === 0 ? { server: found.stdout.trim() } : { missing: found.stderr.trim() || String(found.error) }
}

function freePort(): Promise<number> {
  return new Promise((resolvePort, reject) => {
    const server = createServer()
    server.on('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number }
      server.close(() => resolvePort(port))
    })
  })
}

function writeConfiguration(directory: string, ports: Ports): void {
  writeFileSync(join(directory, 'rabbitmq.conf'), [
    `listeners.tcp.1 = 127.0.0.1:${ports.amqp}`,
    'log.console = true',
    'log.console.level = warning',
    'log.file = false',
    'disk_free_limit.absolute = 50MB',
    'raft.wal_max_size_bytes = 16777216',
    '',
  ].join('\n'))
  writeFileSync(join(directory, 'plugins'), '[].\n')
}

function buildEnvironment(directory: string, ports: Ports): NodeJS.ProcessEnv {
  return {
    PATH: process.env.PATH,
    HOME: directory,
    LANG: 'C.UTF-8',
    ERL_EPMD_PORT: String(ports.epmd),
    ERL_EPMD_ADDRESS: '127.0.0.1',
    RABBITMQ_NODENAME: `lichen-test-${ports.amqp}@localhost`,
    RABBITMQ_DIST_PORT: String(ports.distribution),
    RABBITMQ_CONF_ENV_FILE: join(directory, 'none.conf'),
    RABBITMQ_CONFIG_FILE: join(directory, 'rabbitmq.conf'),
    RABBITMQ_ENABLED_PLUGINS_FILE: join(directory, 'plugins'),
    RABBITMQ_MNESIA_BASE: join(directory, 'data'),
    RABBITMQ_LOG_BASE: join(directory, 'log'),
    RABBITMQ_GENERATED_CONFIG_DIR: join(directory, 'generated'),
    RABBITMQ_PID_FILE: join(directory, 'pid'),
    // "Allow input" makes the script become the Erlang machine instead of waiting for it, so that the child's id is the broker's; -noinput takes the input away again.
    RABBITMQ_ALLOW_INPUT: 'true',
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS: '-noinput -start_epmd false -kernel inet_dist_use_interface {127,0,0,1}',
  }
}

const isRunning = (child: ChildProcess): boolean => child.exitCode === null && child.signalCode === null

function ended(child: ChildProcess): Promise<void> {
  return new Promise((done) => {
    if (!isRunning(child)) done()
    else child.once('exit', () => done())
  })
}

async function stopChild(child: ChildProcess | undefined, signal: NodeJS.Signals): Promise<void> {
  if (child === undefined || !isRunning(child)) return
  child.kill(signal)
  const timer = setTimeout(() => child.kill('SIGKILL'), 20_000)
  await ended(child)
  clearTimeout(timer)
}

const readyTimeoutMs = 90_000

async function waitUntilReady(url: string, child: ChildProcess, logFile: string): Promise<void> {
  const until = Date.now() + readyTimeoutMs
  for (;;) {
    try {
      const connection = await connect(url, { timeout: 2_000 })
      await connection.close()
      return
    } catch (error) {
      if (!isRunning(child) || Date.now() > until) {
        const reason = isRunning(child) ? `not ready within ${readyTimeoutMs} ms` : `it ended (${child.exitCode ?? child.signalCode})`
        throw new Error(`the private RabbitMQ did not start: ${reason}; ${error instanceof Error ? error.message : String(error)}\n${readFileSync(logFile, 'utf8').slice(-4_000)}`)
      }
      await new Promise((resume) => setTimeout(resume, 50))
    }
  }
}

async function startPrivateRabbit(t: Test, server: string): Promise<PrivateRabbit> {
  const directory = mkdtempSync(join(tmpdir(), 'lichen-rabbitmq-'))
  const ports: Ports = { amqp: await freePort(), distribution: await freePort(), epmd: await freePort() }
  const url = `amqp://guest:guest@127.0.0.1:${ports.amqp}`
  const environment = buildEnvironment(directory, ports)
  const logFile = join(directory, 'output')
  writeConfiguration(directory, ports)
  writeFileSync(logFile, '')
  const epmd = spawn('epmd', ['-port', String(ports.epmd), '-address', '127.0.0.1'], { env: environment, stdio: 'ignore' })
  let broker: ChildProcess | undefined

  async function start(): Promise<void> {
    const child = spawn('/bin/sh', ['-c', 'exec "$0" >>"$1" 2>&1', server, logFile], { env: environment, stdio: 'ignore', cwd: directory })
    broker = child
    await waitUntilReady(url, child, logFile)
  }

  t.teardown(async () => {
    await stopChild(broker, 'SIGKILL')
    await stopChild(epmd, 'SIGTERM')
    rmSync(directory, { recursive: true, force: true })
  })
  await start()
  return {
    url,
    start,
    stop: (signal = 'SIGTERM') => stopChild(broker, signal),
    control(...args) {
      const result = spawnSync(join(dirname(server), 'rabbitmqctl'), args, { env: environment, encoding: 'utf8' })
      if (result.status !== 0) throw new Error(`rabbitmqctl ${args.join(' ')}: ${result.stderr || result.stdout}`)
      return result.stdout
    },
  }
}

/**
 * A private RabbitMQ that answers; it goes away with the test. Undefined, with the test skipped, when there is none to run; in CI (`CI=true`) that fails.
 */
export async function startRabbit(t: Test): Promise<PrivateRabbit | undefined> {
  const found = findServer()
  if ('server' in found) return startPrivateRabbit(t, found.server)
  if (process.env.CI === 'true') throw new Error(found.missing)
  t.pass('a private RabbitMQ', { skip: found.missing })
  return undefined
}
