/**
 * Lichen scaled out, every process in a place of its own: PostgreSQL, RabbitMQ (three nodes), API, two engines with gateways, agents. Owns what it starts; nothing
 * here breaks anything (faults.ts does) or looks at what came of it (checks.ts does).
 */
import { randomBytes } from 'node:crypto'
import { spawnSync, type ChildProcess } from 'node:child_process'
import { chmodSync, copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { startPostgres, type PrivatePostgres } from '../test/postgres.js'
import { buildNodeName, findRabbitServer, openRabbitNode, startEpmd, stopChild, type RabbitNode, type RabbitNodeOptions } from '../test/rabbitmq-node.js'
import { openClient, type ApiNode, type Client } from './api.js'
import type { Teardown } from './leftovers.js'
import type { Network, Place } from './network.js'
import { until } from './patience.js'
import { openSupervised, type Supervised } from './supervised.js'

const here = import.meta.dirname
const checkout = resolve(here, '..')
export const serverProgram = join(checkout, 'packages/server/dist/main.js')
export const agentProgram = join(checkout, 'packages/agent/dist/main.js')
export const catalogDirectory = join(here, 'catalog')
export const effectScript = join(here, 'effect.sh')

/** As the units of systemd say (RestartSec), but sooner: what is down cannot be killed again. */
const restartMs = 700
export const gatewayPort = 8471
const apiPort = 8470

/** A place with the process in it that can die. */
export interface Member {
  readonly place: Place
  readonly process: Supervised
}

export interface AgentMember extends Member {
  /** Its ledger stands here, outside of what the agent is confined to. */
  readonly home: string
  /** Small file system of the agent's own data; undefined where none can be mounted. */
  readonly dataDirectory: string
  readonly hasSmallDisk: boolean
}

export interface RabbitMember {
  readonly place: Place
  readonly node: RabbitNode
}

export interface System {
  readonly network: Network
  readonly postgres: { readonly place: Place; readonly server: PrivatePostgres }
  readonly rabbits: readonly RabbitMember[]
  readonly api: Member
  readonly engines: readonly Member[]
  readonly agents: readonly AgentMember[]
  readonly client: Client
  /** `host:port` of each gateway. */
  readonly gateways: readonly string[]
  /** Directory that commands of namespaced nodes know as their `home`. */
  readonly effectsDirectory: string
  makeJoinToken(uses: number): Promise<string>
  /** Resolves when exactly these nodes are ready. */
  untilReady(names: readonly string[], timeoutMs: number): Promise<void>
}

export interface SystemOptions {
  readonly directory: string
  readonly network: Network
  readonly agentCount: number
  /** Called when the run ends, newest first. */
  readonly teardown: Teardown
  readonly say: (line: string) => void
}

/** The system, started: all nodes are ready. */
export async function startSystem(options: SystemOptions): Promise<System> {
  const { directory, network, agentCount, say } = options
  say(network.isCuttable ? `every process in a network namespace, bridge ${network.address}` : 'NOT ROOT: processes on loopback addresses; no partitions, no full disks')
  const [postgres, rabbits] = await Promise.all([startStore(options), startBroker(options)])
  say('PostgreSQL and three nodes of RabbitMQ are up')
  const env = {
    LICHEN_STORE_URL: postgres.server.url,
    LICHEN_BROKER_URL: rabbits.map(({ node }) => node.url).join(','),
    LICHEN_MASTER_KEY: randomBytes(32).toString('hex'),
    LICHEN_CATALOG: catalogDirectory,
    LICHEN_LOG_LEVEL: 'info',
  }
  const api = startServer(options, 'api', { ...env, LICHEN_ROLES: 'api' })
  const dataDirectory = join(directory, 'api', 'data')
  const client = openClient(`http://${api.place.address}:${apiPort}`, () => readFileSync(join(dataDirectory, 'admin.token'), 'utf8').trim())
  // One after the other: two that make the schema and the keys at the same moment is a test of its own (test/integration).
  await client.call('GET', '/v1/nodes')
  const engines = ['e1', 'e2'].map((name) => startServer(options, name, { ...env, LICHEN_ROLES: 'engine,gateway' }))
  const gateways = engines.map(({ place }) => `${place.address}:${gatewayPort}`)
  const makeJoinToken = async (uses: number): Promise<string> => (await client.call<{ token: string }>('POST', '/v1/join-tokens', { uses, ttlS: 3600 })).token
  const effectsDirectory = join(directory, 'effects')
  mkdirSync(effectsDirectory)
  copyFileSync(effectScript, join(effectsDirectory, 'effect.sh'))
  const token = await makeJoinToken(agentCount)
  const agents = Array.from({ length: agentCount }, (_, index) => startAgent(options, { name: `n${index + 1}`, token, gateways, effectsDirectory, hasSmallDisk: network.isCuttable && index < 2 }))
  const untilReady = async (names: readonly string[], timeoutMs: number): Promise<void> => {
    await until(`the nodes ${names.join(', ')} are ready`, timeoutMs, async () => {
      const nodes = await client.list<ApiNode>('/v1/nodes')
      if (nodes.length === names.length && names.every((name) => nodes.some(({ id, state }) => id === name && state === 'ready'))) return true
      throw new Error(nodes.map(({ id, state }) => `${id} ${state}`).join(', '))
    }, 200)
  }
  await untilReady(agents.map(({ place }) => place.name), 60_000)
  say(`api, two engines and ${agentCount} agents are up`)
  return { network, postgres, rabbits, api, engines, agents, client, gateways, effectsDirectory, makeJoinToken, untilReady }
}

async function startStore({ directory, network, teardown }: SystemOptions): Promise<System['postgres']> {
  const place = network.makePlace('pg')
  const home = join(directory, 'postgres')
  mkdirSync(home)
  // Its owner is another user, who must come through to it.
  for (const path of [directory, home]) chmodSync(path, 0o755)
  const server = await startPostgres({ teardown: (undo) => teardown(undo as () => Promise<void>), pass: () => true }, { directory: home, address: place.address, port: 5432, ...(place.prefix.length > 0 ? { prefix: place.prefix } : {}) })
  if (server === undefined) throw new Error('there is no PostgreSQL to run, and none can be installed here')
  return { place, server }
}

async function startBroker({ directory, network, teardown }: SystemOptions): Promise<readonly RabbitMember[]> {
  const found = findRabbitServer(join(checkout, 'scripts/install-rabbitmq.mjs'))
  if ('missing' in found) throw new Error(found.missing)
  const places = ['q1', 'q2', 'q3'].map((name) => network.makePlace(name))
  const cookie = randomBytes(16).toString('hex')
  const cluster = places.map((place) => buildNodeName(place))
  const settings = places.map((place): RabbitNodeOptions => ({
    directory: join(directory, place.name), name: place.name, address: place.address, prefix: place.prefix, ports: { amqp: 5672, distribution: 25672, epmd: 4369 }, cookie, cluster,
    // A silent peer counts as gone within ten seconds: partitions here last about as long.
    netTickS: 8,
  }))
  const nodes = settings.map((one) => openRabbitNode(one, found.server))
  const daemons: ChildProcess[] = settings.map(startEpmd)
  teardown(async () => {
    await Promise.all([...nodes.map((node) => node.stop('SIGKILL')), ...daemons.map((daemon) => stopChild(daemon, 'SIGKILL'))])
  })
  await Promise.all(nodes.map((node) => node.start()))
  return places.map((place, index) => ({ place, node: nodes[index]! }))
}

/** Command line that runs a Node.js program in a place. */
export const inPlace = ({ prefix }: Place, program: string, ...args: readonly string[]): [string, ...string[]] => [...prefix, process.execPath, program, ...args] as [string, ...string[]]

function startServer({ directory, network, teardown }: SystemOptions, name: string, env: NodeJS.ProcessEnv): Member {
  const place = network.makePlace(name)
  const home = join(directory, name)
  const process = openSupervised({
    name, argv: inPlace(place, serverProgram), directory: home, restartMs,
    env: { ...env, LICHEN_DATA_DIRECTORY: join(home, 'data'), LICHEN_HOST: place.address, LICHEN_PORT: String(apiPort), LICHEN_GATEWAY_HOST: place.address, LICHEN_GATEWAY_PORT: String(gatewayPort) },
  })
  teardown(() => process.stop())
  process.start()
  return { place, process }
}

/** Size of an agent's file system where it is to be filled: room for journal and spool, little enough to fill in a moment. */
const smallDiskBytes = 24 * 2 ** 20

function startAgent({ directory, network, teardown }: SystemOptions, input: { readonly name: string; readonly token: string; readonly gateways: readonly string[]; readonly effectsDirectory: string; readonly hasSmallDisk: boolean }): AgentMember {
  const { name, token, gateways, effectsDirectory, hasSmallDisk } = input
  const place = network.makePlace(name)
  const directoryOfAgent = join(directory, name)
  const dataDirectory = join(directoryOfAgent, 'data')
  const confine = join(directoryOfAgent, 'root')
  const home = join(effectsDirectory, name)
  for (const path of [dataDirectory, confine, join(home, 'made')]) mkdirSync(path, { recursive: true })
  writeFileSync(join(home, 'ledger'), '')
  if (hasSmallDisk) {
    const { status, stderr } = spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${smallDiskBytes},mode=0700`, `lichen-chaos-${name}`, dataDirectory], { encoding: 'utf8' })
    if (status !== 0) throw new Error(`mount: ${stderr}`)
  }
  const config = join(directoryOfAgent, 'agent.yaml')
  writeFileSync(config, buildAgentConfiguration({ name, token, gateway: gateways, dataDirectory, confine, address: place.address }))
  const process = openSupervised({ name, argv: inPlace(place, agentProgram, 'run', '--config', config), directory: directoryOfAgent, restartMs, finalCodes: [64, 78], env: {} })
  teardown(() => process.stop())
  process.start()
  return { place, process, home, dataDirectory, hasSmallDisk }
}

/** The text of an agent's configuration file. JSON values are YAML values. */
export function buildAgentConfiguration(input: { readonly name: string; readonly token: string; readonly gateway: string | readonly string[]; readonly dataDirectory: string; readonly confine: string; readonly address: string }): string {
  const { name, token, gateway, dataDirectory, confine, address } = input
  const fields = { gateway, token, name, dataDirectory, confine, address, labels: { chaos: 'namespace', node: name } }
  return Object.entries(fields).map(([key, value]) => `${key}: ${JSON.stringify(value)}\n`).join('')
}
