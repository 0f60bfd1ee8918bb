/**
 * Tells other processes on the same database which tasks were written, and hears it from them (LISTEN and NOTIFY on one connection of its own). A hint and nothing more: one that is lost
 * only makes a watcher wait for its next poll. Owns the connection, which is made anew whenever it breaks, and what is still to be told.
 * Notices are sent after the commits, not in them: NOTIFY in a transaction holds a lock of the whole server until its commit is flushed, so that commits would wait for each other. Here it is sent
 * without a flush (`synchronous_commit = off`), for many tasks at once, and at most each `gatherMs`.
 */
import pg from 'pg'
import type { StoreLog } from '../store-log.js'
import { buildClientConfig, destroy, type TimeLimits } from './sessions.js'
import type { StoreUrl } from './store-url.js'

export interface Notices {
  /** Tells the others, soon. While there is no connection nobody is told. */
  tell(tasks: ReadonlySet<string>): void
  close(): Promise<void>
}

const channel = 'lichen_tasks'
// A tail is read by people: twice as long is not seen either, half as long doubles the notices of a busy engine.
const gatherMs = 20
// PostgreSQL refuses payloads of 8,000 bytes and more.
const payloadBytes = 7_500
const separator = ' '
const retryMs = [250, 500, 1_000, 2_000, 5_000]
// A connection over which nothing comes may be dead without anybody having said so.
const probeMs = 10_000

/** Texts of the tasks' ids, each short enough for one notice. */
export function buildPayloads(tasks: Iterable<string>): string[] {
  const payloads: string[] = []
  let current = ''
  for (const task of tasks) {
    if (current !== '' && Buffer.byteLength(current) + Buffer.byteLength(task) + 1 > payloadBytes) {
      payloads.push(current)
      current = ''
    }
    current = current === '' ? task : `${current}${separator}${task}`
  }
  if (current !== '') payloads.push(current)
  return payloads
}

/** Open notices; the connection is made in the background. `heard` gets what others told, `connected` is called whenever the connection is there (again), since what was told before went unheard. */
export function openNotices(options: { readonly url: StoreUrl; readonly limits: TimeLimits; readonly log: StoreLog; heard(tasks: readonly string[]): void }): Notices {
  const { url, limits, log, heard } = options
  let waiting = new Set<string>()
  let client: pg.Client | undefined
  let timer: NodeJS.Timeout | undefined
  let retry: NodeJS.Timeout | undefined
  let probe: NodeJS.Timeout | undefined
  let failures = 0
  let isTelling = false
  let isClosed = false
  let connecting = connect()

  async function connect(): Promise<void> {
    const next = new pg.Client(buildClientConfig(url, limits, { synchronous_commit: 'off' }))
    let isOver = false
    const over = (error?: Error): void => {
      if (isOver) return
      isOver = true
      destroy(next)
      lose(next, error)
    }
    next.on('error', over)
    next.on('end', () => over())
    // What this process tells comes back on its own connection too: its listeners were woken at the commit.
    next.on('notification', ({ payload, processId }) => processId !== (next as unknown as { readonly processID: number }).processID && payload !== undefined && heard(payload.split(separator)))
    try {
      await next.connect()
      await next.query(`LISTEN ${channel}`)
    } catch (error) {
      return over(error as Error)
    }
    if (isClosed) return destroy(next)
    client = next
    failures = 0
    probe = setInterval(() => next.query('SELECT 1').catch(over), probeMs)
    probe.unref()
  }

  function lose(lost: pg.Client, error: Error | undefined): void {
    if (client === lost) client = undefined
    clearInterval(probe)
    if (isClosed) return
    if (failures === 0) log.warn({ err: error }, 'the connection for notices is gone; tails look each 250 ms until it is back')
    const waitMs = retryMs[Math.min(failures, retryMs.length - 1)] ?? 0
    failures += 1
    retry = setTimeout(() => (connecting = connect()), waitMs)
    retry.unref()
  }

  async function flush(): Promise<void> {
    timer = undefined
    const payloads = buildPayloads(waiting)
    waiting = new Set()
    if (client === undefined || payloads.length === 0) return
    isTelling = true
    // A failure ends the connection, and with it this notice; the poll of the others finds what was written.
    await client.query({ name: 'tell', text: 'SELECT pg_notify($1, payload) FROM unnest($2::text[]) AS given (payload)', values: [channel, payloads] }).catch(() => undefined)
    isTelling = false
    if (waiting.size > 0) arm()
  }

  function arm(): void {
    if (timer !== undefined || isTelling || isClosed) return
    timer = setTimeout(() => void flush(), gatherMs)
    timer.unref()
  }

  return {
    tell(tasks) {
      if (client === undefined) return
      for (const task of tasks) waiting.add(task)
      arm()
    },
    async close() {
      isClosed = true
      clearTimeout(timer)
      clearTimeout(retry)
      clearInterval(probe)
      await connecting
      if (client !== undefined) destroy(client)
    },
  }
}
