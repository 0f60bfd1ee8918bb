/** What an append does, decided on the heads of its tasks; the adapters read the heads under a lock and write the rows. */
import type { TaskId } from '@lichen/core'
import type { AppliedAction, Append, AppendAnswer } from '../ports/task-store.js'
import { buildBell } from './bell.js'
import { encodeFootprint } from './footprint.js'

/** What the transaction knows of a task; `seq` moves with each accepted part. */
export interface Head {
  seq: number
  readonly epoch: number
  readonly project: string
  readonly deployment: string
}

/** What becomes of one action's row of `applied`; null: it goes away. */
export interface AppliedChange {
  readonly project: string
  readonly deployment: string
  readonly action: string
  readonly applied: AppliedAction | null
}

/** Documents of a task in place of those that are there; null: what is there stays. */
export interface DocumentChange {
  readonly task: TaskId
  readonly plan: string | null
  readonly graph: string | null
  readonly placement: string | null
}

/** What the accepted parts of a group write. */
export interface AppendRows {
  readonly events: [task: string, seq: number, at: number, event: string][]
  /** By task: the last one wins, here and below. */
  readonly heads: Map<string, [task: string, seq: number, at: number]>
  readonly summaries: Map<string, [task: string, state: string, outcome: string | null, reason: string, counts: string]>
  readonly bells: [task: string, message: string][]
  readonly documents: Map<string, DocumentChange>
  /** By deployment and action. */
  readonly applied: Map<string, AppliedChange>
}

// An engine that drives a task which is not there must stop; a request of the API reads again and finds nothing.
const answerUnknown = (part: Append): AppendAnswer => (part.epoch === null ? 'conflict' : 'fenced')

function acceptDocuments(part: Append, rows: AppendRows): void {
  if (part.graph === undefined && part.plan === undefined) return
  const before = rows.documents.get(part.task)
  rows.documents.set(part.task, {
    task: part.task,
    plan: part.plan ?? before?.plan ?? null,
    graph: part.graph === undefined ? (before?.graph ?? null) : JSON.stringify(part.graph),
    placement: part.graph === undefined ? (before?.placement ?? null) : encodeFootprint(part.graph),
  })
}

function acceptApplied(part: Append, { project, deployment }: Head, rows: AppendRows): void {
  const set = (action: string, applied: AppliedAction | null) => rows.applied.set(JSON.stringify([project, deployment, action]), { project, deployment, action, applied })
  for (const action of part.unapplied ?? []) set(action, null)
  for (const applied of part.applied ?? []) set(applied.action, applied)
}

function acceptPart(part: Append, head: Head, rows: AppendRows): void {
  for (const event of part.events) rows.events.push([part.task, (head.seq += 1), part.at, JSON.stringify(event)])
  rows.heads.set(part.task, [part.task, head.seq, part.at])
  const { summary } = part
  if (summary) rows.summaries.set(part.task, [part.task, summary.state, summary.outcome, summary.reason, JSON.stringify(summary.counts)])
  if (part.announce) rows.bells.push([part.task, buildBell(part.task)])
  acceptDocuments(part, rows)
  acceptApplied(part, head, rows)
}

/** One answer for each part, in order, and what the accepted ones write; no heads in it means that nothing is to be written. */
export function decideAppends(parts: readonly Append[], heads: ReadonlyMap<string, Head>): { readonly answers: readonly AppendAnswer[]; readonly rows: AppendRows } {
  const rows: AppendRows = { events: [], heads: new Map(), summaries: new Map(), bells: [], documents: new Map(), applied: new Map() }
  const answers = parts.map((part): AppendAnswer => {
    const head = heads.get(part.task)
    if (head === undefined) return answerUnknown(part)
    if (part.epoch !== null && part.epoch !== head.epoch) return 'fenced'
    if (part.expectedSeq !== head.seq) return 'conflict'
    acceptPart(part, head, rows)
    return 'appended'
  })
  return { answers, rows }
}

// Events are some 200 bytes, results with output a few KiB; a graph has about 1 KiB for each action, what is applied half of it.
const weighPart = (part: Append): number =>
  256 + part.events.length * 512 + (part.graph?.actions.length ?? 0) * 1024 + (part.plan?.length ?? 0) + (part.applied?.length ?? 0) * 512 + (part.unapplied?.length ?? 0) * 128

/** About how many bytes the parts write. */
export const weighAppend = (parts: readonly Append[]): number => parts.reduce((sum, part) => sum + weighPart(part), 0)

/** The answers of a group, cut into those of each job. */
export function splitAnswers<T>(jobs: readonly (readonly unknown[])[], answers: readonly T[]): T[][] {
  let from = 0
  return jobs.map((job) => answers.slice(from, (from += job.length)))
}
