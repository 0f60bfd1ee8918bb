/**
 * Sends a task's log from an offset to a stream, and follows it. Owns the position of one reader.
 *
 * 1. Every byte is sent once and in the order of offsets, for a reader with a filter: every byte that the filter lets through.
 * 2. A follower ends when the task has ended and everything stored before that was sent.
 * 3. A page is read only after the one before it was taken by the client.
 */
import type { ActionId, NodeId, TaskId } from '@lichen/core'
import type { LogChunkRecord, Store } from '@lichen/store'
import type { AnswerStream } from '../stream/open-streams.js'
import { openWakeUp } from '../stream/wake-up.js'
import { renderLog, type LogFormat } from './log-lines.js'

export interface LogTail {
  readonly store: Pick<Store, 'logs' | 'tasks' | 'watchTask'>
  readonly task: TaskId
  /** Offset to begin with. */
  readonly from: number
  /** Where a reader that does not follow stops. */
  readonly until: number
  readonly isFollowing: boolean
  readonly filter: { readonly node?: NodeId; readonly action?: ActionId }
  readonly format: LogFormat
  readonly isRaw: boolean
  readonly pageBytes: number
}

/** Sends the log; resolves with the offset after the last byte sent or looked at. */
export async function sendLog(tail: LogTail, stream: AnswerStream): Promise<number> {
  return tail.isFollowing ? followLog(tail, stream) : sendStoredLog(tail, stream)
}

async function sendStoredLog(tail: LogTail, stream: AnswerStream): Promise<number> {
  let offset = tail.from
  while (offset < tail.until && !stream.signal.aborted) {
    const page = await tail.store.logs.readLog(tail.task, offset, Math.min(tail.pageBytes, tail.until - offset), tail.filter)
    const chunks = page.filter((chunk) => chunk.offset < tail.until)
    if (chunks.length === 0) return tail.until
    offset = await sendPage(tail, stream, chunks, offset)
  }
  return offset
}

async function followLog(tail: LogTail, stream: AnswerStream): Promise<number> {
  const { store, task, filter, pageBytes } = tail
  const hasFilter = filter.node !== undefined || filter.action !== undefined
  const wakeUp = openWakeUp(store, task, stream.signal)
  let offset = tail.from
  let hasSeenEnd = false
  try {
    while (!stream.signal.aborted) {
      wakeUp.arm()
      // Read before the page: what the filter lets through below it is in the page, so a reader that gets nothing may go on from there.
      const end = hasFilter ? await store.logs.logEnd(task) : offset
      const chunks = await store.logs.readLog(task, offset, pageBytes, filter)
      if (chunks.length > 0) {
        offset = await sendPage(tail, stream, chunks, offset)
        hasSeenEnd = false
        continue
      }
      offset = Math.max(offset, end)
      if (hasSeenEnd) break
      const summary = await store.tasks.readSummary(task)
      // Once more: what was stored between the page and the end.
      if (summary === undefined || summary.state === 'ended') hasSeenEnd = true
      else await wakeUp.next()
    }
  } finally {
    wakeUp.close()
  }
  return offset
}

async function sendPage(tail: LogTail, stream: AnswerStream, chunks: readonly LogChunkRecord[], from: number): Promise<number> {
  const { bytes, next } = renderLog(chunks, from, tail.format, tail.isRaw)
  if (bytes.length > 0) await stream.write(bytes)
  return next
}
