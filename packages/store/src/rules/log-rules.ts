/** Where log bytes go: what is stored already is cut off, what would leave a hole is refused, the rest gets its offsets. */
import type { NewLogChunk } from '../ports/log-store.js'

/** What `LogStore.appendLog` answers for a chunk. */
export interface LogAnswer {
  readonly position: number
  readonly gap: boolean
}

/** What the transaction knows of the attempts and tasks of a group; moves with each accepted chunk. */
export interface LogEnds {
  /** Next position by attempt. */
  readonly attempts: Map<string, { readonly chunk: NewLogChunk; next: number }>
  /** End of the log by task. */
  readonly tasks: Map<string, number>
}

/** Bytes that are to be stored. */
export interface PlacedChunk {
  readonly chunk: NewLogChunk
  readonly offset: number
  readonly position: number
  readonly data: Uint8Array
}

/** Key of an attempt in `LogEnds`. */
export const attemptKey = (task: string, action: string, attempt: number): string => `${task} ${attempt} ${action}`

/** The attempts of these chunks at position 0 and no task: what is stored of them is filled in by the adapter. */
export function buildEnds(chunks: readonly NewLogChunk[]): LogEnds {
  const ends: LogEnds = { attempts: new Map(), tasks: new Map() }
  for (const chunk of chunks) ends.attempts.set(attemptKey(chunk.task, chunk.action, chunk.attempt), { chunk, next: 0 })
  return ends
}

/** Decides one chunk: answers how far its attempt is stored, and where the new bytes go (none when all of it is known or it leaves a hole). */
function placeChunk(chunk: NewLogChunk, ends: LogEnds): { readonly answer: LogAnswer; readonly placed?: PlacedChunk } {
  const attempt = ends.attempts.get(attemptKey(chunk.task, chunk.action, chunk.attempt)) ?? { chunk, next: 0 }
  if (chunk.position > attempt.next) return { answer: { position: attempt.next, gap: true } }
  const data = chunk.data.subarray(attempt.next - chunk.position)
  if (data.byteLength === 0) return { answer: { position: attempt.next, gap: false } }
  const offset = ends.tasks.get(chunk.task) ?? 0
  const placed = { chunk, offset, position: attempt.next, data }
  attempt.next += data.byteLength
  ends.tasks.set(chunk.task, offset + data.byteLength)
  return { answer: { position: attempt.next, gap: false }, placed }
}

/** One answer for each chunk of each job, and what is to be stored, in order. Moves `ends`. */
export function placeChunks(jobs: readonly (readonly NewLogChunk[])[], ends: LogEnds): { readonly answers: LogAnswer[][]; readonly placed: PlacedChunk[] } {
  const placed: PlacedChunk[] = []
  const answers = jobs.map((chunks) =>
    chunks.map((chunk) => {
      const decided = placeChunk(chunk, ends)
      if (decided.placed) placed.push(decided.placed)
      return decided.answer
    }),
  )
  return { answers, placed }
}

/** The attempts that got bytes: task, action, attempt, next position. */
export function listMoved(placed: readonly PlacedChunk[], ends: LogEnds): [task: string, action: string, attempt: number, next: number][] {
  const keys = new Set(placed.map(({ chunk }) => attemptKey(chunk.task, chunk.action, chunk.attempt)))
  return [...keys].flatMap((key) => {
    const end = ends.attempts.get(key)
    return end === undefined ? [] : [[end.chunk.task, end.chunk.action, end.chunk.attempt, end.next]]
  })
}

/** About how many bytes the chunks write. */
export const weighChunks = (chunks: readonly NewLogChunk[]): number => chunks.reduce((sum, chunk) => sum + 256 + chunk.data.byteLength, 0)
