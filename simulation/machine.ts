/**
 * Machines and the lives of the processes on them. A life ends for good: nothing of it runs any more, and what it asked of others is never answered. The next process of
 * the same name is another life.
 */
import type { Clock } from '@lichen/core'
import type { Random } from './random.js'
import type { Owner, Scheduler } from './scheduler.js'

/** Noon of a day in 2026: what the clocks of all machines say when a run begins. */
export const beginning = 1_782_000_000_000

/** A computer: its clock may be wrong and may jump. */
export class Machine {
  readonly name: string
  /** How far its clock is ahead, ms. */
  skewMs: number
  /** Grows with each boot. */
  boot = 1

  constructor(name: string, skewMs = 0) {
    this.name = name
    this.skewMs = skewMs
  }
}

/** One process, from its start to its end. */
export class Life implements Owner {
  readonly name: string
  readonly machine: Machine
  readonly clock: Clock
  isAlive = true
  isStopped = false
  readonly deferred: (() => void)[] = []
  readonly #scheduler: Scheduler
  readonly #random: Random
  readonly #ends: (() => void)[] = []

  constructor(name: string, machine: Machine, scheduler: Scheduler, random: Random) {
    this.name = name
    this.machine = machine
    this.#scheduler = scheduler
    this.#random = random
    this.clock = this.#buildClock()
  }

  /** Calls back when it ends, at once if it has. */
  onEnd(callback: () => void): void {
    if (this.isAlive) this.#ends.push(callback)
    else callback()
  }

  /** Ends it here and now. */
  kill(): void {
    if (!this.isAlive) return
    this.isAlive = false
    this.deferred.length = 0
    for (const callback of this.#ends.splice(0)) callback()
  }

  /** It gets no more time (SIGSTOP), until `goOn`. */
  stop(): void {
    this.isStopped = true
  }

  goOn(): void {
    if (!this.isStopped) return
    this.isStopped = false
    for (const putBack of this.deferred.splice(0)) putBack()
  }

  #buildClock(): Clock {
    const scheduler = this.#scheduler
    const born = scheduler.now
    // Timers of a busy machine fire late, never early.
    const late = (): number => this.#random.next() * 0.8
    return {
      now: () => Math.floor(beginning + scheduler.now + this.machine.skewMs),
      elapsed: () => scheduler.now - born,
      after: (delayMs, callback) => scheduler.at(scheduler.now + Math.max(1, delayMs) + late(), this, 'timer', callback),
      every: (intervalMs, callback) => {
        let isCancelled = false
        let next = { cancel: () => undefined as void }
        const fire = (): void => {
          callback()
          if (!isCancelled) next = scheduler.at(scheduler.now + intervalMs + late(), this, 'timer', fire)
        }
        next = scheduler.at(scheduler.now + intervalMs + late(), this, 'timer', fire)
        return {
          cancel() {
            isCancelled = true
            next.cancel()
          },
        }
      },
      soon: (callback) => void scheduler.at(scheduler.now, this, 'soon', callback),
    }
  }
}
