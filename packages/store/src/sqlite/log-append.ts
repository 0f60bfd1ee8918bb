/** Appending to task logs: what `log-rules` lets through is written in few statements. */
import type { NewLogChunk } from '../ports/log-store.js'
import { attemptKey, buildEnds, listMoved, placeChunks, weighChunks, type LogAnswer, type LogEnds, type PlacedChunk } from '../rules/log-rules.js'
import type { Bindable, Connection } from './connection.js'
import type { WriteKind } from './writer.js'

async function readEnds(connection: Connection, chunks: readonly NewLogChunk[]): Promise<LogEnds> {
  const ends = buildEnds(chunks)
  const known = await connection.all<{ task: string; action: string; attempt: number; next: number }>(
    `SELECT log_attempts.task, log_attempts.action, log_attempts.attempt, next_position AS next
     FROM json_each(?) AS wanted CROSS JOIN log_attempts ON log_attempts.task = value ->> 0 AND log_attempts.action = value ->> 1 AND log_attempts.attempt = value ->> 2`,
    JSON.stringify([...ends.attempts.values()].map(({ chunk }) => [chunk.task, chunk.action, chunk.attempt])),
  )
  for (const row of known) {
    const end = ends.attempts.get(attemptKey(row.task, row.action, row.attempt))
    if (end) end.next = row.next
  }
  const tasks = await connection.all<{ task: string; end: number }>(
    'SELECT task, end_offset AS end FROM log_ends WHERE task IN (SELECT value FROM json_each(?))',
    JSON.stringify([...new Set(chunks.map((chunk) => chunk.task))]),
  )
  for (const row of tasks) ends.tasks.set(row.task, row.end)
  return ends
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

async function writeEnds(connection: Connection, placed: readonly PlacedChunk[], ends: LogEnds): Promise<void> {
  // "WHERE true" keeps the parser from reading ON CONFLICT as a join (https://sqlite.org/lang_upsert.html, section 2.2).
  await connection.run(
    `INSERT INTO log_attempts (task, action, attempt, next_position) SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3 FROM json_each(?) WHERE true
     ON CONFLICT DO UPDATE SET next_position = excluded.next_position`,
    JSON.stringify(listMoved(placed, ends)),
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
  weigh: weighChunks,
  touches: (chunks) => chunks.map((chunk) => chunk.task),
  async apply(connection, jobs) {
    const ends = await readEnds(connection, jobs.flat())
    const { answers, placed } = placeChunks(jobs, ends)
    if (placed.length > 0) {
      await insertChunks(connection, placed)
      await writeEnds(connection, placed, ends)
    }
    return answers
  },
}
