/**
 * Port: task logs. A task's log is one sequence of chunks; its offset counts bytes of chunk data from 0. A chunk holds whole lines of one
 * attempt. Invariants: (1) bytes of an attempt are stored once and in order, whatever is sent twice; (2) an offset once given never means
 * anything else; (3) a chunk read is durable.
 */
import type { ActionId, NodeId, TaskId } from '@lichen/core'

export type LogStreamName = 'stdout' | 'stderr' | 'agent'

export interface NewLogChunk {
  readonly task: TaskId
  readonly action: ActionId
  readonly attempt: number
  readonly node: NodeId
  /** Bytes of the attempt's log before this chunk. */
  readonly position: number
  readonly command: number
  readonly stream: LogStreamName
  readonly at: number
  readonly data: Uint8Array
}

export interface LogChunkRecord extends NewLogChunk {
  /** Offset of the first byte in the task's log. */
  readonly offset: number
}

export interface LogStore {
  /** Durable when it returns. A chunk that begins before what is stored of its attempt is trimmed or dropped; one that begins after it is refused (`gap`). Answers, for each chunk, how far the attempt's log is durable. */
  appendLog(chunks: readonly NewLogChunk[]): Promise<readonly { readonly position: number; readonly gap: boolean }[]>
  /** Chunks that contain or follow `offset`, in order, up to about `maxBytes`. */
  readLog(task: TaskId, offset: number, maxBytes: number, filter?: { readonly node?: NodeId; readonly action?: ActionId }): Promise<readonly LogChunkRecord[]>
  /** Length of the task's log in bytes. */
  logEnd(task: TaskId): Promise<number>
}
