/**
 * The tasks that this engine drives. Owns the drivers, and the taking and giving back of leases.
 * Invariants: (1) a task has at most one driver here; (2) a lease is given back before it is taken again, so that the give-back cannot undo the
 * taking; (3) a result for a task that is not driven here is held (held-reports.ts) until it is, or until somebody else has it.
 */
import { type ActionId, type Clock, LichenError, type NodeId, type TaskId, taskId } from '@lichen/core'
import { type AgentMessage, type AttemptKey, attemptKeyText } from '@lichen/protocol'
import type { EngineIdentity, Lease, Store } from '@lichen/store'
import type { EngineLimits } from '../engine-limits.js'
import type { EngineLog } from '../engine-log.js'
import type { Session } from '../gateway/session.js'
import type { EngineMetrics } from '../metrics.js'
import type { AttemptReport } from './attempt-report.js'
import { startHeldReports } from './held-reports.js'
import type { TaskDriver } from './task-driver.js'

/** `driven`: by this engine. `full`: this engine drives as many as it may. `refused`: another engine has the lease, or there is no such task. */
export type Taken = 'driven' | 'full' | 'refused'

export interface Roster {
  /** Takes the task, unless this engine has it already. @throws STORE_UNAVAILABLE */
  take(task: TaskId): Promise<Taken>
  find(task: TaskId): TaskDriver | undefined
  list(): Iterable<TaskDriver>
  /** How many more tasks this engine may drive. */
  room(): number
  /** A node that is connected here says what became of an attempt. `message`: the same as it came. */
  report(session: Session, report: AttemptReport, message: NonNullable<AgentMessage['message']>): void
  /** The same from a node that is connected to another engine: dropped when the task is not driven here, that engine will find out who does. */
  reportFromPeer(report: AttemptReport): void
  /** A command of the engine that drives the task passes through here to its node. */
  passed(session: Session, key: AttemptKey, engine: string): void
  /** The engine that drives the task has recorded the result. */
  recorded(session: Session, key: AttemptKey): void
  /** The other engine that drives this task, as far as its orders showed. */
  ownerOf(task: TaskId): string | undefined
  /** Whether the attempt is one of this node: asks the driver, or the store when the task is not driven here. */
  isOwn(session: Session, key: AttemptKey): boolean | Promise<boolean>
  /** Forgets results of this stream; its node sends them again on the next. */
  forget(session: Session): void
  /** Drops the task: another engine has it. */
  lose(task: TaskId): void
  /** Stops driving and gives the leases back. */
  stop(): Promise<void>
}

export interface RosterParts {
  readonly engine: EngineIdentity
  readonly store: Pick<Store, 'tasks'>
  readonly limits: EngineLimits
  readonly clock: Clock
  readonly log: EngineLog
  readonly metrics: EngineMetrics
  readonly startDriver: (lease: Lease, finished: (driver: TaskDriver, how: 'ended' | 'lost') => void) => TaskDriver
  readonly forward: (engine: string, session: Session, message: NonNullable<AgentMessage['message']>) => Promise<boolean>
  /** Called when a task left and another may be taken. */
  readonly roomMade: () => void
}

/** A roster without tasks. */
export function buildRoster({ engine, store, limits, clock, log, metrics, startDriver, forward, roomMade }: RosterParts): Roster {
  const drivers = new Map<TaskId, TaskDriver>()
  const taking = new Map<TaskId, Promise<Taken>>()
  const leaving = new Map<TaskId, Promise<void>>()
  const held = startHeldReports({ engine: engine.name, store, clock, log, isDriven: (task) => drivers.has(task), take, forward })
  /** Attempts whose orders passed through here to this stream. */
  const passed = new WeakMap<Session, Set<string>>()
  let isStopped = false

  function take(task: TaskId): Promise<Taken> {
    if (drivers.has(task)) return Promise.resolve('driven')
    const under = taking.get(task) ?? claim(task).finally(() => taking.delete(task))
    taking.set(task, under)
    return under
  }

  async function claim(task: TaskId): Promise<Taken> {
    await leaving.get(task)
    if (isStopped || drivers.size >= limits.maxTasks) return 'full'
    const lease = await store.tasks.claim(task, engine, clock.now(), limits.leaseTtlMs)
    if (lease === undefined) return 'refused'
    if (isStopped) {
      await store.tasks.release(task, engine)
      return 'full'
    }
    const driver = startDriver(lease, leave)
    drivers.set(task, driver)
    metrics.tasksOwned.set(drivers.size)
    log.info({ taskId: task, epoch: lease.epoch }, 'a task is taken')
    for (const report of held.takeOf(task)) driver.report(report)
    return 'driven'
  }

  function leave(driver: TaskDriver, how: 'ended' | 'lost'): void {
    const { task } = driver
    if (drivers.get(task) !== driver) return
    drivers.delete(task)
    metrics.tasksOwned.set(drivers.size)
    if (how === 'ended') release(task)
    roomMade()
  }

  function release(task: TaskId): void {
    const released = store.tasks
      .release(task, engine)
      .catch((error: unknown) => log.warn({ err: error, taskId: task }, 'a lease could not be given back; it will expire'))
      .finally(() => leaving.delete(task))
    leaving.set(task, released)
  }

  async function isOwnByStore(node: NodeId, key: AttemptKey): Promise<boolean> {
    const row = await store.tasks.read(taskId(key.taskId))
    return row?.graph?.actions.some((action) => action.id === (key.actionId as ActionId) && action.node === node) === true
  }

  return {
    take,
    find: (task) => drivers.get(task),
    list: () => drivers.values(),
    room: () => (isStopped ? 0 : limits.maxTasks - drivers.size),
    report(session, report, message) {
      const kept = held.hold(session, report, message)
      drivers.get(taskId(report.key.taskId))?.report(kept)
    },
    reportFromPeer: (report) => drivers.get(taskId(report.key.taskId))?.report(report),
    passed(session, key, from) {
      held.expect(taskId(key.taskId), from)
      const keys = passed.get(session) ?? new Set()
      passed.set(session, keys.add(attemptKeyText(key)))
    },
    recorded(session, key) {
      held.release(session, key)
      passed.get(session)?.delete(attemptKeyText(key))
    },
    ownerOf: (task) => held.ownerOf(task),
    isOwn(session, key) {
      if (passed.get(session)?.has(attemptKeyText(key))) return true
      return drivers.get(taskId(key.taskId))?.isOwn(session.node, key) ?? isOwnByStore(session.node, key)
    },
    forget: (session) => held.forget(session),
    lose(task) {
      const driver = drivers.get(task)
      if (driver === undefined) return
      log.warn({ taskId: task }, 'the lease of a task was lost')
      driver.stop().catch((error: unknown) => log.error({ err: error, taskId: task }, 'a driver did not stop cleanly'))
      leave(driver, 'lost')
    },
    async stop() {
      isStopped = true
      held.stop()
      await Promise.allSettled(taking.values())
      const all = [...drivers.values()]
      drivers.clear()
      await Promise.allSettled(all.map((driver) => driver.stop()))
      for (const { task } of all) release(task)
      await Promise.all(leaving.values())
      metrics.tasksOwned.set(0)
    },
  }
}

/** True for errors that pass by themselves. */
export const isOutage = (error: unknown): boolean => error instanceof LichenError && error.entry.kind === 'unavailable'
