/** The log of a task over the API: records with an offset to resume from. */
import { readResumed, type StreamRequest } from './resumed-stream.js'
import type { Client } from './client.js'
import { readTask } from './tasks.js'

export interface LogRecord {
  /** Offset behind this record in the task's log, in bytes: where a reader goes on. */
  readonly offset: number
  readonly at: number
  readonly node: string
  readonly action: string
  readonly attempt: number
  readonly stream: 'stdout' | 'stderr' | 'agent'
  /** One line, without its newline. */
  readonly text: string
}

export interface LogQuery {
  readonly offset: number
  /** Begins with the last so many lines instead of at the offset. */
  readonly tail?: number | undefined
  readonly isFollowed: boolean
  readonly node?: string | undefined
  readonly action?: string | undefined
  readonly onConnection?: StreamRequest<LogRecord>['onConnection']
  readonly signal?: AbortSignal | undefined
}

/** Lines of the task's log from an offset, each once. Followed, it ends when the task has ended and its log is read to the end. */
export function readLog(client: Client, task: string, query: LogQuery): AsyncGenerator<LogRecord> {
  // A connection may end between the last line and the end of the task: one more read after the task has ended makes sure of it.
  let hasSeenEnd = !query.isFollowed
  return readResumed<LogRecord>(client, {
    path: `/v1/tasks/${encodeURIComponent(task)}/log`,
    query: { follow: query.isFollowed ? true : undefined, node: query.node, action: query.action },
    positionName: 'offset',
    position: query.offset,
    beginning: query.tail === undefined ? undefined : { tail: query.tail },
    positionAfter: (record) => record.offset,
    isEnded: async () => {
      if (hasSeenEnd) return true
      hasSeenEnd = (await readTask(client, task)).state === 'ended'
      return false
    },
    ...(query.onConnection ? { onConnection: query.onConnection } : {}),
    signal: query.signal,
  })
}
