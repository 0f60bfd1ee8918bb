import { explainFailure } from './failure.js'
import type { Bindable, Row, SessionPool } from './sessions.js'

/** What the ports read through. */
export interface Reader {
  /** All rows of one statement. @throws STORE_UNAVAILABLE, within the limits of the sessions */
  all<R = Row>(sql: string, ...parameters: readonly Bindable[]): Promise<readonly R[]>
}

/** A reader over these sessions; `shown` says in messages what is read. */
export const buildReader = (sessions: SessionPool, shown: string): Reader => ({
  async all<R>(sql: string, ...parameters: readonly Bindable[]) {
    try {
      return await sessions.use((session) => session.all<R>(sql, ...parameters))
    } catch (error) {
      throw explainFailure(error, `reading ${shown}`)
    }
  },
})
