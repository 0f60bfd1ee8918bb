/**
 * Port: the engines that run. A row says that a process drives tasks and holds streams under a name; it is renewed like a lease. Correctness never
 * depends on it (epochs see to that): it tells two engines of one name apart, and tells operators and other engines who is there.
 */
import type { EngineIdentity } from './task-store.js'

export interface EngineRecord extends EngineIdentity {
  /** `host:port` at which agents reach its gateway. */
  readonly gateway: string
  readonly startedAt: number
  /** Until when it counts as running without being renewed, ms since the epoch. */
  readonly until: number
}

export interface EngineStore {
  /**
   * Registers the process, unless another instance of this name is still alive at `now` (its `until` is later). `isSuccessor`: the caller has proved that the one before
   * it is dead (it holds the lock of their common data directory), so its row is replaced whatever its age.
   */
  registerEngine(engine: EngineRecord, now: number, isSuccessor: boolean): Promise<'registered' | 'taken'>
  /** Extends the row; false when it is gone or belongs to another instance by now. */
  renewEngine(engine: EngineIdentity, until: number): Promise<boolean>
  /** Takes the row away if it is this instance's. */
  removeEngine(engine: EngineIdentity): Promise<void>
  /** All rows, expired ones too, by name. Rows that expired more than a day before `now` are deleted on the way. */
  listEngines(now: number): Promise<readonly EngineRecord[]>
}
