/** The outbox: bells that the broker has not confirmed yet. Several announcers may read the same bell; ringing twice does no harm. */
import { taskId } from '@lichen/core'
import type { OutboxRow, OutboxStore } from '../ports/task-store.js'
import type { Reader } from './reader.js'
import type { WriteKind, Writer } from './writer.js'

const deleteRows: WriteKind<readonly number[], void> = {
  name: 'emptying the outbox',
  isAtomic: true,
  weigh: (ids) => ids.length * 32,
  async apply(session, jobs) {
    // Another announcer may be deleting the same rows: those are gone without waiting for it.
    await session.run('DELETE FROM outbox WHERE id IN (SELECT id FROM outbox WHERE id = ANY($1::bigint[]) FOR UPDATE SKIP LOCKED)', jobs.flat())
    return jobs.map(() => undefined)
  },
}

/** The outbox over these sessions. */
export function openOutbox(reader: Reader, writer: Writer): OutboxStore {
  return {
    async readOutbox(limit): Promise<readonly OutboxRow[]> {
      const rows = await reader.all<{ id: number; task: string; message: string }>('SELECT id, task, message FROM outbox ORDER BY id LIMIT $1', limit)
      return rows.map((row) => ({ id: row.id, task: taskId(row.task), message: row.message }))
    },
    async deleteOutbox(ids) {
      if (ids.length > 0) await writer.submit(deleteRows, ids)
    },
  }
}
