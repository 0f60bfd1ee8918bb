/** What SQLite's result codes mean for callers of the store. Source: https://sqlite.org/rescode.html */
import { LichenError } from '@lichen/core'

/** An error of the `sqlite3` library: `code` is the name of SQLite's primary result code. */
export interface SqliteFailure extends Error {
  readonly code: string
}

// The database is not usable now, through no fault of the statement: another try later may succeed.
const unavailableCodes: ReadonlySet<string> = new Set([
  'SQLITE_BUSY', 'SQLITE_LOCKED', 'SQLITE_FULL', 'SQLITE_IOERR', 'SQLITE_CANTOPEN', 'SQLITE_READONLY', 'SQLITE_NOMEM', 'SQLITE_PROTOCOL',
  'SQLITE_INTERRUPT', 'SQLITE_CORRUPT', 'SQLITE_NOTADB', 'SQLITE_PERM', 'SQLITE_AUTH', 'SQLITE_NOLFS', 'SQLITE_MISUSE',
])

const words: Readonly<Record<string, string>> = {
  SQLITE_BUSY: 'another process holds the write lock',
  SQLITE_FULL: 'the disk is full',
  SQLITE_NOTADB: 'the file is not a SQLite database',
  SQLITE_CORRUPT: 'the database file is damaged',
  SQLITE_CANTOPEN: 'the file cannot be opened',
  SQLITE_READONLY: 'the file or its directory is read-only',
  SQLITE_MISUSE: 'the database is closed',
}

const isSystemFailure = (error: unknown): boolean => error instanceof Error && typeof (error as NodeJS.ErrnoException).errno === 'number' && typeof (error as NodeJS.ErrnoException).syscall === 'string'
const isSqliteFailure = (error: unknown): error is SqliteFailure => error instanceof Error && typeof (error as { code?: unknown }).code === 'string' && (error as SqliteFailure).code.startsWith('SQLITE_')

/** True when the reason lies in the write itself or its data, so that other writes may still succeed; false when the database is not usable now. */
export const isFaultOfWrite = (error: unknown): boolean => !(isSqliteFailure(error) && unavailableCodes.has(error.code))

/** True when another connection holds a lock that this one needs. */
export const isBusy = (error: unknown): boolean => isSqliteFailure(error) && error.code === 'SQLITE_BUSY'

/** The error to throw for `error`: STORE_UNAVAILABLE, STORE_CONFLICT for a broken constraint, INTERNAL for the rest; a LichenError stays itself. `attempt` says what was tried. */
export function explainFailure(error: unknown, attempt: string): LichenError {
  if (error instanceof LichenError) return error
  const detail = error instanceof Error ? error.message : String(error)
  if (isSqliteFailure(error) && error.code === 'SQLITE_CONSTRAINT') return new LichenError('STORE_CONFLICT', `${attempt}: ${detail}`, { cause: error })
  if (isSqliteFailure(error) && unavailableCodes.has(error.code)) {
    return new LichenError('STORE_UNAVAILABLE', `${attempt}: ${words[error.code] ?? 'the database refused'} (${detail})`, { cause: error, retryAfterS: 1 })
  }
  if (isSystemFailure(error)) return new LichenError('STORE_UNAVAILABLE', `${attempt}: ${detail}`, { cause: error, retryAfterS: 1 })
  return new LichenError('INTERNAL', `${attempt}: ${detail}`, { cause: error })
}
