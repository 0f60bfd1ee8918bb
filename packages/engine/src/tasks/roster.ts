/**
 * The tasks that this engine drives. Owns the drivers, the taking and giving back of leases, and results that came before their task was taken.
 * Invariants: (1) a task has at most one driver here; (2) a lease is given back before it is taken again, so that the give-back cannot undo the
 * taking; (3) a result for a task that is not driven here waits until it is, or until the store says that nobody needs it; its node forgets it only then.
 */
import { type ActionId, LichenError, type NodeId, type TaskId, taskId } from '@lichen/core'
import type { AttemptKey } from '@lichen/protocol'
import type { Lease, Store } from '@lichen/store'
import type { EngineLimits } from '../engine-limits.js'
import type { EngineLog } from '../engine-log.js'
import type { Session } from '../gateway/session.js'
import type { EngineMetrics } from '../metrics.js'
import type { AttemptReport } from './attempt-report.js'
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
  report(session: Session, report: AttemptReport): void
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
  readonly engine: string
  readonly store: Pick<Store, 'tasks'>
  readonly limits: EngineLimits
  readonly now: () => number
  readonly log: EngineLog
  readonly metrics: EngineMetrics
  readonly startDriver: (lease: Lease, finished: (driver: TaskDriver, how: 'ended' | 'lost') => void) => TaskDriver
  /** Called when a task left and another may be taken. */
  readonly roomMade: () => void
}

/** A roster without tasks. */
export function buildRoster({ engine, store, limits, now, log, metrics, startDriver, roomMade }: RosterParts): Roster {
  const drivers = new Map<TaskId, TaskDriver>()
  const taking = new Map<TaskId, Promise<Taken>>()
  const leaving = new Map<TaskId, Promise<void>>()
  const held = new Map<TaskId, Map<Session, AttemptReport[]>>()
  const adopting = new Set<TaskId>()
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
    const lease = await store.tasks.claim(task, engine, now(), limits.leaseTtlMs)
    if (lease === undefined) return 'refused'
    if (isStopped) {
      await store.tasks.release(task, engine)
      return 'full'
    }
    const driver = startDriver(lease, leave)
    drivers.set(task, driver)
    metrics.tasksOwned.set(drivers.size)
    log.info({ taskId: task, epoch: lease.epoch }, 'a task is taken')
    for (const reports of held.get(task)?.values() ?? []) for (const report of reports) driver.report(report)
    held.delete(task)
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

  function hold(session: Session, report: AttemptReport): void {
    const task = taskId(report.key.taskId)
    let ofTask = held.get(task)
    if (ofTask === undefined) held.set(task, (ofTask = new Map()))
    ofTask.set(session, [...(ofTask.get(session) ?? []), report])
    if (adopting.has(task)) return
    adopting.add(task)
    adopt(task)
      .catch((error: unknown) => log.warn({ err: error, taskId: task }, 'a result waits: the store could not say whose task it is'))
      .finally(() => adopting.delete(task))
  }

  /** Finds out who needs the results that wait: this engine, if it can have the task; nobody, when the task has ended; else they go on waiting. */
  async function adopt(task: TaskId): Promise<void> {
    const row = await store.tasks.read(task)
    if (row === undefined || row.summary.state === 'ended') {
      const reports = [...(held.get(task)?.values() ?? [])].flat()
      held.delete(task)
      log.warn({ taskId: task, results: reports.length, state: row?.summary.state ?? 'unknown' }, 'results of a task that has ended or is not known; they are dropped')
      for (const report of reports) report.acknowledge()
    } else await take(task)
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
    report(session, report) {
      const driver = drivers.get(taskId(report.key.taskId))
      if (driver) driver.report(report)
      else hold(session, report)
    },
    isOwn: (session, key) => drivers.get(taskId(key.taskId))?.isOwn(session.node, key) ?? isOwnByStore(session.node, key),
    forget(session) {
      for (const [task, ofTask] of held) {
        ofTask.delete(session)
        if (ofTask.size === 0) held.delete(task)
      }
    },
    lose(task) {
      const driver = drivers.get(task)
      if (driver === undefined) return
      log.warn({ taskId: task }, 'the lease of a task was lost')
      driver.stop().catch((error: unknown) => log.error({ err: error, taskId: task }, 'a driver did not stop cleanly'))
      leave(driver, 'lost')
    },
    async stop() {
      isStopped = true
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
