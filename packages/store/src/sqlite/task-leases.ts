/** Leases: which engine drives a task, until when, and the epoch that proves it. They stand on the row of the task, so that an append reads both at once. */
import type { TaskId } from '@lichen/core'
import type { EngineIdentity, Lease } from '../ports/task-store.js'
import { buildRounds, type Claim } from '../rules/claim-rounds.js'
import { isDueSql, takesTurnSql } from '../rules/turn.js'
import type { Connection } from './connection.js'
import type { WriteKind } from './writer.js'

// The epoch stays for the very instance that has the lease; everybody else gets a higher one, also after a release.
const claimSql = `
  UPDATE tasks SET
    lease_epoch = CASE WHEN tasks.lease_owner IS claim.engine AND tasks.lease_instance IS claim.instance THEN lease_epoch ELSE lease_epoch + 1 END,
    lease_owner = claim.engine,
    lease_instance = claim.instance,
    lease_until = claim.until
  FROM (SELECT value ->> 0 AS id, value ->> 1 AS engine, value ->> 2 AS instance, value ->> 3 AS now, value ->> 4 AS until FROM json_each(?)) AS claim
  WHERE tasks.id = claim.id AND (tasks.lease_owner IS NULL OR tasks.lease_owner = claim.engine OR tasks.lease_until <= claim.now) AND ${isDueSql}
  RETURNING id, lease_epoch AS epoch`

const turnSql = `
  INSERT INTO turns (project, deployment, task) SELECT project, deployment, id FROM tasks WHERE id IN (SELECT value FROM json_each(?)) AND ${takesTurnSql}
  ON CONFLICT DO UPDATE SET task = excluded.task WHERE turns.task <> excluded.task`

/** Claims of different tasks, with their turns: epoch by task, for those that got the lease. */
async function claimDistinct(connection: Connection, claims: readonly Claim[]): Promise<Map<string, number>> {
  const rows = await connection.all<{ id: string; epoch: number }>(claimSql, JSON.stringify(claims.map((claim) => [claim.task, claim.engine.name, claim.engine.instance, claim.now, claim.until])))
  if (rows.length > 0) await connection.run(turnSql, JSON.stringify(rows.map((row) => row.id)))
  return new Map(rows.map((row) => [row.id, row.epoch]))
}

/** Writes `TaskStore.claim`. */
export const claimTasks: WriteKind<Claim, Lease | undefined> = {
  name: 'claiming a task',
  weigh: () => 128,
  async apply(connection, jobs) {
    const leases = new Map<Claim, Lease>()
    for (const round of buildRounds(jobs)) {
      const epochs = await claimDistinct(connection, round)
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

/** Writes `TaskStore.renew`: a lease that expired but that nobody took is still held. */
export const renewLeases: WriteKind<Renewal, ReadonlyMap<TaskId, number>> = {
  name: 'renewing leases',
  weigh: (job) => 128 + job.tasks.length * 64,
  async apply(connection, jobs) {
    const answers: ReadonlyMap<TaskId, number>[] = []
    for (const job of jobs) {
      const rows = await connection.all<{ id: TaskId; seq: number }>(
        'UPDATE tasks SET lease_until = max(lease_until, ?) WHERE id IN (SELECT value FROM json_each(?)) AND lease_owner = ? AND lease_instance = ? RETURNING id, seq',
        job.until, JSON.stringify(job.tasks), job.engine.name, job.engine.instance,
      )
      answers.push(new Map(rows.map((row) => [row.id, row.seq])))
    }
    return answers
  },
}

/** Writes `TaskStore.release`. */
export const releaseTasks: WriteKind<{ readonly task: TaskId; readonly engine: EngineIdentity }, void> = {
  name: 'releasing a task',
  weigh: () => 128,
  async apply(connection, jobs) {
    await connection.run(
      `UPDATE tasks SET lease_owner = NULL, lease_instance = NULL, lease_until = 0
       FROM (SELECT DISTINCT value ->> 0 AS id, value ->> 1 AS engine, value ->> 2 AS instance FROM json_each(?)) AS given
       WHERE tasks.id = given.id AND tasks.lease_owner = given.engine AND tasks.lease_instance = given.instance`,
      JSON.stringify(jobs.map((job) => [job.task, job.engine.name, job.engine.instance])),
    )
    return jobs.map(() => undefined)
  },
}
