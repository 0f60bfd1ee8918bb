/** The outbox: bells that the broker has not confirmed yet. */
import { taskId } from '@lichen/core'
import type { OutboxRow, OutboxStore } from '../ports/task-store.js'
import type { Connection } from './connection.js'
import type { WriteKind, Writer } from './writer.js'

const deleteRows: WriteKind<readonly number[], void> = {
  name: 'emptying the outbox',
  weigh: (ids) => ids.length * 32,
  async apply(connection, jobs) {
    await connection.run('DELETE FROM outbox WHERE id IN (SELECT value FROM json_each(?))', JSON.stringify(jobs.flat()))
    return jobs.map(() => undefined)
  },
}

/** The outbox over these connections. */
export function openOutbox(reader: Connection, writer: Writer): OutboxStore {
  return {
    async readOutbox(limit): Promise<readonly OutboxRow[]> {
      const rows = await reader.all<{ id: number; task: string; message: string }>('SELECT id, task, message FROM outbox ORDER BY id LIMIT ?', limit)
      return rows.map((row) => ({ id: row.id, task: taskId(row.task), message: row.message }))
    },
    async deleteOutbox(ids) {
      if (ids.length > 0) await writer.submit(deleteRows, ids)
    },
  }
}
