/** The port of task logs. Offsets count bytes, so a page of N bytes is a range of offsets; with a filter it is found from the sizes first. */
import type { TaskId } from '@lichen/core'
import type { LogChunkRecord, LogStore } from '../ports/log-store.js'
import { appendChunks } from './log-append.js'
import type { Reader } from './reader.js'
import type { Bindable } from './sessions.js'
import type { Writer } from './writer.js'

type Filter = NonNullable<Parameters<LogStore['readLog']>[3]>

const selectChunks = 'SELECT task, "offset", action, attempt, node, position, command, stream, at, data FROM log_chunks WHERE task = $1'

/** Offset of the chunk that holds `offset`, else `offset` itself. Looks at one row: a follower asks at the end of its log again and again. */
async function findFirst(reader: Reader, task: TaskId, offset: number): Promise<number> {
  const [row] = await reader.all<{ first: number; size: number }>('SELECT "offset" AS first, size FROM log_chunks WHERE task = $1 AND "offset" <= $2 ORDER BY "offset" DESC LIMIT 1', task, offset)
  return row !== undefined && row.first + row.size > offset ? row.first : offset
}

/** Conditions whose first parameter has the number `from`. */
function buildFilter(filter: Filter, from: number): { readonly where: string; readonly values: readonly Bindable[] } {
  const given = [
    ...(filter.node === undefined ? [] : [{ column: 'node', value: filter.node as string }]),
    ...(filter.action === undefined ? [] : [{ column: 'action', value: filter.action as string }]),
  ]
  return { where: given.map((one, index) => ` AND ${one.column} = $${from + index}`).join(''), values: given.map((one) => one.value) }
}

// Sizes looked at for one page of a filtered read: enough for 1 MiB of lines of 64 bytes each.
const filteredRows = 16_384

/** Last chunk of a filtered page: the first one with which the page reaches `maxBytes`. Undefined when nothing matches. */
async function findLast(reader: Reader, task: TaskId, first: number, maxBytes: number, where: string, values: readonly Bindable[]): Promise<number | undefined> {
  const rows = await reader.all<{ offset: number; size: number }>(
    `SELECT "offset", size FROM log_chunks WHERE task = $1 AND "offset" >= $2${where} ORDER BY "offset" LIMIT ${filteredRows}`,
    task, first, ...values,
  )
  let bytes = 0
  for (const row of rows) {
    bytes += row.size
    if (bytes >= maxBytes) return row.offset
  }
  return rows.at(-1)?.offset
}

async function readLog(reader: Reader, task: TaskId, offset: number, maxBytes: number, filter: Filter = {}): Promise<readonly LogChunkRecord[]> {
  const first = await findFirst(reader, task, offset)
  const { where, values } = buildFilter(filter, 3)
  if (values.length === 0) return reader.all<LogChunkRecord>(`${selectChunks} AND "offset" >= $2 AND "offset" < $3 ORDER BY "offset"`, task, first, offset + Math.max(1, maxBytes))
  const last = await findLast(reader, task, first, maxBytes, where, values)
  if (last === undefined) return []
  return reader.all<LogChunkRecord>(`${selectChunks} AND "offset" >= $2${where} AND "offset" <= $${3 + values.length} ORDER BY "offset"`, task, first, ...values, last)
}

/** Task logs over these sessions. */
export function openLogs(reader: Reader, writer: Writer): LogStore {
  return {
    appendLog: async (chunks) => (chunks.length === 0 ? [] : writer.submit(appendChunks, chunks)),
    readLog: (task, offset, maxBytes, filter) => readLog(reader, task, offset, maxBytes, filter),
    async logEnd(task) {
      const [row] = await reader.all<{ end: number }>('SELECT end_offset AS "end" FROM log_ends WHERE task = $1', task)
      return row?.end ?? 0
    },
  }
}
