/**
 * Collects the writes of this process and commits them in groups, because a transaction costs a flush and some round trips however few rows it carries. Each kind of write has a
 * queue of its own: a group holds jobs of one kind, and groups of different kinds, and some of one kind, are on their way at the same time on different sessions.
 * Invariants: (1) a promise resolves only after the server confirmed the commit; (2) jobs that share a key are applied in the order they were submitted, and are never in two open
 * transactions of this process; (3) a transaction takes locks of one kind of write only, in an order that is the same everywhere, so that no two wait for each other; (4) a job that the database refuses for its
 * own data fails alone: nothing of the group was committed, and its jobs run one by one; (5) when the database is not usable the jobs of the group are told so, with those that have
 * waited for long, and nothing is tried again here: after a lost commit only the caller can see whether it is there; (6) what waits is bounded by weight.
 */
import { LichenError } from '@lichen/core'
import type { StoreLog } from '../store-log.js'
import { explainFailure, isCollision, isFaultOfWrite } from './failure.js'
import type { Session, SessionPool } from './sessions.js'

/** One kind of write: how many jobs of it become few statements. */
export interface WriteKind<Job, Answer> {
  /** What is attempted, for messages: `appending events`. */
  readonly name: string
  /** Its jobs change nothing when they are made twice, one by one: no transaction around its statements is needed. */
  readonly isAtomic?: true
  /** How many groups may be on their way at once. Default: 1. */
  readonly lanes?: number
  /** Needed with more than one lane: what no two open transactions may both have. */
  keys?(job: Job): readonly string[]
  /** One answer for each job, in order; a LichenError as answer rejects that job alone and must leave no row behind. */
  apply(session: Session, jobs: readonly Job[]): Promise<readonly (Answer | LichenError)[]>
  /** About how many bytes the job writes. Default: 1 KiB. */
  weigh?(job: Job): number
  /** Tasks whose watchers are told after the commit. */
  touches?(job: Job): readonly string[]
}

interface QueuedJob {
  readonly job: unknown
  readonly keys: readonly string[]
  readonly weight: number
  readonly since: number
  readonly resolve: (answer: unknown) => void
  readonly reject: (error: LichenError) => void
}

interface Queue {
  readonly kind: WriteKind<unknown, unknown>
  waiting: QueuedJob[]
  /** Keys of the groups on their way. */
  readonly held: Set<string>
  running: number
}

export interface Writer {
  /** The job's answer, durable. @throws STORE_UNAVAILABLE when the database cannot write, when too much waits, after `stop`; and what the kind answers. */
  submit<Job, Answer>(kind: WriteKind<Job, Answer>, job: Job): Promise<Answer>
  /** Refuses new jobs and resolves when the waiting ones are settled. */
  stop(): Promise<void>
}

// A transaction of 8 MiB takes some 100 ms: half as much costs flushes when logs pour in, twice as much makes a small write of its kind wait noticeably.
const groupWeightLimit = 8 * 1024 * 1024
// What may wait in memory. At 50 MB/s of logs this is a stall of 2.5 s; callers above it are told to come again instead of filling the heap.
const waitingWeightLimit = 128 * 1024 * 1024
const defaultWeight = 1024
// Jobs looked at for one group. More than this in one group gain nothing; without a limit a long queue of jobs that must wait for their keys would be walked again and again.
const scanLimit = 10_000
// A group that failed because the database is away also ends the waiting of jobs that have waited for this long: nobody waits for more than about two groups.
const patienceMs = 5_000
// A second collision of the same group is rare, a third is a sign of something else.
const collisionLimit = 3

export interface WriterOptions {
  readonly sessions: SessionPool
  readonly log: StoreLog
  /** Called after each commit with the tasks that were touched. */
  committed(tasks: ReadonlySet<string>): void
}

/** A running writer. */
export function startWriter(options: WriterOptions): Writer {
  const queues = new Map<WriteKind<unknown, unknown>, Queue>()
  const running = new Set<Promise<void>>()
  let waitingWeight = 0
  let isStopped = false

  function queueOf(kind: WriteKind<unknown, unknown>): Queue {
    const queue = queues.get(kind) ?? { kind, waiting: [], held: new Set(), running: 0 }
    queues.set(kind, queue)
    return queue
  }

  function start(queue: Queue): void {
    while (queue.waiting.length > 0 && queue.running < (queue.kind.lanes ?? 1)) {
      const group = takeGroup(queue)
      if (group.length === 0) return
      waitingWeight -= weighGroup(group)
      const run = writeGroup(options, queue.kind, group).then((isAway) => {
        queue.running -= 1
        for (const queued of group) for (const key of queued.keys) queue.held.delete(key)
        if (isAway) refuseOld(queue)
        running.delete(run)
        start(queue)
      })
      queue.running += 1
      running.add(run)
    }
  }

  function refuseOld(queue: Queue): void {
    const before = performance.now() - patienceMs
    const old = queue.waiting.filter((queued) => queued.since < before)
    if (old.length === 0) return
    queue.waiting = queue.waiting.filter((queued) => queued.since >= before)
    waitingWeight -= weighGroup(old)
    for (const queued of old) queued.reject(new LichenError('STORE_UNAVAILABLE', `${queue.kind.name}: the database does not answer`, { retryAfterS: 1 }))
  }

  return {
    submit: <Job, Answer>(kind: WriteKind<Job, Answer>, job: Job) =>
      new Promise<Answer>((resolve, reject) => {
        const weight = kind.weigh?.(job) ?? defaultWeight
        if (isStopped) return reject(new LichenError('STORE_UNAVAILABLE', `${kind.name}: the store is closed`))
        if (waitingWeight > 0 && waitingWeight + weight > waitingWeightLimit) {
          return reject(new LichenError('STORE_UNAVAILABLE', `${kind.name}: ${waitingWeight} bytes wait to be written already`, { retryAfterS: 1 }))
        }
        const queue = queueOf(kind as unknown as WriteKind<unknown, unknown>)
        queue.waiting.push({ job, keys: kind.keys?.(job) ?? [], weight, since: performance.now(), resolve: resolve as (answer: unknown) => void, reject })
        waitingWeight += weight
        start(queue)
      }),
    async stop() {
      isStopped = true
      while (running.size > 0) await Promise.all(running)
    },
  }
}

const weighGroup = (group: readonly QueuedJob[]): number => group.reduce((sum, queued) => sum + queued.weight, 0)

/** The next jobs that need no key of a group on its way nor of a job before them that stays; their keys are held from now on. */
function takeGroup(queue: Queue): QueuedJob[] {
  const taken: QueuedJob[] = []
  const left: QueuedJob[] = []
  const blocked = new Set<string>()
  let weight = 0
  let seen = 0
  for (const queued of queue.waiting) {
    const isFull = taken.length > 0 && weight + queued.weight > groupWeightLimit
    if (isFull || seen === scanLimit) break
    seen += 1
    if (queued.keys.some((key) => queue.held.has(key) || blocked.has(key))) {
      for (const key of queued.keys) blocked.add(key)
      left.push(queued)
    } else {
      weight += queued.weight
      taken.push(queued)
    }
  }
  for (const queued of taken) for (const key of queued.keys) queue.held.add(key)
  queue.waiting = left.concat(queue.waiting.slice(seen))
  return taken
}

/** Commits the group and settles its promises. Resolves with whether the database is away. */
async function writeGroup(options: WriterOptions, kind: WriteKind<unknown, unknown>, group: readonly QueuedJob[], collisions = 0): Promise<boolean> {
  try {
    settle(options, kind, group, await writeJobs(options.sessions, kind, group.map((queued) => queued.job)))
    return false
  } catch (error) {
    if (isCollision(error) && collisions < collisionLimit) return writeGroup(options, kind, group, collisions + 1)
    if (isFaultOfWrite(error) && group.length > 1) {
      options.log.warn({ err: error, jobs: group.length }, 'the database refused a write of this group; writing one by one')
      let isAway = false
      for (const queued of group) isAway = (await writeGroup(options, kind, [queued])) || isAway
      return isAway
    }
    for (const queued of group) queued.reject(explainFailure(error, kind.name))
    return !isFaultOfWrite(error)
  }
}

const writeJobs = (sessions: SessionPool, kind: WriteKind<unknown, unknown>, jobs: readonly unknown[]): Promise<readonly unknown[]> =>
  kind.isAtomic === true ? sessions.use((session) => kind.apply(session, jobs)) : sessions.transaction((session) => kind.apply(session, jobs))

function settle({ committed }: WriterOptions, kind: WriteKind<unknown, unknown>, group: readonly QueuedJob[], answers: readonly unknown[]): void {
  const touched = new Set<string>()
  group.forEach((queued, index) => {
    const answer = answers[index]
    if (answer instanceof LichenError) return queued.reject(answer)
    queued.resolve(answer)
    for (const task of kind.touches?.(queued.job) ?? []) touched.add(task)
  })
  if (touched.size > 0) committed(touched)
}
