/** Appending events of many tasks, with what follows from them: the row, the documents, what is applied, the bell. */
import type { Append, AppendAnswer } from '../ports/task-store.js'
import { decideAppends, splitAnswers, weighAppend, type AppendRows, type Head } from '../rules/append-rules.js'
import type { Session } from './sessions.js'
import type { WriteKind } from './writer.js'

/** The heads of the tasks, locked in the order of their ids until the transaction ends. */
async function lockHeads(session: Session, parts: readonly Append[]): Promise<Map<string, Head>> {
  const rows = await session.all<Head & { readonly id: string }>(
    'SELECT id, seq, lease_epoch AS epoch, project, deployment FROM tasks WHERE id = ANY($1::text[]) ORDER BY id FOR NO KEY UPDATE',
    [...new Set(parts.map((part) => part.task))],
  )
  return new Map(rows.map((row) => [row.id, row]))
}

// One statement for both tables: a round trip less in each transaction. The row of the task is written once, with or without a summary.
const writeEventsSql = `
  WITH inserted AS (INSERT INTO events (task, seq, at, event) SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[]))
  UPDATE tasks SET seq = part.seq, updated_at = part.at, state = coalesce(part.state, tasks.state), outcome = CASE WHEN part.state IS NULL THEN tasks.outcome ELSE part.outcome END,
    reason = coalesce(part.reason, tasks.reason), counts = coalesce(part.counts, tasks.counts)
  FROM unnest($5::text[], $6::bigint[], $7::bigint[], $8::text[], $9::text[], $10::text[], $11::text[]) AS part (id, seq, at, state, outcome, reason, counts)
  WHERE tasks.id = part.id`

async function writeEvents(session: Session, { events, heads, summaries }: AppendRows): Promise<void> {
  const parts = [...heads.values()].map(([task, seq, at]) => ({ task, seq, at, summary: summaries.get(task) }))
  await session.run(
    writeEventsSql,
    events.map(([task]) => task), events.map(([, seq]) => seq), events.map(([, , at]) => at), events.map(([, , , event]) => event),
    parts.map(({ task }) => task), parts.map(({ seq }) => seq), parts.map(({ at }) => at),
    parts.map(({ summary }) => summary?.[1] ?? null), parts.map(({ summary }) => summary?.[2] ?? null), parts.map(({ summary }) => summary?.[3] ?? null), parts.map(({ summary }) => summary?.[4] ?? null),
  )
}

async function writeDocuments(session: Session, { documents }: AppendRows): Promise<void> {
  const changes = [...documents.values()]
  await session.run(
    `UPDATE task_documents SET plan = coalesce(change.plan, task_documents.plan), graph = coalesce(change.graph, task_documents.graph), placement = coalesce(change.placement, task_documents.placement)
     FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS change (task, plan, graph, placement) WHERE task_documents.task = change.task`,
    changes.map(({ task }) => task), changes.map(({ plan }) => plan), changes.map(({ graph }) => graph), changes.map(({ placement }) => placement),
  )
}

// Two tasks of one deployment may record the same actions at the same time. The locks of the rows that are there are taken first and in one order, so that deleting and inserting wait for nobody.
const lockAppliedSql = `
  SELECT 1 FROM applied WHERE (project, deployment, action) IN (SELECT * FROM unnest($1::text[], $2::text[], $3::text[])) ORDER BY project, deployment, action FOR UPDATE`
const deleteAppliedSql = 'DELETE FROM applied WHERE (project, deployment, action) IN (SELECT * FROM unnest($1::text[], $2::text[], $3::text[]))'
const insertAppliedSql = `
  INSERT INTO applied (project, deployment, action, node, key, task, outputs)
  SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[]) AS given (project, deployment, action, node, key, task, outputs)
  ORDER BY project COLLATE "C", deployment COLLATE "C", action COLLATE "C"
  ON CONFLICT (project, deployment, action) DO UPDATE SET node = excluded.node, key = excluded.key, task = excluded.task, outputs = excluded.outputs`

async function writeApplied(session: Session, rows: AppendRows): Promise<void> {
  const changes = [...rows.applied.values()]
  const gone = changes.filter(({ applied }) => applied === null)
  const kept = changes.flatMap(({ project, deployment, applied }) => (applied === null ? [] : [{ project, deployment, ...applied }]))
  await session.all(lockAppliedSql, changes.map(({ project }) => project), changes.map(({ deployment }) => deployment), changes.map(({ action }) => action))
  if (gone.length > 0) await session.run(deleteAppliedSql, gone.map(({ project }) => project), gone.map(({ deployment }) => deployment), gone.map(({ action }) => action))
  if (kept.length > 0) {
    await session.run(
      insertAppliedSql,
      kept.map(({ project }) => project), kept.map(({ deployment }) => deployment), kept.map(({ action }) => action), kept.map(({ node }) => node),
      kept.map(({ key }) => key), kept.map(({ task }) => task), kept.map(({ outputs }) => JSON.stringify(outputs)),
    )
  }
}

/** Writes `TaskStore.append`: the parts of all callers of a group in at most seven statements. */
export const appendEvents: WriteKind<readonly Append[], readonly AppendAnswer[]> = {
  name: 'appending events',
  lanes: 3,
  keys: (parts) => parts.map((part) => part.task),
  weigh: weighAppend,
  touches: (parts) => parts.map((part) => part.task),
  async apply(session, jobs) {
    const parts = jobs.flat()
    const { answers, rows } = decideAppends(parts, await lockHeads(session, parts))
    if (rows.heads.size > 0) await writeEvents(session, rows)
    if (rows.documents.size > 0) await writeDocuments(session, rows)
    if (rows.applied.size > 0) await writeApplied(session, rows)
    if (rows.bells.length > 0) await session.run('INSERT INTO outbox (task, message) SELECT * FROM unnest($1::text[], $2::text[])', rows.bells.map(([task]) => task), rows.bells.map(([, message]) => message))
    return splitAnswers(jobs, answers)
  },
}
