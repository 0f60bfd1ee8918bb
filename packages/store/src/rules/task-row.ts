/** The row of a task as both databases give it: quoted names of columns keep their case in PostgreSQL, and SQLite takes them too. */
import type { ActionGraph, TaskId } from '@lichen/core'
import type { TaskStore, TaskSummary } from '../ports/task-store.js'

/** What `summaryColumns` selects. */
export type SummaryRow = Omit<TaskSummary, 'counts'> & { readonly id: TaskId; readonly counts: string }

/** A row joined with its documents. */
export type DocumentRow = SummaryRow & { readonly plan: string; readonly graph: string | null }

/** Columns of `tasks` for a `SummaryRow`. */
export const summaryColumns = 'id, kind, project, deployment, state, outcome, reason, counts, seq, created_at AS "createdAt", updated_at AS "updatedAt"'

/** The summary in a row. */
export const decodeSummary = (row: SummaryRow): TaskSummary => ({ ...row, counts: JSON.parse(row.counts) as Record<string, number> })

/** The task in a row; undefined without one. */
export function decodeTask(row: DocumentRow | undefined): Awaited<ReturnType<TaskStore['read']>> {
  if (row === undefined) return undefined
  const { plan, graph, ...summary } = row
  return { summary: decodeSummary(summary), plan, graph: graph === null ? null : (JSON.parse(graph) as ActionGraph) }
}
