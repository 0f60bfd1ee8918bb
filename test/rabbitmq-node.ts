/**
 * One node of a private RabbitMQ: its files, its environment, its process. Nothing here knows how many nodes there are or where they run: an address of its own
 * (with a network namespace around it, if `prefix` says so) makes it a machine of its own. Processes are ended by their ids alone.
 */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { connect } from 'amqplib'

export interface RabbitNodeOptions {
  /** For its configuration, data and output. */
  readonly directory: string
  /** Part of its node name before the "@". Different for each node that shares an epmd. */
  readonly name: string
  /** IPv4 address that it listens on and by which the other nodes know it. */
  readonly address: string
  readonly ports: RabbitPorts
  /** The same for all nodes of a cluster. */
  readonly cookie: string
  /** Node names (`NAME@ADDRESS`) of the whole cluster, this one too. Default: it is alone. */
  readonly cluster?: readonly string[]
  /** What a cluster does about a partition. Default: `autoheal`; with `pause_minority` RabbitMQ 3 stays split for ever after a node was frozen (rabbitmq-server issue 17319). */
  readonly partitionHandling?: 'autoheal' | 'pause_minority'
  /** Goes before each command, e.g. `['ip', 'netns', 'exec', 'X']`. It must become the command (exec), so that signals arrive. */
  readonly prefix?: readonly string[]
  /** After how long a silent node counts as gone among the nodes (between 0.75 and 1.25 of it). RabbitMQ's default is 60 s. */
  readonly netTickS?: number
  /** Files of a listener for TLS at `ports.tls`. With `isClientChecked` it refuses clients without a certificate of this authority. */
  readonly tls?: { readonly ca: string; readonly cert: string; readonly key: string; readonly isClientChecked?: boolean }
}

export interface RabbitPorts {
  readonly amqp: number
  readonly distribution: number
  readonly epmd: number
  readonly tls?: number
}

export interface RabbitNode {
  readonly nodeName: string
  /** Its files; what it knows is in `data`. */
  readonly directory: string
  readonly url: string
  /** The same over TLS; only with `tls`. */
  readonly tlsUrl: string
  /** Id of the broker's process while it runs. */
  pid(): number | undefined
  /** Starts it, again on its ports and data; resolves when it answers. */
  start(): Promise<void>
  /** `SIGTERM` lets it finish, `SIGKILL` is a crash. Resolves when the process is gone. */
  stop(signal?: 'SIGTERM' | 'SIGKILL'): Promise<void>
  /** Freezes it: its sockets stay open and nothing answers. */
  pause(): void
  resume(): void
  /** Runs rabbitmqctl against it and gives back its output. Takes some seconds. */
  control(...args: readonly string[]): Promise<string>
  /** What it printed. */
  output(): string
}

/** The name by which the nodes of a cluster know this one. */
export const buildNodeName = ({ name, address }: Pick<RabbitNodeOptions, 'name' | 'address'>): string => `${name}@${address}`

/** Writes the configuration files of the node into its directory. */
export function writeRabbitConfiguration({ directory, address, ports, cookie, cluster = [], partitionHandling = 'autoheal', netTickS, tls }: RabbitNodeOptions): void {
  mkdirSync(directory, { recursive: true })
  const tlsLines = tls && ports.tls !== undefined
    ? [`listeners.ssl.1 = ${address}:${ports.tls}`, `ssl_options.cacertfile = ${tls.ca}`, `ssl_options.certfile = ${tls.cert}`, `ssl_options.keyfile = ${tls.key}`, 'ssl_options.verify = verify_peer', `ssl_options.fail_if_no_peer_cert = ${tls.isClientChecked === true}`]
    : []
  const clusterLines = cluster.length > 1
    ? ['cluster_formation.peer_discovery_backend = classic_config', ...cluster.map((node, index) => `cluster_formation.classic_config.nodes.${index + 1} = ${node}`), `cluster_partition_handling = ${partitionHandling}`]
    : []
  writeFileSync(join(directory, 'rabbitmq.conf'), [
    `listeners.tcp.1 = ${address}:${ports.amqp}`,
    'loopback_users = none',
    'log.console = true',
    'log.console.level = warning',
    'log.file = false',
    'disk_free_limit.absolute = 50MB',
    'raft.wal_max_size_bytes = 16777216',
    ...tlsLines,
    ...clusterLines,
    ...(netTickS === undefined ? [] : [`net_ticktime = ${netTickS}`]),
    '',
  ].join('\n'))
  writeFileSync(join(directory, 'plugins'), '[].\n')
  writeFileSync(join(directory, 'output'), '')
  writeFileSync(join(directory, '.erlang.cookie'), cookie, { mode: 0o400 })
}

/** The environment of the node's own programs: the broker, its epmd, rabbitmqctl. */
export function buildRabbitEnvironment(options: RabbitNodeOptions): NodeJS.ProcessEnv {
  const { directory, address, ports } = options
  return {
    PATH: process.env.PATH,
    HOME: directory,
    LANG: 'C.UTF-8',
    ERL_EPMD_PORT: String(ports.epmd),
    ERL_EPMD_ADDRESS: address,
    RABBITMQ_NODENAME: buildNodeName(options),
    // A host that is an address counts as a long name.
    RABBITMQ_USE_LONGNAME: 'true',
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
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS: `-noinput -start_epmd false -kernel inet_dist_use_interface {${address.replaceAll('.', ',')}}`,
  }
}

const isRunning = (child: ChildProcess): boolean => child.exitCode === null && child.signalCode === null

/** Sends the signal, after 20 s SIGKILL, and resolves when the process is gone. */
export async function stopChild(child: ChildProcess | undefined, signal: NodeJS.Signals): Promise<void> {
  if (child === undefined || !isRunning(child)) return
  const ended = new Promise<void>((done) => child.once('exit', () => done()))
  child.kill(signal)
  const timer = setTimeout(() => child.kill('SIGKILL'), 20_000)
  await ended
  clearTimeout(timer)
}

function buildCommand(prefix: readonly string[] = [], program: string, ...args: readonly string[]): { readonly command: string; readonly args: readonly string[] } {
  const [command = program, ...rest] = [...prefix, program, ...args]
  return { command, args: rest }
}

/** The process by which nodes find each other: one for each address and port. Stop it with `stopChild`. */
export function startEpmd(options: RabbitNodeOptions): ChildProcess {
  const { command, args } = buildCommand(options.prefix, 'epmd', '-port', String(options.ports.epmd), '-address', options.address)
  return spawn(command, args, { env: buildRabbitEnvironment(options), stdio: 'ignore' })
}

const readyTimeoutMs = 90_000

async function waitUntilReady(url: string, child: ChildProcess, output: () => string): Promise<void> {
  const until = Date.now() + readyTimeoutMs
  for (;;) {
    try {
      const connection = await connect(url, { timeout: 2_000 })
      await connection.close()
      return
    } catch (error) {
      if (!isRunning(child) || Date.now() > until) {
        const reason = isRunning(child) ? `not ready within ${readyTimeoutMs} ms` : `it ended (${child.exitCode ?? child.signalCode})`
        throw new Error(`the private RabbitMQ did not start: ${reason}; ${error instanceof Error ? error.message : String(error)}\n${output().slice(-4_000)}`)
      }
      await new Promise((resume) => setTimeout(resume, 50))
    }
  }
}

/** A node that is not started yet, with its configuration written. `server`: path of the server program. Its epmd must run when it starts. */
export function openRabbitNode(options: RabbitNodeOptions, server: string): RabbitNode {
  writeRabbitConfiguration(options)
  const env = buildRabbitEnvironment(options)
  const { directory, address, ports, prefix } = options
  const url = `amqp://guest:guest@${address}:${ports.amqp}`
  const output = (): string => readFileSync(join(directory, 'output'), 'utf8')
  let broker: ChildProcess | undefined
  const signal = (name: NodeJS.Signals): void => {
    if (broker && isRunning(broker)) broker.kill(name)
  }
  return {
    nodeName: buildNodeName(options),
    directory,
    url,
    tlsUrl: `amqps://guest:guest@${address}:${ports.tls ?? 0}`,
    output,
    pid: () => (broker && isRunning(broker) ? broker.pid : undefined),
    async start() {
      const { command, args } = buildCommand(prefix, '/bin/sh', '-c', 'exec "$0" >>"$1" 2>&1', server, join(directory, 'output'))
      broker = spawn(command, args, { env, stdio: 'ignore', cwd: directory })
      await waitUntilReady(url, broker, output)
    },
    stop: (name = 'SIGTERM') => stopChild(broker, name),
    pause: () => signal('SIGSTOP'),
    resume: () => signal('SIGCONT'),
    async control(...args) {
      const ctl = buildCommand(prefix, join(dirname(server), 'rabbitmqctl'), ...args)
      // Not spawnSync: the connections of the test must go on meanwhile.
      const child = spawn(ctl.command, ctl.args, { env, stdio: ['ignore', 'pipe', 'pipe'] })
      const text = { stdout: '', stderr: '' }
      child.stdout.setEncoding('utf8').on('data', (chunk: string) => (text.stdout += chunk))
      child.stderr.setEncoding('utf8').on('data', (chunk: string) => (text.stderr += chunk))
      const code = await new Promise((done) => child.once('close', done))
      if (code !== 0) throw new Error(`rabbitmqctl ${args.join(' ')}: ${text.stderr || text.stdout}`)
      return text.stdout
    },
  }
}

/** Path of the server program, installed first when this is root; or why there is none. */
export function findRabbitServer(script: string): { readonly server: string } | { readonly missing: string } {
  const found = spawnSync(process.execPath, [script], { encoding: 'utf8' })
  return found.status === 0 ? { server: found.stdout.trim() } : { missing: found.stderr.trim() || String(found.error) }
}
