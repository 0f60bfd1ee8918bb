/**
 * How tasks come to this engine: bells from the broker, and a look at the store for tasks that nobody drives. The store is the truth: a bell that is
 * lost, doubled or late only moves the moment. Invariant: a bell is acknowledged once the lease is durable, or when there is nothing to do for it.
 */
import { type Clock, type TaskId, taskId } from '@lichen/core'
import type { Broker, Message, Verdict } from '@lichen/broker'
import type { Store } from '@lichen/store'
import type { EngineLimits } from '../engine-limits.js'
import type { EngineLog } from '../engine-log.js'
import { isOutage, type Roster } from './roster.js'

export interface IntakeParts {
  readonly broker: Broker
  readonly store: Pick<Store, 'tasks'>
  readonly roster: Roster
  readonly limits: EngineLimits
  readonly clock: Clock
  readonly log: EngineLog
}

export interface Intake {
  /** Looks at the store now rather than at the next turn. */
  sweep(): void
  stop(): Promise<void>
}

/** The task that a bell rings for, or what is wrong with the message. */
export function parseBell(body: string): { readonly task: TaskId } | { readonly problem: string } {
  let value: unknown
  try {
    value = JSON.parse(body)
  } catch (error) {
    return { problem: `the message is no JSON: ${(error as Error).message}` }
  }
  if (typeof value !== 'object' || value === null) return { problem: 'the message is no object' }
  const { v, task } = value as Record<string, unknown>
  if (v !== 1) return { problem: `the message has version ${JSON.stringify(v)}; this engine knows version 1` }
  if (typeof task !== 'string' || !/^t-[A-Za-z0-9-]{1,64}$/.test(task)) return { problem: '`task` is not the id of a task' }
  return { task: taskId(task) }
}

/** Takes tasks until it is stopped. */
export async function startIntake({ broker, store, roster, limits, clock, log }: IntakeParts): Promise<Intake> {
  let isStopped = false
  let sweeping: Promise<void> | undefined

  async function receive(message: Message): Promise<Verdict> {
    const bell = parseBell(message.body)
    if ('problem' in bell) return { verdict: 'dead', reason: `BROKER_MALFORMED_MESSAGE: ${bell.problem}` }
    const driver = roster.find(bell.task)
    if (driver) {
      driver.refresh()
      return { verdict: 'ack' }
    }
    try {
      const taken = await roster.take(bell.task)
      // A bell for a task that is not in the store comes from elsewhere, e.g. a second deployment on the same broker: kept for the operator to see.
      if (taken === 'refused' && (await store.tasks.readEvents(bell.task, 0, 1)).length === 0) return { verdict: 'dead', reason: `no task ${bell.task} in the store of this engine` }
      // Taken while the bell was on its way: what it rings for may be newer than what the driver has read.
      if (taken === 'driven') roster.find(bell.task)?.refresh()
      return { verdict: 'ack' }
    } catch (error) {
      if (!isOutage(error)) log.error({ err: error, taskId: bell.task }, 'a task could not be taken because of a defect')
      // Not for ever: after a few times the message dies, and the sweep finds the task in the store.
      return { verdict: 'retry' }
    }
  }

  async function look(horizon: number): Promise<void> {
    const room = roster.room()
    if (room <= 0) return
    const tasks = await store.tasks.listUnowned(clock.now() + horizon, room)
    await Promise.all(tasks.map((task) => roster.take(task)))
  }

  function sweep(horizon = 0): void {
    if (isStopped || sweeping !== undefined) return
    sweeping = look(horizon)
      .catch((error: unknown) => log.warn({ err: error }, 'the store could not say which tasks nobody drives; asking again'))
      .finally(() => (sweeping = undefined))
  }

  // A lease of this engine's own name from before its restart has not expired yet; taking it again keeps its epoch. Leases of others stay theirs.
  sweep(limits.leaseTtlMs)
  const timer = clock.every(limits.sweepMs, sweep)
  const cancel = await broker.consume('tasks', limits.prefetch, receive)
  return {
    sweep,
    async stop() {
      isStopped = true
      timer.cancel()
      await cancel()
      await sweeping
    },
  }
}
