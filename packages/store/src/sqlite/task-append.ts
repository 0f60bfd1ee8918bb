/** Appending events of many tasks, with what follows from them: the row, the documents, what is applied, the bell. */
import type { Append, AppendAnswer } from '../ports/task-store.js'
import { decideAppends, splitAnswers, weighAppend, type AppendRows, type DocumentChange, type Head } from '../rules/append-rules.js'
import type { Connection } from './connection.js'
import type { WriteKind } from './writer.js'

async function readHeads(connection: Connection, parts: readonly Append[]): Promise<Map<string, Head>> {
  const rows = await connection.all<Head & { readonly id: string }>(
    'SELECT id, seq, lease_epoch AS epoch, project, deployment FROM tasks WHERE id IN (SELECT value FROM json_each(?))',
    JSON.stringify([...new Set(parts.map((part) => part.task))]),
  )
  return new Map(rows.map((row) => [row.id, row]))
}

async function writeTaskRows(connection: Connection, rows: AppendRows): Promise<void> {
  await connection.run(
    `UPDATE tasks SET seq = part.seq, updated_at = part.at
     FROM (SELECT value ->> 0 AS id, value ->> 1 AS seq, value ->> 2 AS at FROM json_each(?)) AS part WHERE tasks.id = part.id`,
    JSON.stringify([...rows.heads.values()]),
  )
  if (rows.summaries.size > 0) {
    await connection.run(
      `UPDATE tasks SET state = part.state, outcome = part.outcome, reason = part.reason, counts = part.counts
       FROM (SELECT value ->> 0 AS id, value ->> 1 AS state, value ->> 2 AS outcome, value ->> 3 AS reason, value ->> 4 AS counts FROM json_each(?)) AS part
       WHERE tasks.id = part.id`,
      JSON.stringify([...rows.summaries.values()]),
    )
  }
}

async function writeApplied(connection: Connection, rows: AppendRows): Promise<void> {
  const changes = [...rows.applied.values()]
  const gone = changes.flatMap(({ project, deployment, action, applied }) => (applied === null ? [[project, deployment, action]] : []))
  const kept = changes.flatMap(({ project, deployment, applied }) => (applied === null ? [] : [[project, deployment, applied.action, applied.node, applied.key, applied.task, JSON.stringify(applied.outputs)]]))
  if (gone.length > 0) {
    await connection.run('DELETE FROM applied WHERE (project, deployment, action) IN (SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each(?))', JSON.stringify(gone))
  }
  if (kept.length > 0) {
    await connection.run(
      `INSERT INTO applied (project, deployment, action, node, key, task, outputs)
       SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6 FROM json_each(?) WHERE true
       ON CONFLICT DO UPDATE SET node = excluded.node, key = excluded.key, task = excluded.task, outputs = excluded.outputs`,
      JSON.stringify(kept),
    )
  }
}

// Small documents share a statement; large ones would be in memory twice, once more as a text within a JSON text.
const smallDocumentChars = 64 * 1024

async function writeDocuments(connection: Connection, documents: readonly DocumentChange[]): Promise<void> {
  const isSmall = ({ plan, graph }: DocumentChange): boolean => (plan?.length ?? 0) + (graph?.length ?? 0) < smallDocumentChars
  const small = documents.filter(isSmall)
  if (small.length > 0) {
    await connection.run(
      `UPDATE task_documents SET plan = coalesce(part.plan, task_documents.plan), graph = coalesce(part.graph, task_documents.graph), placement = coalesce(part.placement, task_documents.placement)
       FROM (SELECT value ->> 0 AS task, value ->> 1 AS plan, value ->> 2 AS graph, value ->> 3 AS placement FROM json_each(?)) AS part WHERE task_documents.task = part.task`,
      JSON.stringify(small.map(({ task, plan, graph, placement }) => [task, plan, graph, placement])),
    )
  }
  for (const { task, plan, graph, placement } of documents.filter((document) => !isSmall(document))) {
    await connection.run('UPDATE task_documents SET plan = coalesce(?, plan), graph = coalesce(?, graph), placement = coalesce(?, placement) WHERE task = ?', plan, graph, placement, task)
  }
}

async function writeRows(connection: Connection, rows: AppendRows): Promise<void> {
  if (rows.events.length > 0) {
    await connection.run(
      'INSERT INTO events (task, seq, at, event) SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3 FROM json_each(?)',
      JSON.stringify(rows.events),
    )
  }
  await writeTaskRows(connection, rows)
  await writeDocuments(connection, [...rows.documents.values()])
  if (rows.applied.size > 0) await writeApplied(connection, rows)
  if (rows.bells.length > 0) {
    await connection.run('INSERT INTO outbox (task, message) SELECT value ->> 0, value ->> 1 FROM json_each(?)', JSON.stringify(rows.bells))
  }
}

/** Writes `TaskStore.append`: the parts of all callers of a group in at most nine statements, plus one for each task whose documents are large. */
export const appendEvents: WriteKind<readonly Append[], readonly AppendAnswer[]> = {
  name: 'appending events',
  weigh: weighAppend,
  touches: (parts) => parts.map((part) => part.task),
  async apply(connection, jobs) {
    const parts = jobs.flat()
    const { answers, rows } = decideAppends(parts, await readHeads(connection, parts))
    if (rows.heads.size > 0) await writeRows(connection, rows)
    return splitAnswers(jobs, answers)
  },
}
