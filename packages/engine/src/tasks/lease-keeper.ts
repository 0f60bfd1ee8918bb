/** Keeps the leases of the tasks driven here: all in one call, three times in the life of a lease. What is missing in the answer was lost. */
import type { Clock } from '@lichen/core'
import type { EngineIdentity, Store } from '@lichen/store'
import type { EngineLimits } from '../engine-limits.js'
import type { EngineLog } from '../engine-log.js'
import type { Roster } from './roster.js'

export interface LeaseKeeperParts {
  readonly engine: EngineIdentity
  readonly store: Pick<Store, 'tasks'>
  readonly roster: Roster
  readonly limits: EngineLimits
  readonly clock: Clock
  readonly log: EngineLog
}

/** Renews until the returned function is called, which waits for a renewal under way. */
export function startLeaseKeeper({ engine, store, roster, limits, clock, log }: LeaseKeeperParts): () => Promise<void> {
  let renewing: Promise<void> | undefined

  async function renew(): Promise<void> {
    const drivers = [...roster.list()]
    if (drivers.length === 0) return
    const seqs = await store.tasks.renew(engine, drivers.map((driver) => driver.task), clock.now(), limits.leaseTtlMs)
    for (const driver of drivers) {
      const seq = seqs.get(driver.task)
      if (roster.find(driver.task) !== driver) continue
      if (seq === undefined) roster.lose(driver.task)
      // A cancel or a retry whose bell is not here yet.
      else if (seq > driver.seq) driver.refresh()
    }
  }

  const timer = clock.every(limits.leaseTtlMs / 3, () => {
    // When renewing fails for too long the leases expire, and whoever takes them gets a higher epoch: what is recorded here is refused then.
    renewing ??= renew()
      .catch((error: unknown) => log.warn({ err: error }, 'leases could not be renewed; trying again'))
      .finally(() => (renewing = undefined))
  })
  return async () => {
    timer.cancel()
    await renewing
  }
}
