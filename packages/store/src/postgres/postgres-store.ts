/**
 * The store in a PostgreSQL database, for any number of API replicas and engines at once. Owns the sessions (a few that read, a few that write through the writer, one for notices) and the order
 * of opening and closing. Invariants: (1) what a promise resolved for was flushed by the server; (2) while the server is away every call fails with STORE_UNAVAILABLE within the limits, and works again
 * when it is back; (3) the password of the URL stands in no message and no log.
 */
import type { Store } from '../store.js'
import { LichenError } from '@lichen/core'
import { silentLog, type StoreLog } from '../store-log.js'
import { openWatchers } from '../watch.js'
import { openEngines } from './engines.js'
import { explainFailure } from './failure.js'
import { openLogs } from './logs.js'
import { migrate } from './migrate.js'
import { openNodes } from './nodes.js'
import { openNotices } from './notices.js'
import { openOutbox } from './outbox.js'
import { buildReader, type Reader } from './reader.js'
import { openSecrets } from './secrets.js'
import { defaultTimeLimits, openSessions, type SessionPool, type TimeLimits } from './sessions.js'
import { parseStoreUrl } from './store-url.js'
import { openTasks } from './tasks.js'
import { startWriter } from './writer.js'

export interface PostgresStoreOptions {
  /** `postgres://user:password@host:5432/database?sslmode=…`. The database must exist; its tables are made. */
  readonly url: string
  readonly log?: StoreLog
  /** Default: see `defaultTimeLimits`. */
  readonly limits?: Partial<TimeLimits>
}

// A process has at most eleven sessions. A server allows 100 unless told otherwise: twice as many sessions would leave room for four processes only, half as many would let commits wait for each other.
const readingSessions = 4
const writingSessions = 6

async function prepare(sessions: SessionPool, shown: string, log: StoreLog): Promise<void> {
  const [settings] = await sessions.use((session) => session.all<{ encoding: string; fsync: string }>("SELECT current_setting('server_encoding') AS encoding, current_setting('fsync') AS fsync"))
  if (settings?.encoding !== 'UTF8') throw new LichenError('STORE_UNSUPPORTED', `opening ${shown}: the database has the encoding ${settings?.encoding}; make it with ENCODING 'UTF8'`)
  if (settings.fsync !== 'on') log.warn({ store: shown }, 'the server does not flush what it commits (fsync is off): a power cut may lose what was accepted')
  const applied = await migrate(sessions, shown)
  if (applied.length > 0) log.info({ store: shown, applied }, 'the tables of the store were brought up to date')
}

/** Asks which of the tasks have another row or more log than when it was asked last. One question for all tasks, by their keys. */
function buildMovedCheck(reader: Reader): (tasks: readonly string[]) => Promise<readonly string[]> {
  let last = new Map<string, string>()
  return async (tasks) => {
    const rows = await reader.all<{ task: string; version: string }>(
      `SELECT wanted.task, concat_ws(' ', seq, updated_at, state, end_offset) AS version
       FROM unnest($1::text[]) AS wanted (task) LEFT JOIN tasks ON tasks.id = wanted.task LEFT JOIN log_ends ON log_ends.task = wanted.task`,
      tasks,
    )
    const before = last
    last = new Map(rows.map((row) => [row.task, row.version]))
    return rows.filter((row) => before.get(row.task) !== row.version).map((row) => row.task)
  }
}

/**
 * An open store over the database of `url`, brought up to date.
 * @throws STORE_UNSUPPORTED for a URL that cannot be read or a database that is not UTF-8, STORE_SCHEMA when a newer Lichen wrote it, STORE_UNAVAILABLE when the server does not let us in
 */
export async function openPostgresStore({ url: text, log = silentLog, limits: given }: PostgresStoreOptions): Promise<Store> {
  const url = parseStoreUrl(text)
  const limits = { ...defaultTimeLimits, ...given }
  const writing = openSessions({ url, limits, size: writingSessions, log })
  try {
    await prepare(writing, url.shown, log)
  } catch (error) {
    await writing.close()
    throw explainFailure(error, `opening ${url.shown}`)
  }
  const reading = openSessions({ url, limits, size: readingSessions, log })
  const reader = buildReader(reading, url.shown)
  const watchers = openWatchers(buildMovedCheck(reader), log)
  const notices = openNotices({ url, limits, log, heard: (tasks) => watchers.wake(tasks) })
  const writer = startWriter({
    sessions: writing,
    log,
    committed(tasks) {
      watchers.wake(tasks)
      notices.tell(tasks)
    },
  })
  let closed: Promise<void> | undefined

  async function close(): Promise<void> {
    watchers.close()
    await writer.stop()
    await Promise.all([notices.close(), reading.close(), writing.close()])
  }

  return {
    tasks: openTasks(reader, writer),
    outbox: openOutbox(reader, writer),
    nodes: openNodes(reader, writer),
    engines: openEngines(reader, writer),
    logs: openLogs(reader, writer),
    secrets: openSecrets(reader, writer),
    watchTask: (task, listener) => watchers.watch(task, listener),
    async ping() {
      await reader.all('SELECT 1')
    },
    close: () => (closed ??= close()),
  }
}
