/**
 * Results and refusals of nodes that are connected here. Owns them until somebody has recorded them: the driver here; the engine that drives the task (told over its
 * mailbox, again and again until it answers); this engine after taking the task; or nobody, when the store says that the task has ended.
 * Invariant: a node is told that its result is recorded only then, and as long as its stream lasts the result is not forgotten before.
 */
import { type Clock, type TaskId, taskId } from '@lichen/core'
import { type AgentMessage, type AttemptKey, attemptKeyText } from '@lichen/protocol'
import type { Store } from '@lichen/store'
import type { EngineLog } from '../engine-log.js'
import type { Session } from '../gateway/session.js'
import type { AttemptReport } from './attempt-report.js'

export interface HeldReports {
  /** The report as the driver is to have it: acknowledging it ends its being held. `message`: as it came, to be passed on when no driver here has the task. */
  hold(session: Session, report: AttemptReport, message: NonNullable<AgentMessage['message']>): AttemptReport
  /** The reports of a task that is driven here from now on; held until they are acknowledged. */
  takeOf(task: TaskId): readonly AttemptReport[]
  /** The engine that drives the task has recorded it. */
  release(session: Session, key: AttemptKey): void
  /** An order of this engine went to the node: reports of the task are for it. */
  expect(task: TaskId, engine: string): void
  /** The engine that ordered last, or undefined. */
  ownerOf(task: TaskId): string | undefined
  /** Forgets reports of this stream; its node sends them again on the next. */
  forget(session: Session): void
  stop(): void
}

export interface HeldReportsParts {
  readonly engine: string
  readonly store: Pick<Store, 'tasks'>
  readonly clock: Clock
  readonly log: EngineLog
  readonly isDriven: (task: TaskId) => boolean
  /** Takes the task for this engine, if it can. */
  readonly take: (task: TaskId) => Promise<unknown>
  /** Passes the message to another engine; false when it is not there. */
  readonly forward: (engine: string, session: Session, message: NonNullable<AgentMessage['message']>) => Promise<boolean>
}

interface Held {
  readonly session: Session
  readonly report: AttemptReport
  readonly message: NonNullable<AgentMessage['message']>
  toldAt: number
}

// As for commands that are not answered (peers/remote-stream.ts).
const repeatAfterMs = 2_000
const repeatMs = 1_000
// Owners remembered from their orders; beyond it the store is asked.
const ownersKept = 10_000

/** Nothing is held. */
export function startHeldReports({ engine, store, clock, log, isDriven, take, forward }: HeldReportsParts): HeldReports {
  const held = new Map<TaskId, Map<string, Held>>()
  const owners = new Map<TaskId, string>()
  let looking: Promise<void> | undefined

  const keyOf = (session: Session, key: AttemptKey): string => `${session.id} ${attemptKeyText(key)}`

  async function pass(task: TaskId, entry: Held): Promise<void> {
    const owner = owners.get(task)
    entry.toldAt = clock.elapsed()
    if (owner !== undefined && (await forward(owner, entry.session, entry.message))) return
    if (owners.get(task) === owner) owners.delete(task)
    await look([task])
  }

  /** Asks the store who needs the reports of these tasks. */
  async function look(tasks: readonly TaskId[]): Promise<void> {
    const found = await store.tasks.readOwners(tasks)
    await Promise.all(tasks.map((task) => settle(task, found.get(task))))
  }

  async function settle(task: TaskId, owner: string | undefined): Promise<void> {
    const summary = await store.tasks.readSummary(task)
    if (summary === undefined || summary.state === 'ended') return drop(task, summary?.state ?? 'unknown')
    if (owner === undefined || owner === engine) return void (await take(task))
    remember(task, owner)
    const entries = [...(held.get(task)?.values() ?? [])]
    const arrived = await Promise.all(entries.map((entry) => forward(owner, entry.session, entry.message)))
    // Its engine is dead: the lease may have expired already.
    if (arrived.includes(false)) await take(task)
  }

  function drop(task: TaskId, state: string): void {
    const entries = [...(held.get(task)?.values() ?? [])]
    held.delete(task)
    if (entries.length > 0) log.warn({ taskId: task, results: entries.length, state }, 'results of a task that has ended or is not known; they are dropped')
    for (const { report } of entries) report.acknowledge()
  }

  function forgetOne(task: TaskId, key: string): void {
    const ofTask = held.get(task)
    ofTask?.delete(key)
    if (ofTask?.size === 0) held.delete(task)
  }

  function remember(task: TaskId, owner: string): void {
    if (owners.size >= ownersKept) owners.delete(owners.keys().next().value as TaskId)
    owners.set(task, owner)
  }

  const timer = clock.every(repeatMs, () => {
    if (looking !== undefined) return
    const oldest = clock.elapsed() - repeatAfterMs
    const late = [...held].filter(([task, entries]) => !isDriven(task) && [...entries.values()].some((entry) => entry.toldAt <= oldest)).map(([task]) => task)
    if (late.length === 0) return
    for (const task of late) for (const entry of held.get(task)?.values() ?? []) entry.toldAt = clock.elapsed()
    looking = look(late)
      .catch((error: unknown) => log.warn({ err: error, tasks: late.length }, 'results wait: the store could not say whose tasks they are'))
      .finally(() => (looking = undefined))
  })

  return {
    hold(session, report, message) {
      const task = taskId(report.key.taskId)
      let ofTask = held.get(task)
      if (ofTask === undefined) held.set(task, (ofTask = new Map()))
      const key = keyOf(session, report.key)
      const kept: AttemptReport = { ...report, acknowledge: () => (forgetOne(task, key), report.acknowledge()) }
      const entry: Held = { session, report: kept, message, toldAt: clock.elapsed() }
      ofTask.set(key, entry)
      if (!isDriven(task)) pass(task, entry).catch((error: unknown) => log.warn({ err: error, taskId: task }, 'a result waits: the store could not say whose task it is'))
      return kept
    },
    takeOf(task) {
      owners.delete(task)
      return [...(held.get(task)?.values() ?? [])].map(({ report }) => report)
    },
    release: (session, key) => forgetOne(taskId(key.taskId), keyOf(session, key)),
    expect: remember,
    ownerOf: (task) => owners.get(task),
    forget(session) {
      for (const [task, ofTask] of held) {
        for (const [key, entry] of ofTask) if (entry.session === session) ofTask.delete(key)
        if (ofTask.size === 0) held.delete(task)
      }
    },
    stop: () => timer.cancel(),
  }
}
