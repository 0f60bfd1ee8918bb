/** Accepting tasks: row, documents, first event, outbox row and Idempotency-Key, together. */
import type { LichenError } from '@lichen/core'
import type { NewTask } from '../ports/task-store.js'
import { buildBell } from '../rules/bell.js'
import { answerTaken, decideKeys, keyLifeMs, takeFirsts, type Created, type KnownKey, type StoredTask } from '../rules/create-rules.js'
import type { Session } from './sessions.js'
import type { WriteKind } from './writer.js'

const keyOf = (job: NewTask): string => job.idempotencyKey as string

/** Takes the keys that are free, each for the first job that names it. A key that another transaction is taking right now is waited for. */
async function takeKeys(session: Session, jobs: readonly NewTask[]): Promise<ReadonlySet<string>> {
  const first = [...new Map(jobs.toReversed().map((job) => [keyOf(job), job])).values()]
  const rows = await session.all<{ key: string }>(
    `INSERT INTO idempotency_keys (key, request_digest, task, created_at)
     SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[]) AS given (key, request_digest, task, created_at) ORDER BY key COLLATE "C" ON CONFLICT DO NOTHING RETURNING key`,
    first.map(keyOf), first.map((job) => job.requestDigest), first.map((job) => job.id), first.map((job) => job.at),
  )
  return new Set(rows.map((row) => row.key))
}

/** What the keys that were not free were used for. */
async function readKeys(session: Session, keys: readonly string[]): Promise<Map<string, KnownKey>> {
  if (keys.length === 0) return new Map()
  const rows = await session.all<KnownKey & { readonly key: string }>('SELECT key, request_digest AS "requestDigest", task FROM idempotency_keys WHERE key = ANY($1::text[])', keys)
  return new Map(rows.map((row) => [row.key, row]))
}

/** Inserts the rows of those whose id is free and gives back their ids. */
async function insertRows(session: Session, jobs: readonly NewTask[]): Promise<ReadonlySet<string>> {
  const rows = await session.all<{ id: string }>(
    `INSERT INTO tasks (id, kind, project, deployment, state, seq, created_at, updated_at)
     SELECT id, kind, project, deployment, 'accepted', 1, at, at FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[]) AS given (id, kind, project, deployment, at)
     ORDER BY id COLLATE "C" ON CONFLICT DO NOTHING RETURNING id`,
    jobs.map((job) => job.id), jobs.map((job) => job.kind), jobs.map((job) => job.project), jobs.map((job) => job.deployment), jobs.map((job) => job.at),
  )
  return new Set(rows.map((row) => row.id))
}

async function insertDocuments(session: Session, jobs: readonly NewTask[]): Promise<void> {
  await session.run(
    `WITH given AS MATERIALIZED (SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::text[]) AS given (task, plan, at, event, message)),
       documents AS (INSERT INTO task_documents (task, plan) SELECT task, plan FROM given),
       firsts AS (INSERT INTO events (task, seq, at, event) SELECT task, 1, at, event FROM given)
     INSERT INTO outbox (task, message) SELECT task, message FROM given`,
    jobs.map((job) => job.id), jobs.map((job) => job.plan), jobs.map((job) => job.at), jobs.map((job) => JSON.stringify(job.event)), jobs.map((job) => buildBell(job.id)),
  )
}

/** Gives back the keys of jobs that made no task, and forgets old ones; bounded, so that no request pays for a long quiet time. */
async function cleanKeys(session: Session, unused: readonly string[], now: number): Promise<void> {
  if (unused.length > 0) await session.run('DELETE FROM idempotency_keys WHERE key = ANY($1::text[])', unused)
  await session.run(
    'DELETE FROM idempotency_keys WHERE key IN (SELECT key FROM idempotency_keys WHERE created_at < $1 ORDER BY created_at LIMIT 1000 FOR UPDATE SKIP LOCKED)',
    now - keyLifeMs,
  )
}

/** Answers for the jobs whose id was taken, by job. */
async function answerRest(session: Session, rest: readonly NewTask[]): Promise<ReadonlyMap<NewTask, Created | LichenError>> {
  if (rest.length === 0) return new Map()
  const rows = await session.all<StoredTask & { readonly id: string }>(
    `SELECT tasks.id, plan, event, created_at AS "createdAt" FROM tasks JOIN task_documents ON task_documents.task = tasks.id JOIN events ON events.task = tasks.id AND events.seq = 1
     WHERE tasks.id = ANY($1::text[])`,
    rest.map((job) => job.id),
  )
  const stored = new Map(rows.map((row) => [row.id, row]))
  return new Map(rest.map((job) => [job, answerTaken(job, stored.get(job.id))]))
}

/** Writes `TaskStore.create`. A key is forgotten when it is older than a day and a later request with a key comes. */
export const createTasks: WriteKind<NewTask, Created> = {
  name: 'accepting a task',
  lanes: 2,
  keys: (job) => (job.idempotencyKey === undefined ? [`task ${job.id}`] : [`task ${job.id}`, `key ${job.idempotencyKey}`]),
  weigh: (job) => 2048 + job.plan.length,
  touches: (job) => [job.id],
  async apply(session, jobs) {
    const keyed = jobs.filter((job) => job.idempotencyKey !== undefined)
    const taken = keyed.length === 0 ? new Set<string>() : await takeKeys(session, keyed)
    const { fresh, answers } = decideKeys(jobs, await readKeys(session, keyed.map(keyOf).filter((key) => !taken.has(key))))
    if (fresh.length === 0) return answers
    const firsts = takeFirsts(fresh)
    const inserted = await insertRows(session, firsts)
    const made = new Set(firsts.filter((job) => inserted.has(job.id)))
    if (made.size > 0) await insertDocuments(session, [...made])
    const others = fresh.filter((job) => !made.has(job))
    if (keyed.length > 0) await cleanKeys(session, others.flatMap((job) => (job.idempotencyKey === undefined ? [] : [job.idempotencyKey])), Math.max(...keyed.map((job) => job.at)))
    const rest = await answerRest(session, others)
    return jobs.map((job, index) => rest.get(job) ?? (answers[index] as Created | LichenError))
  },
}
