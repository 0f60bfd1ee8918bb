/** What a person asks of a task becomes an event beside those of its engine: who was first decides, and nobody's event is lost. */
import { setTimeout as sleep } from 'node:timers/promises'
import { LichenError, type ActionGraph, type TaskEvent, type TaskId, type TrackedTask } from '@lichen/core'
import type { SummaryChange, TaskSummary } from '@lichen/store'
import type { Context } from '../../context.js'
import type { TaskReading } from '../../tail/task-views.js'
import { unknownTask } from './unknown-task.js'

// An engine at full speed writes to a task some hundred times a second, and each time it may be first. Ten seconds are far more than bad luck.
const patienceMs = 10_000
const longestPauseMs = 20

/** What is to be appended: the event, and the row that follows from it. */
export interface Change {
  readonly event: TaskEvent
  readonly summary: SummaryChange
  /** In place of the graph and the plan (JSON text) that are there. */
  readonly graph?: ActionGraph
  readonly plan?: string
}

/**
 * Appends the event that `decide` gives for the newest state of the task, rings the bell, and gives back the row as it is then. `decide` is asked again
 * whenever somebody else was first, or it says `again`; undefined: there is nothing to append. It must use the view before it awaits anything.
 * @throws REQUEST_NOT_FOUND, STORE_UNAVAILABLE when others are always first, and what `decide` throws
 */
export async function appendRequest({ store, views, announcer, now }: Pick<Context, 'store' | 'views' | 'announcer' | 'now'>, task: TaskId, decide: (view: TrackedTask) => Promise<Change | 'again' | undefined> | Change | undefined): Promise<TaskSummary> {
  const until = performance.now() + patienceMs
  for (;;) {
    const reading = await views.read(task)
    if (reading === undefined) throw unknownTask(task)
    const { seq } = reading.view
    const row = describeRow(task, reading)
    const change = await decide(reading.view)
    if (change === undefined) return (await store.tasks.readSummary(task)) ?? row
    const at = now()
    if (change !== 'again' && (await append(store, task, seq, change, at))) {
      announcer.ring()
      return { ...row, ...change.summary, seq: seq + 1, updatedAt: at }
    }
    if (performance.now() > until) throw new LichenError('STORE_UNAVAILABLE', `task ${task} is written to all the time; the request could not be recorded`, { retryAfterS: 1 })
    await sleep(Math.random() * longestPauseMs)
  }
}

async function append(store: Context['store'], task: TaskId, expectedSeq: number, { event, summary, graph, plan }: Change, at: number): Promise<boolean> {
  const [answer] = await store.tasks.append([{ task, expectedSeq, epoch: null, events: [event], at, summary, announce: true, ...(graph === undefined ? {} : { graph }), ...(plan === undefined ? {} : { plan }) }])
  return answer === 'appended'
}

const describeRow = (id: TaskId, { view, accepted, updatedAt }: TaskReading): TaskSummary => ({
  id, kind: view.kind, project: accepted.project, deployment: accepted.deployment, state: view.state, outcome: view.outcome, reason: view.reason, counts: { ...view.counts }, seq: view.seq, createdAt: view.acceptedAt, updatedAt,
})
