/** The port of task logs. Offsets count bytes, so a page of N bytes is a range of offsets; with a filter it is found from the sizes first. */
import type { TaskId } from '@lichen/core'
import type { LogChunkRecord, LogStore } from '../ports/log-store.js'
import type { Bindable, Connection } from './connection.js'
import { appendChunks } from './log-append.js'
import type { Writer } from './writer.js'

type Filter = NonNullable<Parameters<LogStore['readLog']>[3]>

const selectChunks = 'SELECT task, "offset", action, attempt, node, position, command, stream, at, data FROM log_chunks WHERE task = ?'

/** Offset of the chunk that holds `offset`, else `offset` itself. Looks at one row: a follower asks at the end of its log again and again. */
async function findFirst(reader: Connection, task: TaskId, offset: number): Promise<number> {
  const [row] = await reader.all<{ first: number; size: number }>('SELECT "offset" AS first, size FROM log_chunks WHERE task = ? AND "offset" <= ? ORDER BY "offset" DESC LIMIT 1', task, offset)
  return row !== undefined && row.first + row.size > offset ? row.first : offset
}

function buildFilter(filter: Filter): { readonly where: string; readonly values: readonly Bindable[] } {
  const given = [
    ...(filter.node === undefined ? [] : [{ condition: ' AND node = ?', value: filter.node as string }]),
    ...(filter.action === undefined ? [] : [{ condition: ' AND action = ?', value: filter.action as string }]),
  ]
  return { where: given.map((one) => one.condition).join(''), values: given.map((one) => one.value) }
}

// Sizes looked at for one page of a filtered read: enough for 1 MiB of lines of 64 bytes each.
const filteredRows = 16_384

/** Last chunk of a filtered page: the first one with which the page reaches `maxBytes`. Undefined when nothing matches. */
async function findLast(reader: Connection, task: TaskId, first: number, maxBytes: number, where: string, values: readonly Bindable[]): Promise<number | undefined> {
  const rows = await reader.all<{ offset: number; size: number }>(
    `SELECT "offset", size FROM log_chunks WHERE task = ? AND "offset" >= ?${where} ORDER BY "offset" LIMIT ?`,
    task, first, ...values, filteredRows,
  )
  let bytes = 0
  for (const row of rows) {
    bytes += row.size
    if (bytes >= maxBytes) return row.offset
  }
  return rows.at(-1)?.offset
}

async function readLog(reader: Connection, task: TaskId, offset: number, maxBytes: number, filter: Filter = {}): Promise<readonly LogChunkRecord[]> {
  const first = await findFirst(reader, task, offset)
  const { where, values } = buildFilter(filter)
  if (values.length === 0) return reader.all<LogChunkRecord>(`${selectChunks} AND "offset" >= ? AND "offset" < ? ORDER BY "offset"`, task, first, offset + Math.max(1, maxBytes))
  const last = await findLast(reader, task, first, maxBytes, where, values)
  if (last === undefined) return []
  return reader.all<LogChunkRecord>(`${selectChunks} AND "offset" BETWEEN ? AND ?${where} ORDER BY "offset"`, task, first, last, ...values)
}

/** Task logs over these connections. */
export function openLogs(reader: Connection, writer: Writer): LogStore {
  return {
    appendLog: async (chunks) => (chunks.length === 0 ? [] : writer.submit(appendChunks, chunks)),
    readLog: (task, offset, maxBytes, filter) => readLog(reader, task, offset, maxBytes, filter),
    async logEnd(task) {
      const [row] = await reader.all<{ end: number }>('SELECT end_offset AS end FROM log_ends WHERE task = ?', task)
      return row?.end ?? 0
    },
  }
}
