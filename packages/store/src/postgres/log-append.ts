/** Appending to task logs: what `log-rules` lets through is written in few statements. A task's end is locked from the reading of it to the commit, so that offsets have one giver. */
import type { NewLogChunk } from '../ports/log-store.js'
import { attemptKey, buildEnds, listMoved, placeChunks, weighChunks, type LogAnswer, type LogEnds, type PlacedChunk } from '../rules/log-rules.js'
import type { Session } from './sessions.js'
import type { WriteKind } from './writer.js'

interface TaskEnd {
  readonly task: string
  readonly end: number
}

const lockEnds = (session: Session, tasks: readonly string[]): Promise<readonly TaskEnd[]> =>
  session.all<TaskEnd>('SELECT task, end_offset AS "end" FROM log_ends WHERE task = ANY($1::text[]) ORDER BY task FOR NO KEY UPDATE', tasks)

/** The ends of these tasks, locked. A task without a row gets one: there must be something to lock. */
async function readTaskEnds(session: Session, tasks: readonly string[]): Promise<readonly TaskEnd[]> {
  const found = await lockEnds(session, tasks)
  if (found.length === tasks.length) return found
  await session.run('INSERT INTO log_ends (task, end_offset) SELECT task, 0 FROM unnest($1::text[]) AS given (task) ORDER BY task COLLATE "C" ON CONFLICT DO NOTHING', tasks)
  return lockEnds(session, tasks)
}

async function readEnds(session: Session, chunks: readonly NewLogChunk[]): Promise<LogEnds> {
  const ends = buildEnds(chunks)
  for (const row of await readTaskEnds(session, [...new Set(chunks.map((chunk) => chunk.task))])) ends.tasks.set(row.task, row.end)
  const attempts = [...ends.attempts.values()].map(({ chunk }) => chunk)
  const known = await session.all<{ task: string; action: string; attempt: number; next: number }>(
    `SELECT log_attempts.task, log_attempts.action, log_attempts.attempt, next_position AS next
     FROM unnest($1::text[], $2::text[], $3::integer[]) AS wanted (task, action, attempt) JOIN log_attempts USING (task, action, attempt)`,
    attempts.map((chunk) => chunk.task), attempts.map((chunk) => chunk.action), attempts.map((chunk) => chunk.attempt),
  )
  for (const row of known) {
    const end = ends.attempts.get(attemptKey(row.task, row.action, row.attempt))
    if (end) end.next = row.next
  }
  return ends
}

// The bytes of all chunks travel as one value, which goes as it is; an array of values would travel as hexadecimal text.
const writeSql = `
  WITH inserted AS (
      INSERT INTO log_chunks (task, "offset", size, action, attempt, node, position, command, stream, at, data)
      SELECT task, "offset", size, action, attempt, node, position, command, stream, at, substring($1::bytea FROM start FOR size)
      FROM unnest($2::text[], $3::bigint[], $4::integer[], $5::text[], $6::integer[], $7::text[], $8::bigint[], $9::integer[], $10::text[], $11::bigint[], $12::integer[])
        AS given (task, "offset", size, action, attempt, node, position, command, stream, at, start)),
    moved AS (
      INSERT INTO log_attempts (task, action, attempt, next_position) SELECT * FROM unnest($13::text[], $14::text[], $15::integer[], $16::bigint[])
      ON CONFLICT (task, action, attempt) DO UPDATE SET next_position = excluded.next_position)
  UPDATE log_ends SET end_offset = given.end_offset FROM unnest($17::text[], $18::bigint[]) AS given (task, end_offset) WHERE log_ends.task = given.task`

async function writeChunks(session: Session, placed: readonly PlacedChunk[], ends: LogEnds): Promise<void> {
  const moved = listMoved(placed, ends)
  const tasks = [...ends.tasks]
  let start = 1
  const starts = placed.map(({ data }) => (start += data.byteLength) - data.byteLength)
  await session.run(
    writeSql,
    Buffer.concat(placed.map(({ data }) => data)),
    placed.map(({ chunk }) => chunk.task), placed.map(({ offset }) => offset), placed.map(({ data }) => data.byteLength), placed.map(({ chunk }) => chunk.action),
    placed.map(({ chunk }) => chunk.attempt), placed.map(({ chunk }) => chunk.node), placed.map(({ position }) => position), placed.map(({ chunk }) => chunk.command),
    placed.map(({ chunk }) => chunk.stream), placed.map(({ chunk }) => chunk.at), starts,
    moved.map(([task]) => task), moved.map(([, action]) => action), moved.map(([, , attempt]) => attempt), moved.map(([, , , next]) => next),
    tasks.map(([task]) => task), tasks.map(([, end]) => end),
  )
}

/** Writes `LogStore.appendLog`. */
export const appendChunks: WriteKind<readonly NewLogChunk[], readonly LogAnswer[]> = {
  name: 'appending to a task log',
  lanes: 2,
  keys: (chunks) => chunks.map((chunk) => chunk.task),
  weigh: weighChunks,
  touches: (chunks) => chunks.map((chunk) => chunk.task),
  async apply(session, jobs) {
    const ends = await readEnds(session, jobs.flat())
    const { answers, placed } = placeChunks(jobs, ends)
    if (placed.length > 0) await writeChunks(session, placed, ends)
    return answers
  },
}
