/**
 * Empties the outbox: what the store has written there is published with confirms and then deleted. Owns one loop and one timer.
 *
 * 1. A row is deleted only after the broker confirmed its message; a crash between the two rings twice, which is harmless.
 * 2. One read and publish runs at a time; deletions are gathered and run beside it, and a row that waits for its deletion is not published again.
 * 3. `ring` returns at once and never throws: no request waits for the broker.
 * 4. Every `intervalMs` the outbox is looked at without a ring: rows of other processes, of a crash, of a broker that was away.
 * 5. After a failure the next try waits, twice as long each time up to `longestPauseMs`; a success starts over.
 */
import type { Broker } from '@lichen/broker'
import type { Clock, Timer } from '@lichen/core'
import type { OutboxRow, Store } from '@lichen/store'
import type { ApiLog } from './api-log.js'

export interface Announcer {
  /** Something may be in the outbox. */
  ring(): void
  /** Ends the loop and resolves when nothing of it runs any more. What is in the outbox stays there for the next start. */
  stop(): Promise<void>
}

export interface AnnouncerOptions {
  readonly store: Pick<Store, 'outbox'>
  readonly broker: Broker
  readonly clock: Clock
  readonly log: ApiLog
  /** Pause of the sweeper. Default: 2,000: how long a task of a crashed process waits for its bell at worst. */
  readonly intervalMs?: number
}

// Messages of one publish: 500 bells are 30 KB. Fewer cost confirms, more keep the first of them waiting.
const batchRows = 500
// Rows that were announced are deleted together: at 500 tasks a second one transaction instead of ten. Longer keeps more rows to be read over.
const deletionPauseMs = 20
const firstPauseMs = 250
const longestPauseMs = 10_000

/** A running announcer. */
export function startAnnouncer({ store, broker, clock, log, intervalMs = 2_000 }: AnnouncerOptions): Announcer {
  /** Announced, not deleted yet. */
  const leaving = new Set<number>()
  const deletions = new Set<Promise<void>>()
  let isDeletionPlanned = false
  let announced: number[] = []
  let running: Promise<void> | undefined
  let isRung = false
  let isStopped = false
  let pauseMs = 0
  let pausedUntil = 0
  let timer: Timer | undefined

  function schedule(): void {
    timer?.cancel()
    if (isStopped) return
    timer = clock.after(pauseMs > 0 ? pauseMs : intervalMs, ring)
  }

  function ring(): void {
    isRung = true
    if (isStopped || running !== undefined || clock.elapsed() < pausedUntil) return
    running = announce().finally(() => {
      running = undefined
      schedule()
    })
  }

  async function announce(): Promise<void> {
    try {
      while (isRung && !isStopped) {
        isRung = false
        // A full page means that more may be waiting.
        if ((await publishPage()) === batchRows) isRung = true
      }
      if (pauseMs > 0) log.info({}, 'announcing tasks works again')
      pauseMs = 0
    } catch (error) {
      if (pauseMs === 0) log.warn({ err: error }, 'tasks cannot be announced now; they wait in the outbox and none is lost')
      pauseMs = pauseMs === 0 ? firstPauseMs : Math.min(longestPauseMs, pauseMs * 2)
      pausedUntil = clock.elapsed() + pauseMs - 1
    }
  }

  async function publishPage(): Promise<number> {
    const page = await store.outbox.readOutbox(batchRows + leaving.size)
    const rows = page.filter((row) => !leaving.has(row.id)).slice(0, batchRows)
    if (rows.length === 0) return 0
    await broker.publish('tasks', rows.map((row) => ({ id: `outbox-${row.id}`, body: row.message })))
    forget(rows)
    return rows.length
  }

  function forget(rows: readonly OutboxRow[]): void {
    for (const row of rows) {
      leaving.add(row.id)
      announced.push(row.id)
    }
    if (isDeletionPlanned) return
    isDeletionPlanned = true
    clock.after(deletionPauseMs, deleteAnnounced)
  }

  function deleteAnnounced(): void {
    isDeletionPlanned = false
    const ids = announced
    announced = []
    if (ids.length === 0) return
    const deletion = store.outbox
      .deleteOutbox(ids)
      .catch((error: unknown) => log.warn({ err: error, count: ids.length }, 'announced rows could not be deleted; they will be announced again'))
      .finally(() => {
        for (const id of ids) leaving.delete(id)
        deletions.delete(deletion)
      })
    deletions.add(deletion)
  }

  ring()
  return {
    ring,
    async stop() {
      isStopped = true
      timer?.cancel()
      await running
      deleteAnnounced()
      await Promise.all(deletions)
    },
  }
}
