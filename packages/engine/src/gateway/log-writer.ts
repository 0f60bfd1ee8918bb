/**
 * Brings log chunks of all sessions into the store, and tells the nodes how far. Owns what waits and the one append under way.
 * Invariants: (1) chunks of a session are stored in the order they came; (2) a node is told of bytes only once they are durable; (3) what waits is
 * bounded by the windows of the sessions; (4) while the store does not answer nothing is lost: the same batch is tried again; (5) a node can write
 * only to the logs of attempts that are its own; what else it sends is dropped, and acknowledged so that it goes on; (6) a result is recorded only after
 * the log lines that its node sent before it (`afterStored`): who sees the end of a task can read the whole of its log.
 */
import { actionId, type Clock, taskId, type Timer } from '@lichen/core'
import { type AttemptKey, attemptKeyText, type LogChunk, LogStream } from '@lichen/protocol'
import type { LogStore, LogStreamName, NewLogChunk } from '@lichen/store'
import type { EngineLog } from '../engine-log.js'
import type { EngineMetrics } from '../metrics.js'
import type { Session } from './session.js'

export interface LogWriterParts {
  readonly logs: LogStore
  readonly flushMs: number
  readonly clock: Clock
  /** Whether the attempt is one of the session's node. */
  readonly isOwn: (session: Session, key: AttemptKey) => boolean | Promise<boolean>
  readonly log: EngineLog
  readonly metrics: EngineMetrics
}

export interface LogWriter {
  write(session: Session, chunk: LogChunk): void
  /** Calls back once every chunk of the attempt that came so far is stored: at once when none waits, never when the session ends before. */
  afterStored(session: Session, key: AttemptKey, callback: () => void): void
  /** Forgets what was found out about the attempts of this session. */
  forget(session: Session): void
  /** Stores what waits, unless the store does not answer. */
  stop(): Promise<void>
}

/** Chunks of one attempt that are not stored yet, and what waits for that. */
interface Unstored {
  chunks: number
  readonly callbacks: (() => void)[]
}

interface WaitingChunk {
  readonly session: Session
  readonly key: AttemptKey
  readonly chunk: NewLogChunk
}

// Bytes that are stored without waiting for more: a quarter of what the store commits at once.
const fullBatchBytes = 1024 * 1024
// Chunks of one append; more would hold the store's other writers up.
const batchLimitBytes = 4 * 1024 * 1024
const retryMs = [100, 500, 2_000]
const cacheLimit = 10_000
const streamNames: Readonly<Record<number, LogStreamName>> = { [LogStream.STDOUT]: 'stdout', [LogStream.STDERR]: 'stderr' }

/** A writer with nothing to write yet. */
export function startLogWriter({ logs, flushMs, clock, isOwn, log, metrics }: LogWriterParts): LogWriter {
  let waiting: WaitingChunk[] = []
  let waitingBytes = 0
  let timer: Timer | undefined
  let writing: Promise<void> | undefined
  let isStopped = false
  const owned = new WeakMap<Session, Map<string, boolean | Promise<boolean>>>()
  const unstored = new WeakMap<Session, Map<string, Unstored>>()

  function countUnstored(session: Session, key: AttemptKey): void {
    let ofSession = unstored.get(session)
    if (ofSession === undefined) unstored.set(session, (ofSession = new Map()))
    const text = attemptKeyText(key)
    const known = ofSession.get(text)
    if (known) known.chunks += 1
    else ofSession.set(text, { chunks: 1, callbacks: [] })
  }

  function settleChunk(session: Session, key: AttemptKey): void {
    const text = attemptKeyText(key)
    const known = unstored.get(session)?.get(text)
    if (known === undefined || --known.chunks > 0) return
    unstored.get(session)?.delete(text)
    for (const callback of known.callbacks) callback()
  }

  function findOut(session: Session, key: AttemptKey): boolean | Promise<boolean> {
    let known = owned.get(session)
    if (known === undefined || known.size > cacheLimit) owned.set(session, (known = new Map()))
    const text = attemptKeyText(key)
    const cached = known.get(text)
    if (cached !== undefined) return cached
    const found = isOwn(session, key)
    known.set(text, found)
    if (typeof found !== 'boolean') {
      const cache = known
      found.then((value) => cache.set(text, value)).catch(() => cache.delete(text))
    }
    return found
  }

  function drop(session: Session, key: AttemptKey, chunk: LogChunk): void {
    log.warn({ nodeId: session.node, taskId: key.taskId, actionId: key.actionId, attempt: key.attempt, bytes: chunk.data.byteLength }, 'a node sent log lines of an attempt that is not its own; they were dropped')
    session.send({ $case: 'logAck', value: { key, position: chunk.position + chunk.data.byteLength } })
    session.releaseLogBytes(chunk.data.byteLength)
    settleChunk(session, key)
  }

  function accept(session: Session, key: AttemptKey, { position, command, stream, at, data }: LogChunk): void {
    const chunk = { task: taskId(key.taskId), action: actionId(key.actionId), attempt: key.attempt, node: session.node, position, command, stream: streamNames[stream] ?? 'agent', at, data }
    waiting.push({ session, key, chunk })
    waitingBytes += data.byteLength
    if (writing !== undefined) return
    if (waitingBytes >= fullBatchBytes) start()
    else timer ??= clock.after(flushMs, start)
  }

  function start(): void {
    timer?.cancel()
    timer = undefined
    writing ??= run().finally(() => {
      writing = undefined
      if (waiting.length > 0 && !isStopped) start()
    })
  }

  function takeBatch(): WaitingChunk[] {
    let bytes = 0
    let count = 0
    for (const { chunk } of waiting) {
      bytes += chunk.data.byteLength
      count += 1
      if (bytes >= batchLimitBytes) break
    }
    const batch = waiting.slice(0, count)
    waiting = waiting.slice(count)
    waitingBytes -= bytes
    return batch
  }

  async function run(): Promise<void> {
    while (waiting.length > 0) await store(takeBatch())
  }

  async function store(batch: readonly WaitingChunk[]): Promise<void> {
    for (let attempt = 0; ; attempt++) {
      try {
        acknowledge(batch, await logs.appendLog(batch.map(({ chunk }) => chunk)))
        return
      } catch (error) {
        log.warn({ err: error, chunks: batch.length }, 'log lines could not be stored; trying again')
        if (isStopped) return
        await new Promise<void>((resolve) => clock.after(retryMs[Math.min(attempt, retryMs.length - 1)] ?? 0, resolve))
      }
    }
  }

  /** One acknowledgement for each attempt of a session, with how far it is durable. */
  function acknowledge(batch: readonly WaitingChunk[], answers: Awaited<ReturnType<LogStore['appendLog']>>): void {
    const ends = new Map<Session, Map<string, { readonly key: AttemptKey; position: number }>>()
    batch.forEach(({ session, key, chunk }, index) => {
      const { position, gap } = answers[index] ?? { position: chunk.position, gap: true }
      // A node sends from what was acknowledged on: it has lost what is missing, and asking again would bring the same. It must be able to go on.
      if (gap) log.error({ nodeId: session.node, taskId: key.taskId, actionId: key.actionId, attempt: key.attempt, position: chunk.position, stored: position }, 'log lines are missing on the node; those after them cannot be stored')
      else metrics.logBytes.inc(chunk.data.byteLength)
      let ofSession = ends.get(session)
      if (ofSession === undefined) ends.set(session, (ofSession = new Map()))
      ofSession.set(attemptKeyText(key), { key, position: gap ? chunk.position + chunk.data.byteLength : position })
      session.releaseLogBytes(chunk.data.byteLength)
    })
    for (const [session, acks] of ends) for (const value of acks.values()) session.send({ $case: 'logAck', value })
    for (const { session, key } of batch) settleChunk(session, key)
  }

  return {
    write(session, chunk) {
      const { key } = chunk
      if (key === undefined || chunk.data.byteLength === 0) return session.releaseLogBytes(chunk.data.byteLength)
      countUnstored(session, key)
      const found = findOut(session, key)
      if (typeof found === 'boolean') return found ? accept(session, key, chunk) : drop(session, key, chunk)
      found.then(
        (value) => (value ? accept(session, key, chunk) : drop(session, key, chunk)),
        (error: unknown) => {
          // Not acknowledged: the node sends the lines again on its next stream.
          log.warn({ err: error, nodeId: session.node }, 'could not find out whose log lines these are')
          session.releaseLogBytes(chunk.data.byteLength)
          session.close()
        },
      )
    },
    afterStored(session, key, callback) {
      const known = unstored.get(session)?.get(attemptKeyText(key))
      if (known === undefined) return callback()
      known.callbacks.push(callback)
      // Somebody waits: no reason to wait for more lines. Under load the append under way makes the next batch a large one anyway.
      if (writing === undefined && waiting.length > 0) start()
    },
    forget(session) {
      owned.delete(session)
      unstored.delete(session)
    },
    async stop() {
      isStopped = true
      timer?.cancel()
      await writing
      if (waiting.length > 0) await run()
    },
  }
}
