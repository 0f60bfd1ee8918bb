/** Which tasks of a group are new: what an Idempotency-Key and a task id say when they come a second time. */
import { LichenError, taskId, type TaskId } from '@lichen/core'
import type { NewTask } from '../ports/task-store.js'

/** What `TaskStore.create` answers. */
export type Created = { readonly id: TaskId; readonly isNew: boolean }

// Clients repeat a request within minutes; a day covers a client that was off over night. Halved, such a client makes its task twice; doubled, the table doubles.
/** How long an Idempotency-Key is remembered. */
export const keyLifeMs = 24 * 3_600_000

/** What a key was used for. */
export interface KnownKey {
  readonly requestDigest: string
  readonly task: string
}

/** What is stored of a task that has the id of a new one. */
export interface StoredTask {
  readonly plan: string
  /** The first event, as JSON text. */
  readonly event: string
  readonly createdAt: number
}

/** Sorts the jobs into new tasks, repeats of a known key, and conflicts; a key used twice in the group counts from its first use. `answers` has a place for each job. */
export function decideKeys(jobs: readonly NewTask[], keys: ReadonlyMap<string, KnownKey>): { readonly fresh: NewTask[]; readonly answers: (Created | LichenError)[] } {
  const known = new Map(keys)
  const fresh: NewTask[] = []
  const answers = jobs.map((job): Created | LichenError => {
    const key = job.idempotencyKey
    const first = key === undefined ? undefined : known.get(key)
    if (first !== undefined) {
      if (first.requestDigest === job.requestDigest) return { id: taskId(first.task), isNew: false }
      return new LichenError('REQUEST_IDEMPOTENCY_CONFLICT', `Idempotency-Key ${JSON.stringify(key)} was used for task ${first.task} with another request`)
    }
    if (key !== undefined) known.set(key, { requestDigest: job.requestDigest, task: job.id })
    fresh.push(job)
    return { id: job.id, isNew: true }
  })
  return { fresh, answers }
}

/** Of new tasks the first of each id: at most one of them can be made. */
export const takeFirsts = (fresh: readonly NewTask[]): NewTask[] => [...new Map(fresh.toReversed().map((job) => [job.id, job])).values()].reverse()

/** The answer for a task whose id is taken: the very same task once more (its first answer was lost on the way), or a conflict. */
export function answerTaken(job: NewTask, stored: StoredTask | undefined): Created | LichenError {
  const isSame = stored !== undefined && stored.plan === job.plan && stored.event === JSON.stringify(job.event) && stored.createdAt === job.at
  return isSame ? { id: job.id, isNew: false } : new LichenError('STORE_CONFLICT', `accepting a task: there is another task with the id ${job.id}`)
}
