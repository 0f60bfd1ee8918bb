/**
 * One task of a deployment at a time. The table `turns` says for each deployment which task was taken last; while that one has not ended, no other of the deployment is taken, and
 * afterwards it is the turn of the oldest that waits. So a turn needs no giving back, and a task that is tried again after its end waits like a new one.
 * Check tasks change nothing and take no turn. One that is being cancelled sends no orders: it is taken to be ended, without a turn.
 */
import type { TaskKind } from '@lichen/core'

/** Tasks of this kind take no turn. */
export const turnless: TaskKind = 'check'

/** SQL: the id of the task of this project and deployment (SQL expressions) whose turn it is; null when none waits. */
export const frontSql = (project: string, deployment: string): string => `coalesce(
  (SELECT holder.id FROM turns JOIN tasks AS holder ON holder.id = turns.task WHERE turns.project = ${project} AND turns.deployment = ${deployment} AND holder.state <> 'ended'),
  (SELECT min(waiting.id) FROM tasks AS waiting WHERE waiting.project = ${project} AND waiting.deployment = ${deployment} AND waiting.state <> 'ended' AND waiting.kind <> '${turnless}'))`

/** SQL condition on a row of `tasks`: it may be driven now. */
export const isDueSql = `(tasks.kind = '${turnless}' OR tasks.state = 'cancelling' OR tasks.id = ${frontSql('tasks.project', 'tasks.deployment')})`

/** SQL condition on a row of `tasks` that is being claimed: with the lease it takes the turn. */
export const takesTurnSql = `tasks.kind <> '${turnless}' AND tasks.state <> 'cancelling'`
