/** Accepting tasks: row, documents, first event, outbox row and Idempotency-Key, together. */
import type { LichenError } from '@lichen/core'
import type { NewTask } from '../ports/task-store.js'
import { buildBell } from '../rules/bell.js'
import { answerTaken, decideKeys, keyLifeMs, takeFirsts, type Created, type KnownKey, type StoredTask } from '../rules/create-rules.js'
import type { Connection } from './connection.js'
import type { WriteKind } from './writer.js'

async function readKeys(connection: Connection, jobs: readonly NewTask[]): Promise<Map<string, KnownKey>> {
  const keys = jobs.flatMap((job) => (job.idempotencyKey === undefined ? [] : [job.idempotencyKey]))
  if (keys.length === 0) return new Map()
  const rows = await connection.all<KnownKey & { readonly key: string }>(
    'SELECT key, request_digest AS requestDigest, task FROM idempotency_keys WHERE key IN (SELECT value FROM json_each(?))',
    JSON.stringify(keys),
  )
  return new Map(rows.map((row) => [row.key, row]))
}

/** Inserts the rows of those whose id is free and gives back their ids. */
async function insertRows(connection: Connection, jobs: readonly NewTask[]): Promise<ReadonlySet<string>> {
  // "WHERE true" keeps the parser from reading ON CONFLICT as a join (https://sqlite.org/lang_upsert.html, section 2.2).
  const rows = await connection.all<{ id: string }>(
    `INSERT INTO tasks (id, kind, project, deployment, state, seq, created_at, updated_at)
     SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, 'accepted', 1, value ->> 4, value ->> 4 FROM json_each(?) WHERE true
     ON CONFLICT DO NOTHING RETURNING id`,
    JSON.stringify(jobs.map((job) => [job.id, job.kind, job.project, job.deployment, job.at])),
  )
  return new Set(rows.map((row) => row.id))
}

async function insertDocuments(connection: Connection, jobs: readonly NewTask[]): Promise<void> {
  await connection.run('INSERT INTO task_documents (task, plan) SELECT value ->> 0, value ->> 1 FROM json_each(?)', JSON.stringify(jobs.map((job) => [job.id, job.plan])))
  await connection.run(
    'INSERT INTO events (task, seq, at, event) SELECT value ->> 0, 1, value ->> 1, value ->> 2 FROM json_each(?)',
    JSON.stringify(jobs.map((job) => [job.id, job.at, JSON.stringify(job.event)])),
  )
  await connection.run('INSERT INTO outbox (task, message) SELECT value ->> 0, value ->> 1 FROM json_each(?)', JSON.stringify(jobs.map((job) => [job.id, buildBell(job.id)])))
}

async function insertKeys(connection: Connection, jobs: readonly NewTask[]): Promise<void> {
  const keyed = jobs.filter((job) => job.idempotencyKey !== undefined)
  if (keyed.length === 0) return
  await connection.run(
    'INSERT INTO idempotency_keys (key, request_digest, task, created_at) SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3 FROM json_each(?)',
    JSON.stringify(keyed.map((job) => [job.idempotencyKey, job.requestDigest, job.id, job.at])),
  )
  // Forgetting is bounded too, so that no request pays for a long quiet time.
  await connection.run(
    'DELETE FROM idempotency_keys WHERE key IN (SELECT key FROM idempotency_keys WHERE created_at < ? ORDER BY created_at LIMIT 1000)',
    Math.max(...keyed.map((job) => job.at)) - keyLifeMs,
  )
}

/** Answers for the jobs whose id was taken, by job. */
async function answerRest(connection: Connection, rest: readonly NewTask[]): Promise<ReadonlyMap<NewTask, Created | LichenError>> {
  if (rest.length === 0) return new Map()
  const rows = await connection.all<StoredTask & { readonly id: string }>(
    `SELECT tasks.id, plan, event, created_at AS createdAt FROM tasks JOIN task_documents ON task_documents.task = tasks.id JOIN events ON events.task = tasks.id AND events.seq = 1
     WHERE tasks.id IN (SELECT value FROM json_each(?))`,
    JSON.stringify(rest.map((job) => job.id)),
  )
  const stored = new Map(rows.map((row) => [row.id, row]))
  return new Map(rest.map((job) => [job, answerTaken(job, stored.get(job.id))]))
}

/** Writes `TaskStore.create`. A key is forgotten when it is older than a day and a later request with a key comes. */
export const createTasks: WriteKind<NewTask, Created> = {
  name: 'accepting a task',
  weigh: (job) => 2048 + job.plan.length,
  touches: (job) => [job.id],
  async apply(connection, jobs) {
    const { fresh, answers } = decideKeys(jobs, await readKeys(connection, jobs))
    if (fresh.length === 0) return answers
    const firsts = takeFirsts(fresh)
    const inserted = await insertRows(connection, firsts)
    const made = new Set(firsts.filter((job) => inserted.has(job.id)))
    if (made.size > 0) {
      await insertDocuments(connection, [...made])
      await insertKeys(connection, [...made])
    }
    const rest = await answerRest(connection, fresh.filter((job) => !made.has(job)))
    return jobs.map((job, index) => rest.get(job) ?? (answers[index] as Created | LichenError))
  },
}
