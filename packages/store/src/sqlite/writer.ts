/**
 * The one writer of this process: collects the writes submitted while a transaction runs and commits them together (group commit), because a
 * flush costs as much as thousands of rows. Owns the write connection's transactions; knows nothing of tables.
 * Invariants: (1) a promise resolves only after COMMIT returned, that is after the flush; (2) jobs of one kind are applied in the order they were
 * submitted; (3) a job that the database refuses for its own data fails alone: the group is rolled back and its jobs run one by one;
 * (4) when the database is not usable every job of the group fails, and the next group tries again; (5) what waits is bounded by weight.
 * Jobs of different kinds in one group have no order: nobody who awaits one before submitting the next can tell.
 */
import { LichenError } from '@lichen/core'
import { waitForLock, type Connection } from './connection.js'
import { explainFailure, isFaultOfWrite } from './failure.js'
import type { StoreLog } from '../store-log.js'

/** One kind of write: how many jobs of it become few statements. */
export interface WriteKind<Job, Answer> {
  /** What is attempted, for messages: `appending events`. */
  readonly name: string
  /** Runs inside the transaction. One answer for each job, in order; a LichenError as answer rejects that job alone and must leave no row behind. */
  apply(connection: Connection, jobs: readonly Job[]): Promise<readonly (Answer | LichenError)[]>
  /** About how many bytes the job writes. Default: 1 KiB. */
  weigh?(job: Job): number
  /** Tasks whose watchers are told after the commit. */
  touches?(job: Job): readonly string[]
}

interface QueuedJob {
  readonly kind: WriteKind<unknown, unknown>
  readonly job: unknown
  readonly weight: number
  readonly resolve: (answer: unknown) => void
  readonly reject: (error: LichenError) => void
}

export interface Writer {
  /** The job's answer, durable. @throws STORE_UNAVAILABLE when the database cannot write, when too much waits, after `stop`; and what the kind answers. */
  submit<Job, Answer>(kind: WriteKind<Job, Answer>, job: Job): Promise<Answer>
  /** Refuses new jobs and resolves when the waiting ones are settled. */
  stop(): Promise<void>
}

// A transaction of 8 MiB takes some 50 to 100 ms of disk: half as much costs flushes when logs pour in, twice as much makes a small write wait noticeably.
const groupWeightLimit = 8 * 1024 * 1024
// What may wait in memory. At 50 MB/s of logs this is a stall of 2.5 s; callers above it are told to come again instead of filling the heap.
const waitingWeightLimit = 128 * 1024 * 1024
const defaultWeight = 1024
// After a group of this many jobs the next one gathers a moment longer: a transaction costs some ten statements however few rows they carry, and that
// is what keeps a busy server busy. A server with less to do never waits. Twice the pause is felt in the answers of the API.
const busyJobs = 8
const gatherMs = 2

export interface WriterOptions {
  /** Nobody else may write through it. */
  readonly connection: Connection
  /** How long a transaction waits for the lock of another process. */
  readonly busyTimeoutMs: number
  readonly log: StoreLog
  /** Called after each commit with the tasks that were touched. */
  committed(tasks: ReadonlySet<string>): void
}

/** A running writer. */
export function startWriter(options: WriterOptions): Writer {
  let waiting: QueuedJob[] = []
  let waitingWeight = 0
  let running: Promise<void> | undefined
  let isStopped = false

  function takeGroup(): QueuedJob[] {
    let weight = 0
    let count = 0
    for (const queued of waiting) {
      if (count > 0 && weight + queued.weight > groupWeightLimit) break
      weight += queued.weight
      count += 1
    }
    const group = waiting.slice(0, count)
    waiting = waiting.slice(count)
    waitingWeight -= weight
    return group
  }

  async function run(): Promise<void> {
    while (waiting.length > 0) {
      const group = takeGroup()
      await writeGroup(options, group)
      if (group.length >= busyJobs && waitingWeight < groupWeightLimit) await new Promise((resolve) => setTimeout(resolve, gatherMs))
    }
  }

  function start(): void {
    running ??= run().finally(() => {
      running = undefined
      if (waiting.length > 0) start()
    })
  }

  return {
    submit: <Job, Answer>(kind: WriteKind<Job, Answer>, job: Job) =>
      new Promise<Answer>((resolve, reject) => {
        const weight = kind.weigh?.(job) ?? defaultWeight
        if (isStopped) return reject(new LichenError('STORE_UNAVAILABLE', `${kind.name}: the store is closed`))
        if (waitingWeight > 0 && waitingWeight + weight > waitingWeightLimit) {
          return reject(new LichenError('STORE_UNAVAILABLE', `${kind.name}: ${waitingWeight} bytes wait to be written already`, { retryAfterS: 1 }))
        }
        waiting.push({ kind: kind as unknown as WriteKind<unknown, unknown>, job, weight, resolve: resolve as (answer: unknown) => void, reject })
        waitingWeight += weight
        start()
      }),
    async stop() {
      isStopped = true
      while (running !== undefined) await running
    },
  }
}

async function writeGroup(options: WriterOptions, group: readonly QueuedJob[]): Promise<void> {
  try {
    await writeTransaction(options, group)
  } catch (error) {
    if (isFaultOfWrite(error) && group.length > 1) {
      options.log.warn({ err: error, jobs: group.length }, 'the database refused a write of this group; writing one by one')
      for (const queued of group) await writeGroup(options, [queued])
      return
    }
    for (const queued of group) queued.reject(explainFailure(error, queued.kind.name))
  }
}

/** Commits the group and settles its promises. Rejects, with nothing committed and nothing settled, when a statement or the commit failed. */
async function writeTransaction({ connection, busyTimeoutMs, committed }: WriterOptions, group: readonly QueuedJob[]): Promise<void> {
  const byKind = new Map<WriteKind<unknown, unknown>, QueuedJob[]>()
  for (const queued of group) {
    const same = byKind.get(queued.kind)
    if (same) same.push(queued)
    else byKind.set(queued.kind, [queued])
  }
  const settled: { readonly queued: QueuedJob; readonly answer: unknown }[] = []
  await waitForLock(busyTimeoutMs, () => connection.run('BEGIN IMMEDIATE'))
  try {
    for (const [kind, jobs] of byKind) {
      const answers = await kind.apply(connection, jobs.map((queued) => queued.job))
      jobs.forEach((queued, index) => settled.push({ queued, answer: answers[index] }))
    }
    await connection.run('COMMIT')
  } catch (error) {
    // After some failures (a full disk) SQLite has rolled back by itself; asking again is an error without meaning.
    await connection.run('ROLLBACK').catch(() => undefined)
    throw error
  }
  const touched = new Set<string>()
  for (const { queued, answer } of settled) {
    if (answer instanceof LichenError) queued.reject(answer)
    else {
      queued.resolve(answer)
      for (const task of queued.kind.touches?.(queued.job) ?? []) touched.add(task)
    }
  }
  if (touched.size > 0) committed(touched)
}
