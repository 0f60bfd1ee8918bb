/**
 * The engine: takes tasks, drives them, and lets the agents in. Puts the parts together and carries messages between gateway and tasks.
 * Several engines may share one store and broker; `name` must be unique among those that run.
 */
import type { Broker } from '@lichen/broker'
import type { Catalog, NodeReach, World } from '@lichen/core'
import type { Store } from '@lichen/store'
import type { Registry } from 'prom-client'
import type { Authority } from './authority/authority.js'
import { buildEngineLimits, type EngineLimits, type PartialEngineLimits } from './engine-limits.js'
import type { EngineLog } from './engine-log.js'
import { type Gateway, startGateway } from './gateway/gateway.js'
import { startLogWriter } from './gateway/log-writer.js'
import { type NodeDirectory, startNodeDirectory } from './gateway/node-directory.js'
import type { SessionListener } from './gateway/session.js'
import { buildSessions, type Sessions } from './gateway/sessions.js'
import { buildMetrics, type EngineMetrics } from './metrics.js'
import type { Sealer } from './sealer.js'
import { parseReport, reportRefusal } from './tasks/attempt-report.js'
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
  /** Milliseconds since the epoch. */
  readonly now: () => number
  readonly log: EngineLog
  /** Where metrics are registered; must not have those of another engine. */
  readonly registry: Registry
  /** Owner of the leases. An engine that comes back under the same name takes its tasks at once, so the old one must be dead. */
  readonly name: string
  /** Where agents connect. Port 0 lets the system choose. */
  readonly gateway: { readonly host: string; readonly port: number }
  readonly limits?: PartialEngineLimits
}

export interface Engine {
  readonly gatewayPort: number
  /** Stops taking and driving, gives the leases back, closes the streams. Nodes go on with what they run and report later. */
  stop(): Promise<void>
}

/**
 * A running engine.
 * @throws SERVER_PORT_TAKEN, STORE_UNAVAILABLE, BROKER_UNAVAILABLE
 */
export async function startEngine(options: EngineOptions): Promise<Engine> {
  const { store, broker, authority, now, log } = options
  const limits = buildEngineLimits(options.limits)
  const metrics = buildMetrics(options.registry)
  const sessions = buildSessions(log, metrics)
  const directory = await startNodeDirectory({
    nodes: store.nodes, now, log, limits, hasSession: (node) => sessions.find(node) !== undefined,
    changed: () => reviewNodes(),
  })
  let intake: Intake | undefined = undefined as Intake | undefined
  const roster = buildTaskRoster(options, limits, metrics, sessions, directory, () => intake?.sweep())
  const logWriter = startLogWriter({ logs: store.logs, flushMs: limits.logFlushMs, isOwn: (session, key) => roster.isOwn(session, key), log, metrics })

  /** Who was deleted loses its stream; who was cordoned or is back changes what can be sent. */
  function reviewNodes(): void {
    for (const session of [...sessions.list()]) if (directory.find(session.node)?.keyDigest !== session.registration) session.close()
    for (const driver of roster.list()) driver.wake()
  }

  const listener = buildListener({ sessions, directory, roster, logWriter, now, log })
  let gateway: Gateway
  try {
    gateway = await startGateway({ ...options.gateway, nodes: store.nodes, authority, limits, now, log, directory, listener, metrics })
  } catch (error) {
    await directory.stop()
    throw error
  }
  intake = await startIntake({ broker, store, roster, limits, now, log })
  const stopLeaseKeeper = startLeaseKeeper({ engine: options.name, store, roster, limits, now, log })
  log.info({ engine: options.name, gatewayPort: gateway.port, caDigest: authority.caDigest }, 'the engine is running')

  async function stop(): Promise<void> {
    await intake?.stop()
    await stopLeaseKeeper()
    await roster.stop()
    await logWriter.stop()
    sessions.closeAll()
    await gateway.stop()
    await directory.stop()
    log.info({ engine: options.name }, 'the engine has stopped')
  }
  let stopping: Promise<void> | undefined
  return { gatewayPort: gateway.port, stop: () => (stopping ??= stop()) }
}

function buildTaskRoster(options: EngineOptions, limits: EngineLimits, metrics: EngineMetrics, sessions: Sessions, directory: NodeDirectory, roomMade: () => void): Roster {
  const { store, catalog, authority, sealer, now, log, name } = options
  const world: World = { reachOf: (node): NodeReach => directory.reachOf(node, sessions.find(node) !== undefined) }
  return buildRoster({
    engine: name, store, limits, now, log, metrics, roomMade,
    startDriver: (lease, finished) =>
      startTaskDriver({
        lease, engine: name, store, sealer, signer: authority.signer, world, findSession: (node) => sessions.find(node),
        plan: (summary, plan, previewDigest) => planTask({ store, readNodes: () => directory.refresh(), catalog, log }, summary, plan, previewDigest),
        limits: limits.task, now, log, metrics, finished,
      }),
  })
}

interface ListenerParts {
  readonly sessions: Sessions
  readonly directory: NodeDirectory
  readonly roster: Roster
  readonly logWriter: ReturnType<typeof startLogWriter>
  readonly now: () => number
  readonly log: EngineLog
}

/** What comes from the nodes, and where it goes. */
function buildListener({ sessions, directory, roster, logWriter, now, log }: ListenerParts): SessionListener {
  return {
    opened(session, facts, agentVersion) {
      sessions.add(session, facts)
      directory.recordHello(session.node, facts, agentVersion)
      for (const driver of roster.list()) driver.connected(session.node)
    },
    closed(session) {
      logWriter.forget(session)
      roster.forget(session)
      sessions.remove(session)
      for (const driver of roster.list()) driver.wake(session.node)
    },
    heartbeat: (session, facts) => directory.recordSign(session.node, facts),
    result(session, report) {
      if (report.key === undefined) return log.warn({ nodeId: session.node }, 'a node sent a result that does not say of what; it was dropped')
      const { key } = report
      const parsed = parseReport(session.node, key, report, now(), () => session.send({ $case: 'resultAck', value: { key } }))
      logWriter.afterStored(session, key, () => roster.report(session, parsed))
    },
    refused(session, refused) {
      if (refused.key === undefined) return log.warn({ nodeId: session.node, code: refused.code, reason: refused.message }, 'a node refused an order that it cannot name')
      log.warn({ nodeId: session.node, taskId: refused.key.taskId, actionId: refused.key.actionId, code: refused.code, reason: refused.message }, 'a node refused an order')
      roster.report(session, reportRefusal(session.node, refused.key, refused, now()))
    },
    log: (session, chunk) => logWriter.write(session, chunk),
  }
}
