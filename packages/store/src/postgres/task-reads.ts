/** Reading tasks: rows, documents, events. */
import type { Footprint, RecordedEvent, TaskId } from '@lichen/core'
import type { AppliedAction, DeploymentFootprint, LastPlan, TaskStore, TaskSummary } from '../ports/task-store.js'
import { decodeFootprint, type FootprintRow } from '../rules/footprint.js'
import { decodeSummary, decodeTask, type DocumentRow, summaryColumns, type SummaryRow } from '../rules/task-row.js'
import { frontSql, isDueSql } from '../rules/turn.js'
import type { Reader } from './reader.js'
import type { Bindable } from './sessions.js'

/** The row with plan and graph; undefined when there is no such task. */
export async function readTask(reader: Reader, task: TaskId): ReturnType<TaskStore['read']> {
  const [row] = await reader.all<DocumentRow>(
    `SELECT ${summaryColumns}, plan, graph FROM tasks JOIN task_documents ON task = id WHERE id = $1`,
    task,
  )
  return decodeTask(row)
}

/** The row alone. */
export async function readSummary(reader: Reader, task: TaskId): Promise<TaskSummary | undefined> {
  const [row] = await reader.all<SummaryRow>(`SELECT ${summaryColumns} FROM tasks WHERE id = $1`, task)
  return row === undefined ? undefined : decodeSummary(row)
}

/** What an Idempotency-Key was used for. */
export async function findIdempotencyKey(reader: Reader, key: string): ReturnType<TaskStore['findIdempotencyKey']> {
  const [row] = await reader.all<{ id: TaskId; requestDigest: string }>('SELECT task AS id, request_digest AS "requestDigest" FROM idempotency_keys WHERE key = $1', key)
  return row
}

/** A page of rows, newest first. */
export async function listTasks(reader: Reader, query: Parameters<TaskStore['list']>[0]): Promise<readonly TaskSummary[]> {
  const conditions: string[] = []
  const values: Bindable[] = []
  const restrict = (condition: string, value: string | undefined): void => {
    if (value === undefined) return
    values.push(value)
    conditions.push(`${condition} $${values.length}`)
  }
  restrict('id <', query.before)
  restrict('project =', query.project)
  restrict('deployment =', query.deployment)
  restrict('state =', query.state)
  restrict('outcome =', query.outcome)
  const where = conditions.length > 0 ? `WHERE ${conditions.join(' AND ')}` : ''
  const rows = await reader.all<SummaryRow>(`SELECT ${summaryColumns} FROM tasks ${where} ORDER BY id DESC LIMIT $${values.length + 1}`, ...values, query.limit)
  return rows.map(decodeSummary)
}

// Rows of one statement: they come as one JSON text, 20,000 events of 200 bytes are 4 MB. Larger pages hold memory twice, smaller ones cost round trips.
const eventPage = 20_000

// One text instead of a row object for each event: several times faster to take over from the library.
const eventsSql = `
  SELECT count(*) AS count, string_agg('{"seq":' || seq || ',"at":' || at || ',"event":' || event || '}', ',' ORDER BY seq) AS events
  FROM (SELECT seq, at, event FROM events WHERE task = $1 AND seq > $2 ORDER BY seq LIMIT $3) AS page`

/** Events after `afterSeq`, ascending, at most `limit`. */
export async function readEvents(reader: Reader, task: TaskId, afterSeq: number, limit = Number.POSITIVE_INFINITY): Promise<readonly RecordedEvent[]> {
  const all: RecordedEvent[] = []
  let after = afterSeq
  while (all.length < limit) {
    const wanted = Math.min(eventPage, limit - all.length)
    const [page] = await reader.all<{ count: number; events: string | null }>(eventsSql, task, after, wanted)
    if (page === undefined || page.events === null) break
    const events = JSON.parse(`[${page.events}]`) as RecordedEvent[]
    for (const event of events) all.push(event)
    after = events.at(-1)?.seq ?? after
    if (page.count < wanted) break
  }
  return all
}

/** Names of those who hold the leases. */
export async function readOwners(reader: Reader, tasks: readonly TaskId[]): Promise<ReadonlyMap<TaskId, string>> {
  const rows = await reader.all<{ id: TaskId; owner: string }>(
    'SELECT id, lease_owner AS owner FROM tasks WHERE id = ANY($1::text[]) AND lease_owner IS NOT NULL',
    tasks,
  )
  return new Map(rows.map((row) => [row.id, row.owner]))
}

/** What is applied of the deployment. */
export async function readApplied(reader: Reader, project: string, deployment: string): Promise<readonly AppliedAction[]> {
  const rows = await reader.all<Omit<AppliedAction, 'outputs'> & { readonly outputs: string }>('SELECT action, node, key, task, outputs FROM applied WHERE project = $1 AND deployment = $2', project, deployment)
  return rows.map((row) => ({ ...row, outputs: JSON.parse(row.outputs) as Record<string, string> }))
}

/** What the newest apply task of the deployment that got as far as being planned left to know. */
export async function readFootprint(reader: Reader, project: string, deployment: string): Promise<Footprint | undefined> {
  const [row] = await reader.all<FootprintRow>(
    `SELECT plan, placement,
            EXISTS (SELECT 1 FROM tasks AS later WHERE later.project = $1 AND later.deployment = $2 AND later.kind = 'destroy' AND later.outcome = 'succeeded' AND later.id > tasks.id) AS "isDestroyed"
     FROM tasks JOIN task_documents ON task = id
     WHERE project = $1 AND deployment = $2 AND kind = 'apply' AND placement IS NOT NULL ORDER BY id DESC LIMIT 1`,
    project, deployment,
  )
  return row === undefined ? undefined : decodeFootprint(row)
}

/** What the newest planned apply of each other deployment left to know, without those that were destroyed since. */
export async function readOtherFootprints(reader: Reader, project: string, deployment: string): Promise<readonly DeploymentFootprint[]> {
  const rows = await reader.all<FootprintRow & Pick<DeploymentFootprint, 'project' | 'deployment'>>(
    `SELECT project, deployment, plan, placement, false AS "isDestroyed"
     FROM tasks JOIN task_documents ON task = id
     WHERE id IN (SELECT max(id) FROM tasks JOIN task_documents ON task = id WHERE kind = 'apply' AND placement IS NOT NULL GROUP BY project, deployment)
       AND NOT (project = $1 AND deployment = $2)
       AND NOT EXISTS (SELECT 1 FROM tasks AS later WHERE later.project = tasks.project AND later.deployment = tasks.deployment AND later.kind = 'destroy' AND later.outcome = 'succeeded' AND later.id > tasks.id)
     ORDER BY project, deployment`,
    project, deployment,
  )
  return rows.map(({ project, deployment, ...row }) => ({ project, deployment, ...decodeFootprint(row) }))
}

/** The newest apply or destroy of the deployment that got as far as being planned. */
export async function readLastPlan(reader: Reader, project: string, deployment: string): Promise<LastPlan | undefined> {
  const [row] = await reader.all<LastPlan>(
    `SELECT id AS task, kind, plan FROM tasks JOIN task_documents ON task = id
     WHERE project = $1 AND deployment = $2 AND kind IN ('apply', 'destroy') AND placement IS NOT NULL ORDER BY id DESC LIMIT 1`,
    project, deployment,
  )
  return row
}

/** Tasks that have not ended, whose turn it is and that nobody drives, longest abandoned first. */
export async function listUnowned(reader: Reader, now: number, limit: number): Promise<readonly TaskId[]> {
  const rows = await reader.all<{ id: TaskId }>(`SELECT id FROM tasks WHERE state <> 'ended' AND lease_until <= $1 AND ${isDueSql} ORDER BY lease_until, id LIMIT $2`, now, limit)
  return rows.map((row) => row.id)
}

/** The task of the deployment whose turn it is. */
export async function readFront(reader: Reader, project: string, deployment: string): Promise<TaskId | undefined> {
  const [row] = await reader.all<{ id: TaskId | null }>(`SELECT ${frontSql('given.project', 'given.deployment')} AS id FROM (SELECT $1::text AS project, $2::text AS deployment) AS given`, project, deployment)
  return row?.id ?? undefined
}
