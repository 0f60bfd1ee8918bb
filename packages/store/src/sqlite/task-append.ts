/** Appending events of many tasks, with what follows from them: the row, the graph, the bell. */
import type { Append, AppendAnswer } from '../ports/task-store.js'
import type { Connection } from './connection.js'
import { buildBell } from './outbox.js'
import type { WriteKind } from './writer.js'

/** A task's guard values as the transaction sees them; `seq` moves with each accepted part. */
interface Head {
  seq: number
  readonly epoch: number
}

async function readHeads(connection: Connection, parts: readonly Append[]): Promise<Map<string, Head>> {
  const rows = await connection.all<{ id: string; seq: number; epoch: number }>(
    'SELECT id, seq, lease_epoch AS epoch FROM tasks WHERE id IN (SELECT value FROM json_each(?))',
    JSON.stringify([...new Set(parts.map((part) => part.task))]),
  )
  return new Map(rows.map((row) => [row.id, { seq: row.seq, epoch: row.epoch }]))
}

// An engine that drives a task which is not there must stop; a request of the API reads again and finds nothing.
const answerUnknown = (part: Append): AppendAnswer => (part.epoch === null ? 'conflict' : 'fenced')

/** What the accepted parts of a group write, in the shape of the statements below. */
interface Rows {
  readonly events: [task: string, seq: number, at: number, event: string][]
  /** By task: the last one wins. */
  readonly heads: Map<string, [task: string, seq: number, at: number]>
  readonly summaries: Map<string, [task: string, state: string, outcome: string | null, reason: string, counts: string]>
  readonly bells: [task: string, message: string][]
  readonly graphs: Append[]
}

function acceptPart(part: Append, head: Head, rows: Rows): void {
  for (const event of part.events) rows.events.push([part.task, (head.seq += 1), part.at, JSON.stringify(event)])
  rows.heads.set(part.task, [part.task, head.seq, part.at])
  const { summary } = part
  if (summary) rows.summaries.set(part.task, [part.task, summary.state, summary.outcome, summary.reason, JSON.stringify(summary.counts)])
  if (part.announce) rows.bells.push([part.task, buildBell(part.task)])
  if (part.graph) rows.graphs.push(part)
}

function decideParts(parts: readonly Append[], heads: Map<string, Head>, rows: Rows): AppendAnswer[] {
  return parts.map((part): AppendAnswer => {
    const head = heads.get(part.task)
    if (head === undefined) return answerUnknown(part)
    if (part.epoch !== null && part.epoch !== head.epoch) return 'fenced'
    if (part.expectedSeq !== head.seq) return 'conflict'
    acceptPart(part, head, rows)
    return 'appended'
  })
}

async function writeRows(connection: Connection, rows: Rows): Promise<void> {
  if (rows.events.length > 0) {
    await connection.run(
      'INSERT INTO events (task, seq, at, event) SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3 FROM json_each(?)',
      JSON.stringify(rows.events),
    )
  }
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
  for (const { task, graph } of rows.graphs) {
    await connection.run('UPDATE task_documents SET graph = ?, placement = ? WHERE task = ?', JSON.stringify(graph), JSON.stringify(graph?.placement), task)
  }
  if (rows.bells.length > 0) {
    await connection.run('INSERT INTO outbox (task, message) SELECT value ->> 0, value ->> 1 FROM json_each(?)', JSON.stringify(rows.bells))
  }
}

// Events are some 200 bytes, results with output a few KiB; a graph has about 1 KiB for each action.
const weighPart = (part: Append): number => 256 + part.events.length * 512 + (part.graph?.actions.length ?? 0) * 1024

/** Writes `TaskStore.append`: the parts of all callers of a group in at most six statements, plus one for each graph. */
export const appendEvents: WriteKind<readonly Append[], readonly AppendAnswer[]> = {
  name: 'appending events',
  weigh: (parts) => parts.reduce((sum, part) => sum + weighPart(part), 0),
  touches: (parts) => parts.map((part) => part.task),
  async apply(connection, jobs) {
    const parts = jobs.flat()
    const rows: Rows = { events: [], heads: new Map(), summaries: new Map(), bells: [], graphs: [] }
    const answers = decideParts(parts, await readHeads(connection, parts), rows)
    if (rows.heads.size > 0) await writeRows(connection, rows)
    let from = 0
    return jobs.map((job) => answers.slice(from, (from += job.length)))
  },
}
