/**
 * Sessions with one PostgreSQL server: a pool of them, what a statement and a transaction are on one, and how long anything may take. Owns the connections; knows nothing of tables.
 * Invariants: (1) nothing waits longer for the server than the limits say, whether it answers, refuses, or hangs; (2) a session that failed in any other way than by an answer of the
 * server is not used again; (3) what a transaction resolves with was committed and flushed (`synchronous_commit`), and the server said so; when its answer to COMMIT is lost, the transaction
 * rejects, and may or may not be there; (4) each SQL text is prepared once per session; texts must therefore come from a small fixed set.
 */
import pg from 'pg'
import { isAnswer } from './failure.js'
import type { StoreLog } from '../store-log.js'
import type { StoreUrl } from './store-url.js'

/** What may be bound to a `$n`. A NUL character, which PostgreSQL's texts cannot hold, is kept as U+FFFD. */
export type Bindable = string | number | boolean | null | Uint8Array | readonly (string | number | boolean | null | Uint8Array)[]

export type Row = Readonly<Record<string, unknown>>

export interface Session {
  /** All rows of one statement. Rejects with the library's own error. */
  all<R = Row>(sql: string, ...parameters: readonly Bindable[]): Promise<readonly R[]>
  /** Runs one statement; answers how many rows it changed. */
  run(sql: string, ...parameters: readonly Bindable[]): Promise<number>
  /** Runs a script of several statements without parameters. */
  execute(script: string): Promise<void>
}

export interface SessionPool {
  /** What `work` gives, on a session of its own, each statement for itself. */
  use<T>(work: (session: Session) => Promise<T>): Promise<T>
  /** What `work` gives, in one transaction. When `work` rejects, nothing of it stays. */
  transaction<T>(work: (session: Session) => Promise<T>): Promise<T>
  /** Waits for what is under way, for as long as the limits allow, and closes. */
  close(): Promise<void>
}

/** How long things may take. All in milliseconds. */
export interface TimeLimits {
  /** To get a session: a free one of the pool, or a new one. */
  readonly connectMs: number
  /** One statement, counted by the server. A server that does not count either is given up a fifth later. */
  readonly statementMs: number
  /** The lock of a row that another transaction holds. */
  readonly lockMs: number
  /** A transaction of ours in which nothing happens: a process that froze or was cut off must not keep rows from others for longer. */
  readonly idleTransactionMs: number
}

// Statements take milliseconds; seconds mean a disk that stands still or a server that is gone. Half the limits would turn a long checkpoint into an outage; twice as long would keep
// clients of the API waiting past their own patience. A transaction of a frozen engine must end before others lose patience with its locks, and well within the life of a lease (15 s), or a
// take-over would wait for the engine that it replaces.
/** The limits of production. */
export const defaultTimeLimits: TimeLimits = { connectMs: 5_000, statementMs: 10_000, lockMs: 5_000, idleTransactionMs: 3_000 }

const keepAliveMs = 10_000
const idleMs = 60_000
// A server that hangs does not answer a goodbye: after this long its connections are cut.
const goodbyeMs = 1_000

const int8 = 20
// Numbers of ours are below 2^53; the library gives `bigint` as text because others are not.
const types: pg.CustomTypesConfig = {
  getTypeParser: ((oid: number, format?: 'text' | 'binary') => (oid === int8 && format !== 'binary' ? Number : pg.types.getTypeParser(oid, format as 'text'))) as typeof pg.types.getTypeParser,
}

/** Settings of a client of the library for sessions as the store needs them. `more`: further settings of the server's side. */
export function buildClientConfig(url: StoreUrl, limits: TimeLimits, more: Readonly<Record<string, string | number>> = {}): pg.ClientConfig {
  const settings = {
    synchronous_commit: 'on',
    statement_timeout: limits.statementMs,
    lock_timeout: limits.lockMs,
    idle_in_transaction_session_timeout: limits.idleTransactionMs,
    // Statements are many and short: compiling them never pays.
    jit: 'off',
    // Guards are read under row locks; a stricter level of the server would turn waiting for a lock into an error.
    default_transaction_isolation: 'read\\ committed',
    ...more,
  }
  return {
    connectionString: url.connectionString,
    options: [url.options, ...Object.entries(settings).map(([name, value]) => `-c ${name}=${value}`)].filter((option) => option !== '').join(' '),
    application_name: 'lichen',
    connectionTimeoutMillis: limits.connectMs,
    query_timeout: limits.statementMs * 1.2,
    keepAlive: true,
    keepAliveInitialDelayMillis: keepAliveMs,
    types,
  }
}

const cleanText = (text: string): string => (text.includes('\0') ? text.replaceAll('\0', '\ufffd') : text)
const cleanScalar = <T>(value: T): T | string | Buffer =>
  typeof value === 'string' ? cleanText(value) : value instanceof Uint8Array && !Buffer.isBuffer(value) ? Buffer.from(value.buffer, value.byteOffset, value.byteLength) : value
const clean = (value: Bindable): unknown => (Array.isArray(value) ? value.map(cleanScalar) : cleanScalar(value))

/** An open pool of at most `size` sessions; they are made when they are needed. */
export function openSessions({ url, limits, size, log }: { readonly url: StoreUrl; readonly limits: TimeLimits; readonly size: number; readonly log: StoreLog }): SessionPool {
  const pool = new pg.Pool({ ...buildClientConfig(url, limits), max: size, idleTimeoutMillis: idleMs })
  const open = new Set<pg.PoolClient>()
  const names = new Map<string, string>()
  /** Why a session broke while nobody asked anything of it: the next question learns only that it is broken. */
  const reasons = new WeakMap<pg.PoolClient, Error>()
  pool.on('connect', (client) => {
    open.add(client)
    client.on('error', (error) => reasons.set(client, error))
  })
  pool.on('remove', (client) => open.delete(client))
  // A session that breaks while it is idle is replaced when the next one is needed.
  pool.on('error', (error) => {
    // The pool hangs the whole client on the error, with all that it knows.
    delete (error as { client?: unknown }).client
    log.info({ err: error }, 'a session with the database ended')
  })

  function nameOf(sql: string): string {
    const name = names.get(sql) ?? `s${names.size + 1}`
    names.set(sql, name)
    return name
  }

  const buildSession = (client: pg.PoolClient): Session => {
    const query = async (text: string, parameters: readonly Bindable[]): Promise<pg.QueryResult> => client.query({ name: nameOf(text), text, values: parameters.map(clean) })
    return {
      all: async <R>(text: string, ...parameters: readonly Bindable[]) => (await query(text, parameters)).rows as readonly R[],
      run: async (text, ...parameters) => (await query(text, parameters)).rowCount ?? 0,
      async execute(script) {
        await client.query(script)
      },
    }
  }

  async function use<T>(work: (session: Session, client: pg.PoolClient) => Promise<T>): Promise<T> {
    const client = await pool.connect()
    try {
      const answer = await work(buildSession(client), client)
      client.release()
      return answer
    } catch (error) {
      client.release(!isAnswer(error))
      const reason = reasons.get(client)
      throw reason !== undefined && !isAnswer(error) ? reason : error
    }
  }

  async function transact<T>(work: (session: Session) => Promise<T>, session: Session, client: pg.PoolClient): Promise<T> {
    await client.query('BEGIN')
    let answer: T
    try {
      answer = await work(session)
    } catch (error) {
      // After an answer the session is usable again once it is out of the transaction. After anything else it is closed, and the transaction ends with it.
      if (isAnswer(error)) await client.query('ROLLBACK')
      throw error
    }
    const { command } = await client.query('COMMIT')
    // PostgreSQL answers ROLLBACK, and no error, when an error before had broken the transaction.
    if (command !== 'COMMIT') throw new Error(`the server answered COMMIT with ${command}`)
    return answer
  }

  return {
    use,
    transaction: (work) => use((session, client) => transact(work, session, client)),
    async close() {
      await pool.end()
      await Promise.race([Promise.all([...open].map((client) => new Promise((resolve) => client.once('end', resolve)))), new Promise((resolve) => setTimeout(resolve, goodbyeMs).unref())])
      for (const client of open) destroy(client)
    },
  }
}

/** Cuts the connection of a client without asking the server. */
export function destroy(client: pg.ClientBase): void {
  // The types of the library leave the connection out.
  const { connection } = client as unknown as { readonly connection?: { readonly stream?: { destroy(): void } } }
  connection?.stream?.destroy()
}
