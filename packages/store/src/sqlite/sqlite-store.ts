/**
 * The store in one SQLite file. Owns two connections: one that writes (through the writer alone) and one that reads, so that a read never waits
 * for a write. Several processes may open the same file on a local disk; a file system over the network cannot hold it (WAL needs shared memory).
 * Invariants: (1) WAL with synchronous=FULL: what a promise resolved for survives a power cut; (2) the reading connection cannot write;
 * (3) the file and its companions are readable by their owner alone.
 */
import { open } from 'node:fs/promises'
import type { Store } from '../store.js'
import { silentLog, type StoreLog } from '../store-log.js'
import { openWatchers } from '../watch.js'
import { openConnection, waitForLock, type Bindable, type Connection } from './connection.js'
import { openEngines } from './engines.js'
import { explainFailure } from './failure.js'
import { openLogs } from './logs.js'
import { migrate } from './migrate.js'
import { openNodes } from './nodes.js'
import { openOutbox } from './outbox.js'
import { openSecrets } from './secrets.js'
import { openTasks } from './tasks.js'
import { startWriter } from './writer.js'

export interface SqliteStoreOptions {
  /** Path of the database file; its directory must exist. */
  readonly path: string
  readonly log?: StoreLog
  /** How long a write waits for the lock of another process before STORE_UNAVAILABLE. Default: 5,000. */
  readonly busyTimeoutMs?: number
}

// Pages of WAL before it is copied into the database, here 16 MiB. SQLite's 4 MiB would flush the database file twelve times a second at 50 MB/s of logs;
// much more makes reading slower and the file bigger.
const checkpointPages = 4096
const walKeptBytes = 64 * 1024 * 1024
// Negative: KiB. The working set of events and rows of the running tasks; SQLite's default of 2 MiB reads pages again and again at 3,000 actions/s.
const cacheKib = -32 * 1024

const readerSettings = `
  PRAGMA cache_size = ${cacheKib};
  PRAGMA query_only = ON;
`
const writerSettings = `
  PRAGMA synchronous = FULL;
  PRAGMA foreign_keys = ON;
  PRAGMA wal_autocheckpoint = ${checkpointPages};
  PRAGMA journal_size_limit = ${walKeptBytes};
  PRAGMA cache_size = ${cacheKib};
`

/** Makes the file if missing, for its owner's eyes only; SQLite gives its companions the same mode. */
async function createFile(path: string): Promise<void> {
  const file = await open(path, 'a', 0o600)
  await file.close()
}

async function openWriting(path: string, busyTimeoutMs: number, log: StoreLog): Promise<Connection> {
  const connection = await openConnection(path)
  try {
    await waitForLock(busyTimeoutMs, () => connection.execute('PRAGMA journal_mode = WAL'))
    await connection.execute(writerSettings)
    const applied = await migrate(connection, path, busyTimeoutMs)
    if (applied.length > 0) log.info({ path, applied }, 'the tables of the store were brought up to date')
    return connection
  } catch (error) {
    await connection.close()
    throw error
  }
}

async function openReading(path: string): Promise<Connection> {
  const connection = await openConnection(path)
  await connection.execute(readerSettings)
  return connection
}

/** The connection as the ports read through it: the rare lock (another process recovers the log of a crash) is waited for, failures come out as a LichenError. */
function explainReads(connection: Connection, path: string, busyTimeoutMs: number): Connection {
  const all = async <R>(sql: string, ...parameters: readonly Bindable[]): Promise<readonly R[]> => {
    try {
      return await waitForLock(busyTimeoutMs, () => connection.all<R>(sql, ...parameters))
    } catch (error) {
      throw explainFailure(error, `reading ${path}`)
    }
  }
  return { ...connection, all }
}

/** Asks whether another process committed since it was asked last; SQLite does not tell what, so all tasks may have moved then. */
function buildForeignCheck(writing: Connection): (tasks: readonly string[]) => Promise<readonly string[]> {
  let last: number | undefined
  return async (tasks) => {
    // Asked on the writing connection, because its number stays the same when this process commits (https://sqlite.org/pragma.html#pragma_data_version).
    const [row] = await writing.all<{ data_version: number }>('PRAGMA data_version')
    // The first number counts as a move: what was committed between the listener's last read and this poll must not be missed.
    const isMoved = row?.data_version !== last
    last = row?.data_version
    return isMoved ? tasks : []
  }
}

/**
 * An open store over the SQLite file at `path`, made when missing and brought up to date.
 * @throws STORE_SCHEMA when a newer Lichen wrote it, STORE_UNAVAILABLE when it cannot be opened or another process holds its lock for longer than the limit
 */
export async function openSqliteStore({ path, log = silentLog, busyTimeoutMs = 5_000 }: SqliteStoreOptions): Promise<Store> {
  let writing: Connection
  let reading: Connection
  try {
    await createFile(path)
    writing = await openWriting(path, busyTimeoutMs, log)
    reading = explainReads(await openReading(path), path, busyTimeoutMs)
  } catch (error) {
    throw explainFailure(error, `opening ${path}`)
  }
  const watchers = openWatchers(buildForeignCheck(writing), log)
  const writer = startWriter({ connection: writing, busyTimeoutMs, log, committed: (tasks) => watchers.wake(tasks) })
  let closed: Promise<void> | undefined

  async function close(): Promise<void> {
    watchers.close()
    await writer.stop()
    await reading.close()
    await writing.close()
  }

  return {
    tasks: openTasks(reading, writer),
    outbox: openOutbox(reading, writer),
    nodes: openNodes(reading, writer),
    engines: openEngines(reading, writer),
    logs: openLogs(reading, writer),
    secrets: openSecrets(reading, writer),
    watchTask: (task, listener) => watchers.watch(task, listener),
    async ping() {
      await reading.all('SELECT 1')
    },
    close: () => (closed ??= close()),
  }
}
