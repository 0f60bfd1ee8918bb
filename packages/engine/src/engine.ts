/**
 * The engine: takes tasks, drives them, and lets the agents in. Puts the parts together. Several engines may share one store and broker; they tell each other which
 * nodes are connected where, and pass commands and results on (peers/).
 */
import type { Broker } from '@lichen/broker'
import type { Catalog, Clock, LichenError, NodeReach, World } from '@lichen/core'
import type { EngineIdentity, Store } from '@lichen/store'
import type { Registry } from 'prom-client'
import type { Authority } from './authority/authority.js'
import { buildEngineLimits, type EngineLimits, type PartialEngineLimits } from './engine-limits.js'
import type { EngineLog } from './engine-log.js'
import { type EngineRegistry, startEngineRegistry } from './engine-registry.js'
import { type Gateway, type GatewayParts, startGateway } from './gateway/gateway.js'
import { startLogWriter } from './gateway/log-writer.js'
import { type NodeDirectory, startNodeDirectory } from './gateway/node-directory.js'
import type { NodeStream } from './gateway/node-stream.js'
import { buildSessions, type Sessions } from './gateway/sessions.js'
import { buildMetrics, type EngineMetrics } from './metrics.js'
import { buildPeerListener, buildSessionListener } from './node-traffic.js'
import { joinPeers, type Peers } from './peers/peers.js'
import type { Sealer } from './sealer.js'
import { type Intake, startIntake } from './tasks/intake.js'
import { startLeaseKeeper } from './tasks/lease-keeper.js'
import { planTask } from './tasks/plan-task.js'
import { buildRoster, type Roster } from './tasks/roster.js'
import { startTaskDriver } from './tasks/task-driver.js'

export interface EngineOptions {
  readonly store: Store
  readonly broker: Broker
  readonly catalog: Catalog
  readonly authority: Authority
  readonly sealer: Sealer
  readonly clock: Clock
  readonly log: EngineLog
  /** Where metrics are registered; must not have those of another engine. */
  readonly registry: Registry
  /** `name`: owner of the leases; an engine that comes back under the same name takes its tasks at once. `instance`: new for every process. */
  readonly identity: EngineIdentity
  /** The caller has proved that an earlier process of this name is dead. Default: false. */
  readonly isSuccessor?: boolean
  /** Where agents connect. Port 0 lets the system choose. `advertise`: what agents are told to connect to, for the port it got. Without it this engine has no gateway. */
  readonly gateway?: { readonly host: string; readonly port: number; readonly advertise: (port: number) => string }
  /** Whether it takes tasks, or is a gateway alone. Default: true. */
  readonly takesTasks?: boolean
  readonly limits?: PartialEngineLimits
  /** The engine cannot go on, because another process has its name. It has begun to stop. */
  readonly failed?: (error: LichenError) => void
  /** How the gateway is opened. Default: gRPC over TLS. */
  readonly openGateway?: (parts: GatewayParts) => Promise<Gateway>
}

export interface Engine {
  /** 0 without a gateway. */
  readonly gatewayPort: number
  /** Stops taking and driving, gives the leases back, closes the streams. Nodes go on with what they run and report later. */
  stop(): Promise<void>
}

/** Undone in the reverse order, whether the start came to its end or not. */
type Undo = () => Promise<unknown> | unknown

/**
 * A running engine.
 * @throws SERVER_PORT_TAKEN, STORE_UNAVAILABLE, BROKER_UNAVAILABLE, BROKER_MAILBOX_TAKEN, ENGINE_NAME_TAKEN; nothing is left running then
 */
export async function startEngine(options: EngineOptions): Promise<Engine> {
  const undo: Undo[] = []
  let stopping: Promise<void> | undefined
  const stop = (): Promise<void> => (stopping ??= stopAll(undo, options.log))
  try {
    const gatewayPort = await startParts(options, undo, stop)
    options.log.info({ engine: options.identity.name, gatewayPort, caDigest: options.authority.caDigest }, 'the engine is running')
    return { gatewayPort, stop }
  } catch (error) {
    await stop()
    throw error
  }
}

async function stopAll(undo: Undo[], log: EngineLog): Promise<void> {
  for (let next = undo.pop(); next; next = undo.pop()) {
    try {
      await next()
    } catch (error) {
      log.error({ err: error }, 'a part of the engine could not be stopped')
    }
  }
  log.info({}, 'the engine has stopped')
}

async function startParts(options: EngineOptions, undo: Undo[], stop: () => Promise<void>): Promise<number> {
  const { store, broker, clock, log, identity } = options
  const limits = buildEngineLimits(options.limits)
  const metrics = buildMetrics(options.registry)
  const sessions = buildSessions(log, metrics)
  let peers: Peers | undefined = undefined as Peers | undefined
  let intake: Intake | undefined = undefined as Intake | undefined
  let engines: EngineRegistry | undefined = undefined as EngineRegistry | undefined
  const directory = await startNodeDirectory({ nodes: store.nodes, clock, engine: identity.name, log, limits, hasSession: (node) => sessions.find(node) !== undefined, changed: () => reviewNodes() })
  undo.push(() => directory.stop())
  const findStream = (node: NodeStream['node']): NodeStream | undefined => sessions.find(node) ?? peers?.find(node)
  const roster = buildTaskRoster(options, { limits, metrics, directory, findStream, forward: async (...report) => (await peers?.forward(...report)) ?? false, roomMade: () => intake?.sweep() })
  // For a start that fails below; else it is stopped before what it needs, and a second time does nothing.
  undo.push(() => roster.stop())
  const logWriter = startLogWriter({ logs: store.logs, flushMs: limits.logFlushMs, clock, isOwn: (session, key) => roster.isOwn(session, key), log, metrics })

  /** Who was deleted loses its stream; who was cordoned or is back changes what can be sent. */
  function reviewNodes(): void {
    for (const session of [...sessions.list()]) if (directory.find(session.node)?.keyDigest !== session.registration) session.close()
    for (const driver of roster.list()) driver.wake()
  }

  const traffic = { sessions, directory, roster, logWriter, clock, log, limits, findPeers: () => peers }
  peers = await joinPeers({ engine: identity.name, broker, sessions, listener: buildPeerListener(traffic), clock, log })
  undo.push(() => peers?.stop())
  engines = await startEngineRegistry({
    engine: identity, isSuccessor: options.isSuccessor ?? false, store, ttlMs: limits.engineTtlMs, clock, log,
    alive(names) {
      peers?.keepOnly(names)
      // Forgotten while its row could not be renewed, or a message was lost: its engine would never say again that the node is there.
      const silent = new Set([...directory.list()].flatMap(({ id, engine }) => (engine !== null && engine !== identity.name && names.has(engine) && findStream(id) === undefined ? [engine] : [])))
      for (const engine of silent) peers?.ask(engine)
    },
    gatewaysChanged() {
      for (const session of sessions.list()) session.send({ $case: 'gateways', value: { gateways: [...(engines?.gateways() ?? [])] } })
    },
    replaced(error) {
      log.error({ err: error, engine: identity.name }, 'another process has the name of this engine; it stops')
      void stop().then(() => options.failed?.(error))
    },
  })
  undo.push(() => engines?.stop())
  const gateway = await openGateway(options, { directory, sessions, limits, metrics, listener: buildSessionListener(traffic), gateways: () => engines?.gateways() ?? [] }, undo)
  if (options.gateway && gateway) await engines.announceGateway(options.gateway.advertise(gateway.port))
  undo.push(() => logWriter.stop())
  undo.push(() => roster.stop())
  if (options.takesTasks === false) return gateway?.port ?? 0
  undo.push(startLeaseKeeper({ engine: identity, store, roster, limits, clock, log }))
  intake = await startIntake({ broker, store, roster, limits, clock, log })
  undo.push(() => intake?.stop())
  return gateway?.port ?? 0
}

async function openGateway({ gateway: where, store, authority, clock, log, identity, openGateway: open = startGateway }: EngineOptions, parts: Pick<GatewayParts, 'directory' | 'limits' | 'listener' | 'metrics' | 'gateways'> & { readonly sessions: Sessions }, undo: Undo[]): Promise<Gateway | undefined> {
  if (where === undefined) return undefined
  const { sessions, ...rest } = parts
  const gateway = await open({ host: where.host, port: where.port, nodes: store.nodes, authority, clock, log, instance: identity.instance, ...rest })
  undo.push(async () => {
    sessions.closeAll()
    await gateway.stop()
  })
  return gateway
}

interface TaskSurroundings {
  readonly limits: EngineLimits
  readonly metrics: EngineMetrics
  readonly directory: NodeDirectory
  readonly findStream: (node: NodeStream['node']) => NodeStream | undefined
  readonly forward: Peers['forward']
  readonly roomMade: () => void
}

function buildTaskRoster(options: EngineOptions, { limits, metrics, directory, findStream, forward, roomMade }: TaskSurroundings): Roster {
  const { store, catalog, authority, sealer, clock, log, identity } = options
  const world: World = { reachOf: (node): NodeReach => directory.reachOf(node, findStream(node) !== undefined) }
  return buildRoster({
    engine: identity, store, limits, clock, log, metrics, forward, roomMade,
    startDriver: (lease, finished) =>
      startTaskDriver({
        lease, engine: identity.name, store, sealer, signer: authority.signer, world, findStream,
        plan: (summary, plan, asked) => planTask({ store, readNodes: () => directory.refresh(), catalog, lostAfterMs: directory.lostAfterMs(), log }, summary, plan, asked),
        limits: limits.task, clock, log, metrics, finished,
      }),
  })
}
