/** Reading tasks: rows, documents, events. */
import type { Footprint, RecordedEvent, TaskId } from '@lichen/core'
import type { AppliedAction, DeploymentFootprint, LastPlan, TaskStore, TaskSummary } from '../ports/task-store.js'
import { decodeFootprint, type FootprintRow } from '../rules/footprint.js'
import { decodeSummary, decodeTask, type DocumentRow, summaryColumns, type SummaryRow } from '../rules/task-row.js'
import { frontSql, isDueSql } from '../rules/turn.js'
import type { Bindable, Connection } from './connection.js'

/** The keys of a batch as a table with the columns `at`, their index, and `value`. CROSS JOIN keeps it the outer one. */
const asked = '(SELECT key AS at, value FROM json_each(?)) AS asked'

/** The rows with plan and graph; undefined where there is no such task. */
export async function readTasks(reader: Connection, tasks: readonly TaskId[]): Promise<readonly (Awaited<ReturnType<TaskStore['read']>>)[]> {
  const rows = await reader.all<DocumentRow & { readonly at: number }>(
    `SELECT asked.at, ${summaryColumns}, plan, graph FROM ${asked} CROSS JOIN tasks ON tasks.id = asked.value JOIN task_documents ON task = tasks.id`,
    JSON.stringify(tasks),
  )
  const found = new Map(rows.map(({ at, ...row }) => [at, row]))
  return tasks.map((_, index) => decodeTask(found.get(index)))
}

/** The row alone. */
export async function readSummary(reader: Connection, task: TaskId): Promise<TaskSummary | undefined> {
  const [row] = await reader.all<SummaryRow>(`SELECT ${summaryColumns} FROM tasks WHERE id = ?`, task)
  return row === undefined ? undefined : decodeSummary(row)
}

/** What an Idempotency-Key was used for. */
export async function findIdempotencyKey(reader: Connection, key: string): ReturnType<TaskStore['findIdempotencyKey']> {
  const [row] = await reader.all<{ id: TaskId; requestDigest: string }>('SELECT task AS id, request_digest AS requestDigest FROM idempotency_keys WHERE key = ?', key)
  return row
}

/** A page of rows, newest first. */
export async function listTasks(reader: Connection, query: Parameters<TaskStore['list']>[0]): Promise<readonly TaskSummary[]> {
  const conditions: string[] = []
  const values: Bindable[] = []
  const restrict = (condition: string, value: string | undefined): void => {
    if (value === undefined) return
    conditions.push(condition)
    values.push(value)
  }
  restrict('id < ?', query.before)
  restrict('project = ?', query.project)
  restrict('deployment = ?', query.deployment)
  restrict('state = ?', query.state)
  restrict('outcome = ?', query.outcome)
  const where = conditions.length > 0 ? `WHERE ${conditions.join(' AND ')}` : ''
  const rows = await reader.all<SummaryRow>(`SELECT ${summaryColumns} FROM tasks ${where} ORDER BY id DESC LIMIT ?`, ...values, query.limit)
  return rows.map(decodeSummary)
}

// Rows of one statement: they come as one JSON text, 20,000 events of 200 bytes are 4 MB. Larger pages hold memory twice, smaller ones cost round trips.
const eventPage = 20_000

/** Events of a task, ascending. */
export interface EventsQuery {
  readonly task: TaskId
  readonly afterSeq: number
  /** At most so many; default: all. */
  readonly limit?: number | undefined
}

// One text instead of a row object for each event: five times faster to take over from the library.
const eventsSql = `
  SELECT (SELECT group_concat('{"seq":' || seq || ',"at":' || at || ',"event":' || event || '}')
          FROM (SELECT seq, at, event FROM events WHERE task = asked.value ->> 0 AND seq > asked.value ->> 1 ORDER BY seq LIMIT ?)) AS events
  FROM ${asked} ORDER BY asked.at`

/** The events of each query, page by page until all have theirs. */
export async function readEvents(reader: Connection, queries: readonly EventsQuery[]): Promise<readonly (readonly RecordedEvent[])[]> {
  const all = queries.map((): RecordedEvent[] => [])
  const left = (index: number): number => (queries[index]!.limit ?? Infinity) - all[index]!.length
  for (let open = [...queries.keys()].filter((index) => left(index) > 0); open.length > 0; ) {
    const page = Math.min(eventPage, Math.max(...open.map(left)))
    const keys = open.map((index) => [queries[index]!.task, all[index]!.at(-1)?.seq ?? queries[index]!.afterSeq])
    const rows = await reader.all<{ readonly events: string | null }>(eventsSql, page, JSON.stringify(keys))
    open = open.filter((index, at) => {
      const events = JSON.parse(`[${rows[at]?.events ?? ''}]`) as RecordedEvent[]
      for (const event of events.slice(0, left(index))) all[index]!.push(event)
      return events.length === page && left(index) > 0
    })
  }
  return all
}

/** Names of those who hold the leases. */
export async function readOwners(reader: Connection, tasks: readonly TaskId[]): Promise<ReadonlyMap<TaskId, string>> {
  const rows = await reader.all<{ id: TaskId; owner: string }>(
    'SELECT id, lease_owner AS owner FROM tasks WHERE id IN (SELECT value FROM json_each(?)) AND lease_owner IS NOT NULL',
    JSON.stringify(tasks),
  )
  return new Map(rows.map((row) => [row.id, row.owner]))
}

/** A deployment, as a key. */
export type DeploymentKey = readonly [project: string, deployment: string]

/** What is applied of each deployment. */
export async function readApplied(reader: Connection, deployments: readonly DeploymentKey[]): Promise<readonly (readonly AppliedAction[])[]> {
  const rows = await reader.all<Omit<AppliedAction, 'outputs'> & { readonly at: number; readonly outputs: string }>(
    `SELECT asked.at, action, node, key, task, outputs FROM ${asked} CROSS JOIN applied ON project = asked.value ->> 0 AND deployment = asked.value ->> 1`,
    JSON.stringify(deployments),
  )
  const applied = deployments.map((): AppliedAction[] => [])
  for (const { at, outputs, ...row } of rows) applied[at]!.push({ ...row, outputs: JSON.parse(outputs) as Record<string, string> })
  return applied
}

/** What the newest apply task of each deployment that got as far as being planned left to know. */
export async function readFootprints(reader: Connection, deployments: readonly DeploymentKey[]): Promise<readonly (Footprint | undefined)[]> {
  const rows = await reader.all<FootprintRow & { readonly at: number }>(
    `SELECT asked.at, plan, placement,
            EXISTS (SELECT 1 FROM tasks WHERE project = asked.value ->> 0 AND deployment = asked.value ->> 1 AND kind = 'destroy' AND outcome = 'succeeded' AND id > newest.task) AS isDestroyed
     FROM ${asked} CROSS JOIN task_documents AS newest ON newest.task =
          (SELECT id FROM tasks JOIN task_documents ON task = id
           WHERE project = asked.value ->> 0 AND deployment = asked.value ->> 1 AND kind = 'apply' AND placement IS NOT NULL ORDER BY id DESC LIMIT 1)`,
    JSON.stringify(deployments),
  )
  const found = new Map(rows.map(({ at, ...row }) => [at, decodeFootprint(row)]))
  return deployments.map((_, index) => found.get(index))
}

/** What the newest planned apply of each other deployment left to know, without those that were destroyed since. */
export async function readOtherFootprints(reader: Connection, project: string, deployment: string): Promise<readonly DeploymentFootprint[]> {
  const rows = await reader.all<FootprintRow & Pick<DeploymentFootprint, 'project' | 'deployment'>>(
    `SELECT project, deployment, plan, placement, 0 AS isDestroyed
     FROM tasks JOIN task_documents ON task = id
     WHERE id IN (SELECT max(id) FROM tasks JOIN task_documents ON task = id WHERE kind = 'apply' AND placement IS NOT NULL GROUP BY project, deployment)
       AND NOT (project = ? AND deployment = ?)
       AND NOT EXISTS (SELECT 1 FROM tasks AS later WHERE later.project = tasks.project AND later.deployment = tasks.deployment AND later.kind = 'destroy' AND later.outcome = 'succeeded' AND later.id > tasks.id)
     ORDER BY project, deployment`,
    project, deployment,
  )
  return rows.map(({ project, deployment, ...row }) => ({ project, deployment, ...decodeFootprint(row) }))
}

/** The newest apply or destroy of the deployment that got as far as being planned. */
export async function readLastPlan(reader: Connection, project: string, deployment: string): Promise<LastPlan | undefined> {
  const [row] = await reader.all<LastPlan>(
    `SELECT id AS task, kind, plan FROM tasks JOIN task_documents ON task = id
     WHERE project = ? AND deployment = ? AND kind IN ('apply', 'destroy') AND placement IS NOT NULL ORDER BY id DESC LIMIT 1`,
    project, deployment,
  )
  return row
}

/** Tasks that have not ended, whose turn it is and that nobody drives, longest abandoned first. */
export async function listUnowned(reader: Connection, now: number, limit: number): Promise<readonly TaskId[]> {
  const rows = await reader.all<{ id: TaskId }>(`SELECT id FROM tasks WHERE state <> 'ended' AND lease_until <= ? AND ${isDueSql} ORDER BY lease_until, id LIMIT ?`, now, limit)
  return rows.map((row) => row.id)
}

/** The task of the deployment whose turn it is. */
export async function readFront(reader: Connection, project: string, deployment: string): Promise<TaskId | undefined> {
  const [row] = await reader.all<{ id: TaskId | null }>(`SELECT ${frontSql('given.project', 'given.deployment')} AS id FROM (SELECT ? AS project, ? AS deployment) AS given`, project, deployment)
  return row?.id ?? undefined
}
