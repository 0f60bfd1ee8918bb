/**
 * One connection to the database file with its prepared statements. Owns the statements; knows nothing of tables.
 * Invariants: (1) every statement runs to its end (`all`, never `get`), so none keeps a read transaction open behind our back;
 * (2) each SQL text is prepared once per connection; texts must therefore come from a small fixed set.
 */
import sqlite3 from 'sqlite3'
import type { Database, Statement } from 'sqlite3'
import { isBusy } from './failure.js'

/** What may be bound to a `?`. Integers beyond 32 bits travel as REAL and are stored as INTEGER by the column's type, exact up to 2^53. */
export type Bindable = string | number | null | Uint8Array

export type Row = Readonly<Record<string, unknown>>

export interface Connection {
  /** All rows of one statement, in order. Rejects with the library's own error. */
  all<R = Row>(sql: string, ...parameters: readonly Bindable[]): Promise<readonly R[]>
  /** Runs one statement that gives no rows back; answers how many rows it changed. */
  run(sql: string, ...parameters: readonly Bindable[]): Promise<number>
  /** Runs a script of several statements without parameters. */
  execute(script: string): Promise<void>
  close(): Promise<void>
}

const asBuffer = (value: Bindable): Bindable => (value instanceof Uint8Array && !Buffer.isBuffer(value) ? Buffer.from(value.buffer, value.byteOffset, value.byteLength) : value)

function openDatabase(path: string): Promise<Database> {
  return new Promise((resolve, reject) => {
    const database = new sqlite3.Database(path, sqlite3.OPEN_READWRITE | sqlite3.OPEN_CREATE | sqlite3.OPEN_FULLMUTEX, (error) => (error ? reject(error) : resolve(database)))
  })
}

function prepare(database: Database, sql: string): Promise<Statement> {
  return new Promise((resolve, reject) => {
    const statement = database.prepare(sql, (error: Error | null) => (error ? reject(error) : resolve(statement)))
  })
}

const finalize = (statement: Statement): Promise<void> => new Promise((resolve) => statement.finalize(() => resolve()))

// SQLite waits for a lock by sleeping in a thread of Node's pool of four: it may do so for moments only, or whoever holds the lock in this process finds no
// thread to give it back with. Longer waits are `waitForLock`, which sleeps outside.
const busyTimeoutMs = 20
const longestPauseMs = 25

/** What `work` gives, asked again while another connection holds the lock it needs, for up to `timeoutMs`. `work` must have no effect when it is refused. */
export async function waitForLock<T>(timeoutMs: number, work: () => Promise<T>): Promise<T> {
  const until = performance.now() + timeoutMs
  for (let pauseMs = 1; ; pauseMs = Math.min(longestPauseMs, pauseMs * 2)) {
    try {
      return await work()
    } catch (error) {
      if (!isBusy(error) || performance.now() >= until) throw error
    }
    await new Promise((resolve) => setTimeout(resolve, pauseMs))
  }
}

/** An open connection to the file at `path`, which is made when missing. */
export async function openConnection(path: string): Promise<Connection> {
  const database = await openDatabase(path)
  database.configure('busyTimeout', busyTimeoutMs)
  const statements = new Map<string, Promise<Statement>>()

  function statementFor(sql: string): Promise<Statement> {
    let statement = statements.get(sql)
    if (statement === undefined) {
      statement = prepare(database, sql)
      statements.set(sql, statement)
      // A failed preparation (a locked schema, a full disk) is not kept: the next call tries again.
      statement.catch(() => statements.delete(sql))
    }
    return statement
  }

  return {
    async all<R>(sql: string, ...parameters: readonly Bindable[]): Promise<readonly R[]> {
      const statement = await statementFor(sql)
      return new Promise((resolve, reject) => {
        statement.all(parameters.map(asBuffer), (error: Error | null, rows: R[]) => (error ? reject(error) : resolve(rows)))
      })
    },
    async run(sql, ...parameters) {
      const statement = await statementFor(sql)
      return new Promise((resolve, reject) => {
        statement.run(parameters.map(asBuffer), function (this: { changes: number }, error: Error | null) {
          if (error) reject(error)
          else resolve(this.changes)
        })
      })
    },
    execute: (script) =>
      new Promise((resolve, reject) => {
        database.exec(script, (error: Error | null) => (error ? reject(error) : resolve()))
      }),
    async close() {
      const open = await Promise.allSettled(statements.values())
      statements.clear()
      await Promise.all(open.flatMap((one) => (one.status === 'fulfilled' ? [finalize(one.value)] : [])))
      await new Promise<void>((resolve, reject) => {
        database.close((error: Error | null) => (error ? reject(error) : resolve()))
      })
    },
  }
}
