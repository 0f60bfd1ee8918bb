/** Writes that are rare: each job runs its own statements, still inside the transaction of its group. */
import type { LichenError } from '@lichen/core'
import type { Connection } from './connection.js'
import type { WriteKind } from './writer.js'

/** A kind of write whose jobs run one after the other. `run` may answer with a LichenError to reject its job; it must not have written anything then. */
export function buildSingleWrite<Job, Answer>(name: string, run: (connection: Connection, job: Job) => Promise<Answer | LichenError>): WriteKind<Job, Answer> {
  return {
    name,
    async apply(connection, jobs) {
      const answers: (Answer | LichenError)[] = []
      for (const job of jobs) answers.push(await run(connection, job))
      return answers
    },
  }
}
