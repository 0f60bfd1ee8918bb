/** Writes that are rare: each job runs its own statements, inside the transaction of its group. */
import type { LichenError } from '@lichen/core'
import type { Session } from './sessions.js'
import type { WriteKind } from './writer.js'

/** A kind of write whose jobs run one after the other, in the order of `rank` where they lock rows. `run` may answer with a LichenError to reject its job; it must not have written anything then. */
export function buildSingleWrite<Job, Answer>(name: string, run: (session: Session, job: Job) => Promise<Answer | LichenError>, rank: (job: Job) => string): WriteKind<Job, Answer> {
  return {
    name,
    async apply(session, jobs) {
      const answers = new Map<number, Answer | LichenError>()
      const ranked = jobs.map((job, index) => ({ job, index, rank: rank(job) })).sort((a, b) => (a.rank < b.rank ? -1 : a.rank > b.rank ? 1 : a.index - b.index))
      for (const { job, index } of ranked) answers.set(index, await run(session, job))
      return jobs.map((_, index) => answers.get(index) as Answer | LichenError)
    },
  }
}
