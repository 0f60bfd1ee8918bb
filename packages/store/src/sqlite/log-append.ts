/** Appending to task logs: what is stored already is cut off, what would leave a hole is refused, the rest gets its offsets. */
import type { NewLogChunk } from '../ports/log-store.js'
import type { Bindable, Connection } from './connection.js'
import type { WriteKind } from './writer.js'

export interface LogAnswer {
  readonly position: number
  readonly gap: boolean
}

/** What the transaction knows of the attempts and tasks of a group; moves with each accepted chunk. */
interface Ends {
  /** Next position by attempt. */
  readonly attempts: Map<string, { readonly chunk: NewLogChunk; next: number }>
  /** End of the log by task. */
  readonly tasks: Map<string, number>
}

interface PlacedChunk {
  readonly chunk: NewLogChunk
  readonly offset: number
  readonly position: number
  readonly data: Uint8Array
}

const attemptKey = (task: string, action: string, attempt: number): string => `${task} ${attempt} ${action}`

async function readEnds(connection: Connection, chunks: readonly NewLogChunk[]): Promise<Ends> {
  const attempts = new Map<string, { readonly chunk: NewLogChunk; next: number }>()
  for (const chunk of chunks) attempts.set(attemptKey(chunk.task, chunk.action, chunk.attempt), { chunk, next: 0 })
  const known = await connection.all<{ task: string; action: string; attempt: number; next: number }>(
    `SELECT log_attempts.task, log_attempts.action, log_attempts.attempt, next_position AS next
     FROM json_each(?) AS wanted CROSS JOIN log_attempts ON log_attempts.task = value ->> 0 AND log_attempts.action = value ->> 1 AND log_attempts.attempt = value ->> 2`,
    JSON.stringify([...attempts.values()].map(({ chunk }) => [chunk.task, chunk.action, chunk.attempt])),
  )
  for (const row of known) {
    const end = attempts.get(attemptKey(row.task, row.action, row.attempt))
    if (end) end.next = row.next
  }
  const tasks = await connection.all<{ task: string; end: number }>(
    'SELECT task, end_offset AS end FROM log_ends WHERE task IN (SELECT value FROM json_each(?))',
    JSON.stringify([...new Set(chunks.map((chunk) => chunk.task))]),
  )
  return { attempts, tasks: new Map(tasks.map((row) => [row.task, row.end])) }
}

/** Decides one chunk: answers how far its attempt is stored, and where the new bytes go (none when all of it is known or it leaves a hole). */
function placeChunk(chunk: NewLogChunk, ends: Ends): { readonly answer: LogAnswer; readonly placed?: PlacedChunk } {
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

// Rows of one INSERT: powers of two, so that few texts are prepared. 64 rows bind 704 values; more gain nothing measurable.
const insertSizes = [64, 16, 4, 1]
const columns = ['task', '"offset"', 'size', 'action', 'attempt', 'node', 'position', 'command', 'stream', 'at', 'data']
const buildInsert = (rows: number): string => `INSERT INTO log_chunks (${columns.join(', ')}) VALUES ${Array(rows).fill(`(${columns.map(() => '?').join(', ')})`).join(', ')}`

const bindChunk = ({ chunk, offset, position, data }: PlacedChunk): Bindable[] => [
  chunk.task, offset, data.byteLength, chunk.action, chunk.attempt, chunk.node, position, chunk.command, chunk.stream, chunk.at, data,
]

async function insertChunks(connection: Connection, placed: readonly PlacedChunk[]): Promise<void> {
  let from = 0
  for (const size of insertSizes) {
    const sql = buildInsert(size)
    for (; placed.length - from >= size; from += size) await connection.run(sql, ...placed.slice(from, from + size).flatMap(bindChunk))
  }
}

async function writeEnds(connection: Connection, placed: readonly PlacedChunk[], ends: Ends): Promise<void> {
  const moved = new Map<string, [string, string, number, number]>()
  for (const { chunk } of placed) {
    const key = attemptKey(chunk.task, chunk.action, chunk.attempt)
    moved.set(key, [chunk.task, chunk.action, chunk.attempt, ends.attempts.get(key)?.next ?? 0])
  }
  // "WHERE true" keeps the parser from reading ON CONFLICT as a join (https://sqlite.org/lang_upsert.html, section 2.2).
  await connection.run(
    `INSERT INTO log_attempts (task, action, attempt, next_position) SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3 FROM json_each(?) WHERE true
     ON CONFLICT DO UPDATE SET next_position = excluded.next_position`,
    JSON.stringify([...moved.values()]),
  )
  await connection.run(
    `INSERT INTO log_ends (task, end_offset) SELECT value ->> 0, value ->> 1 FROM json_each(?) WHERE true
     ON CONFLICT DO UPDATE SET end_offset = excluded.end_offset`,
    JSON.stringify([...ends.tasks]),
  )
}

/** Writes `LogStore.appendLog`. */
export const appendChunks: WriteKind<readonly NewLogChunk[], readonly LogAnswer[]> = {
  name: 'appending to a task log',
  weigh: (chunks) => chunks.reduce((sum, chunk) => sum + 256 + chunk.data.byteLength, 0),
  touches: (chunks) => chunks.map((chunk) => chunk.task),
  async apply(connection, jobs) {
    const ends = await readEnds(connection, jobs.flat())
    const placed: PlacedChunk[] = []
    const answers = jobs.map((chunks) =>
      chunks.map((chunk) => {
        const decided = placeChunk(chunk, ends)
        if (decided.placed) placed.push(decided.placed)
        return decided.answer
      }),
    )
    if (placed.length > 0) {
      await insertChunks(connection, placed)
      await writeEnds(connection, placed, ends)
    }
    return answers
  },
}
