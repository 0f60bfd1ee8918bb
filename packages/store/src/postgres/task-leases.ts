/** Leases: which engine drives a task, until when, and the epoch that proves it. They stand on the row of the task, so that an append reads both at once. */
import type { TaskId } from '@lichen/core'
import type { EngineIdentity, Lease } from '../ports/task-store.js'
import { buildRounds, type Claim } from '../rules/claim-rounds.js'
import { isDueSql, takesTurnSql } from '../rules/turn.js'
import type { Session } from './sessions.js'
import type { WriteKind } from './writer.js'

// Who looks whose turn it is, and takes it, holds this lock until its commit: the next one sees the outcome. A statement of its own, because the one after it looks at the
// database as it is once the lock is held. In the order of the locks, so that no two wait for each other.
const lockTurnsSql = `
  SELECT pg_advisory_xact_lock(deployment) FROM (SELECT DISTINCT hashtextextended(project || '/' || tasks.deployment, 7) AS deployment FROM tasks WHERE id = ANY($1::text[]) ORDER BY 1) AS deployments`

// The rows are locked in the order of their ids; the conditions are looked at again on the rows as they are once they are locked. The epoch stays for the very instance that has the lease;
// everybody else gets a higher one, also after a release.
const claimSql = `
  WITH claim AS MATERIALIZED (SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[]) AS claim (id, engine, instance, now, until)),
    locked AS MATERIALIZED (SELECT tasks.id FROM tasks WHERE tasks.id = ANY($1::text[]) ORDER BY tasks.id FOR NO KEY UPDATE)
  UPDATE tasks SET
    lease_epoch = CASE WHEN tasks.lease_owner = claim.engine AND tasks.lease_instance = claim.instance THEN lease_epoch ELSE lease_epoch + 1 END,
    lease_owner = claim.engine,
    lease_instance = claim.instance,
    lease_until = claim.until
  FROM claim JOIN locked ON locked.id = claim.id
  WHERE tasks.id = claim.id AND (tasks.lease_owner IS NULL OR tasks.lease_owner = claim.engine OR tasks.lease_until <= claim.now) AND ${isDueSql}
  RETURNING tasks.id, lease_epoch AS epoch`

const turnSql = `
  INSERT INTO turns (project, deployment, task) SELECT project, deployment, id FROM tasks WHERE id = ANY($1::text[]) AND ${takesTurnSql}
  ON CONFLICT (project, deployment) DO UPDATE SET task = excluded.task WHERE turns.task <> excluded.task`

/** Claims of different tasks, with their turns: epoch by task, for those that got the lease. */
async function claimDistinct(session: Session, claims: readonly Claim[]): Promise<Map<string, number>> {
  await session.all(lockTurnsSql, claims.map((claim) => claim.task))
  const rows = await session.all<{ id: string; epoch: number }>(
    claimSql,
    claims.map((claim) => claim.task), claims.map((claim) => claim.engine.name), claims.map((claim) => claim.engine.instance), claims.map((claim) => claim.now), claims.map((claim) => claim.until),
  )
  if (rows.length > 0) await session.run(turnSql, rows.map((row) => row.id))
  return new Map(rows.map((row) => [row.id, row.epoch]))
}

/** Writes `TaskStore.claim`. */
export const claimTasks: WriteKind<Claim, Lease | undefined> = {
  name: 'claiming a task',
  weigh: () => 128,
  async apply(session, jobs) {
    const leases = new Map<Claim, Lease>()
    for (const round of buildRounds(jobs)) {
      const epochs = await claimDistinct(session, round)
      for (const claim of round) {
        const epoch = epochs.get(claim.task)
        if (epoch !== undefined) leases.set(claim, { task: claim.task, epoch, until: claim.until })
      }
    }
    return jobs.map((job) => leases.get(job))
  },
}

export interface Renewal {
  readonly engine: EngineIdentity
  readonly tasks: readonly TaskId[]
  readonly until: number
}

const renewSql = `
  WITH locked AS MATERIALIZED (SELECT id FROM tasks WHERE id = ANY($1::text[]) AND lease_owner = $2 AND lease_instance = $3 ORDER BY id FOR NO KEY UPDATE)
  UPDATE tasks SET lease_until = greatest(lease_until, $4) FROM locked WHERE tasks.id = locked.id AND lease_owner = $2 AND lease_instance = $3 RETURNING tasks.id, seq`

/** Writes `TaskStore.renew`: a lease that expired but that nobody took is still held. */
export const renewLeases: WriteKind<Renewal, ReadonlyMap<TaskId, number>> = {
  name: 'renewing leases',
  isAtomic: true,
  weigh: (job) => 128 + job.tasks.length * 64,
  async apply(session, jobs) {
    const answers: ReadonlyMap<TaskId, number>[] = []
    for (const { tasks, engine, until } of jobs) {
      const rows = await session.all<{ id: TaskId; seq: number }>(renewSql, tasks, engine.name, engine.instance, until)
      answers.push(new Map(rows.map((row) => [row.id, row.seq])))
    }
    return answers
  },
}

const releaseSql = `
  WITH given AS MATERIALIZED (SELECT DISTINCT * FROM unnest($1::text[], $2::text[], $3::text[]) AS given (id, engine, instance)),
    locked AS MATERIALIZED (SELECT id FROM tasks WHERE id = ANY($1::text[]) ORDER BY id FOR NO KEY UPDATE)
  UPDATE tasks SET lease_owner = NULL, lease_instance = NULL, lease_until = 0
  FROM given JOIN locked ON locked.id = given.id WHERE tasks.id = given.id AND tasks.lease_owner = given.engine AND tasks.lease_instance = given.instance`

/** Writes `TaskStore.release`. */
export const releaseTasks: WriteKind<{ readonly task: TaskId; readonly engine: EngineIdentity }, void> = {
  name: 'releasing a task',
  isAtomic: true,
  weigh: () => 128,
  async apply(session, jobs) {
    await session.run(releaseSql, jobs.map((job) => job.task), jobs.map((job) => job.engine.name), jobs.map((job) => job.engine.instance))
    return jobs.map(() => undefined)
  },
}
