/** What a person asks of a running task becomes an event beside those of its engine: who was first decides, and nobody's event is lost. */
import { setTimeout as sleep } from 'node:timers/promises'
import { LichenError, type TaskEvent, type TaskId } from '@lichen/core'
import type { SummaryChange, TaskSummary } from '@lichen/store'
import type { Context } from '../../context.js'
import { unknownTask } from './unknown-task.js'

// An engine at full speed writes to a task some hundred times a second, and each time it may be first. Ten seconds are far more than bad luck.
const patienceMs = 10_000
const longestPauseMs = 20

/** What is to be appended: the event, and the row that follows from it. */
export interface Request {
  readonly event: TaskEvent
  readonly summary: SummaryChange
}

/**
 * Appends the event that `decide` gives for the newest row of the task, rings the bell, and gives back the row as it is then. `decide` is asked again
 * whenever somebody else was first; undefined: there is nothing to append.
 * @throws REQUEST_NOT_FOUND, STORE_UNAVAILABLE when others are always first, and what `decide` throws
 */
export async function appendRequest({ store, announcer, now }: Pick<Context, 'store' | 'announcer' | 'now'>, task: TaskId, decide: (summary: TaskSummary) => Promise<Request | undefined>): Promise<TaskSummary> {
  const until = performance.now() + patienceMs
  for (;;) {
    const current = await store.tasks.readSummary(task)
    if (current === undefined) throw unknownTask(task)
    const request = await decide(current)
    if (request === undefined) return current
    const at = now()
    const [answer] = await store.tasks.append([{ task, expectedSeq: current.seq, epoch: null, events: [request.event], at, summary: request.summary, announce: true }])
    if (answer === 'appended') {
      announcer.ring()
      return { ...current, ...request.summary, seq: current.seq + 1, updatedAt: at }
    }
    if (performance.now() > until) throw new LichenError('STORE_UNAVAILABLE', `task ${task} is written to all the time; the request could not be recorded`, { retryAfterS: 1 })
    await sleep(Math.random() * longestPauseMs)
  }
}
