/**
 * Sends a task's events from a sequence number on to a stream, and follows them.
 *
 * 1. Every event is sent once and in order.
 * 2. A follower ends when the task has ended and its last event was sent.
 */
import type { RecordedEvent, TaskId } from '@lichen/core'
import type { Store, TaskSummary } from '@lichen/store'
import type { AnswerStream } from '../stream/open-streams.js'
import { openWakeUp } from '../stream/wake-up.js'

export interface EventTail {
  readonly store: Pick<Store, 'tasks' | 'watchTask'>
  readonly task: TaskId
  /** Events after this one. */
  readonly after: number
  readonly isFollowing: boolean
  readonly format: 'ndjson' | 'sse'
}

// Some hundred KB of events; a client that reads slowly holds one page.
const pageEvents = 1_000

/** Sends the events; resolves with the row of the task at the end, undefined when the client left before. */
export async function sendEvents(tail: EventTail, stream: AnswerStream): Promise<TaskSummary | undefined> {
  const { store, task } = tail
  const wakeUp = openWakeUp(store, task, stream.signal)
  let after = tail.after
  try {
    while (!stream.signal.aborted) {
      wakeUp.arm()
      const events = await store.tasks.readEvents(task, after, pageEvents)
      if (events.length > 0) {
        await stream.write(renderEvents(events, tail.format))
        after = events.at(-1)?.seq ?? after
        continue
      }
      const summary = await store.tasks.readSummary(task)
      // An event between the page and the row is fetched before the end is believed.
      if (summary === undefined || ((summary.state === 'ended' || !tail.isFollowing) && summary.seq <= after)) return summary
      if (summary.seq <= after) await wakeUp.next()
    }
    return undefined
  } finally {
    wakeUp.close()
  }
}

const renderEvents = (events: readonly RecordedEvent[], format: EventTail['format']): string =>
  events.map((recorded) => (format === 'sse' ? `id: ${recorded.seq}\ndata: ${JSON.stringify(recorded)}\n\n` : `${JSON.stringify(recorded)}\n`)).join('')
