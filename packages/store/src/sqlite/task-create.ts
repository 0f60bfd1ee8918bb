/** Accepting tasks: row, documents, first event, outbox row and Idempotency-Key, together. */
import { LichenError, taskId, type TaskId } from '@lichen/core'
import type { NewTask } from '../ports/task-store.js'
import type { Connection } from './connection.js'
import { buildBell } from './outbox.js'
import type { WriteKind } from './writer.js'

type Created = { readonly id: TaskId; readonly isNew: boolean }

// Clients repeat a request within minutes; a day covers a client that was off over night. Halved, such a client makes its task twice; doubled, the table doubles.
const keyLifeMs = 24 * 3_600_000

interface KnownKey {
  readonly requestDigest: string
  readonly task: string
}

async function readKeys(connection: Connection, jobs: readonly NewTask[]): Promise<Map<string, KnownKey>> {
  const keys = jobs.flatMap((job) => (job.idempotencyKey === undefined ? [] : [job.idempotencyKey]))
  if (keys.length === 0) return new Map()
  const rows = await connection.all<{ key: string; digest: string; task: string }>(
    'SELECT key, request_digest AS digest, task FROM idempotency_keys WHERE key IN (SELECT value FROM json_each(?))',
    JSON.stringify(keys),
  )
  return new Map(rows.map((row) => [row.key, { requestDigest: row.digest, task: row.task }]))
}

/** Sorts the jobs into new tasks, repeats of a known key, and conflicts; a key used twice in the group counts from its first use. */
function answerJobs(jobs: readonly NewTask[], known: Map<string, KnownKey>): { fresh: NewTask[]; answers: (Created | LichenError)[] } {
  const fresh: NewTask[] = []
  const answers = jobs.map((job): Created | LichenError => {
    const key = job.idempotencyKey
    const first = key === undefined ? undefined : known.get(key)
    if (first !== undefined) {
      if (first.requestDigest === job.requestDigest) return { id: taskId(first.task), isNew: false }
      return new LichenError('REQUEST_IDEMPOTENCY_CONFLICT', `Idempotency-Key ${JSON.stringify(key)} was used for task ${first.task} with another request`)
    }
    if (key !== undefined) known.set(key, { requestDigest: job.requestDigest, task: job.id })
    fresh.push(job)
    return { id: job.id, isNew: true }
  })
  return { fresh, answers }
}

async function insertTasks(connection: Connection, fresh: readonly NewTask[]): Promise<void> {
  await connection.run(
    `INSERT INTO tasks (id, kind, project, deployment, state, seq, created_at, updated_at)
     SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, 'accepted', 1, value ->> 4, value ->> 4 FROM json_each(?)`,
    JSON.stringify(fresh.map((job) => [job.id, job.kind, job.project, job.deployment, job.at])),
  )
  await connection.run(
    'INSERT INTO task_documents (task, plan) SELECT value ->> 0, value ->> 1 FROM json_each(?)',
    JSON.stringify(fresh.map((job) => [job.id, job.plan])),
  )
  await connection.run(
    'INSERT INTO events (task, seq, at, event) SELECT value ->> 0, 1, value ->> 1, value ->> 2 FROM json_each(?)',
    JSON.stringify(fresh.map((job) => [job.id, job.at, JSON.stringify(job.event)])),
  )
  await connection.run(
    'INSERT INTO outbox (task, message) SELECT value ->> 0, value ->> 1 FROM json_each(?)',
    JSON.stringify(fresh.map((job) => [job.id, buildBell(job.id)])),
  )
}

async function insertKeys(connection: Connection, fresh: readonly NewTask[]): Promise<void> {
  const keyed = fresh.filter((job) => job.idempotencyKey !== undefined)
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

/** Writes `TaskStore.create`. A key is forgotten when it is older than a day and a later request with a key comes. */
export const createTasks: WriteKind<NewTask, Created> = {
  name: 'accepting a task',
  weigh: (job) => 2048 + job.plan.length,
  touches: (job) => [job.id],
  async apply(connection, jobs) {
    const { fresh, answers } = answerJobs(jobs, await readKeys(connection, jobs))
    if (fresh.length > 0) {
      await insertTasks(connection, fresh)
      await insertKeys(connection, fresh)
    }
    return answers
  },
}
