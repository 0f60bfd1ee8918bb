/**
 * Port: time, for everything that waits. Programs are given the clock of the machine (`clockOf(globalThis)`); the simulator gives one that it turns by hand, so that
 * the same code runs there without a single real second passing.
 */

/** Something that will happen; `cancel` makes it not happen, and is harmless afterwards. */
export interface Timer {
  cancel(): void
}

export interface Clock {
  /** Milliseconds since the epoch. May jump, in either direction: for people, deadlines that others must understand, and nothing else. */
  now(): number
  /** Milliseconds since some moment; only ever grows, at the pace of real time. For measuring how long something took. */
  elapsed(): number
  /** Calls back once, `delayMs` from now (at most 24 days; longer waits fire then). */
  after(delayMs: number, callback: () => void): Timer
  /** Calls back again and again until it is cancelled. */
  every(intervalMs: number, callback: () => void): Timer
  /** Calls back in a later turn of the event loop, after what is due now. */
  soon(callback: () => void): void
}

/** What of a JavaScript host a clock is made of. */
export interface ClockHost {
  readonly Date: { now(): number }
  readonly performance: { now(): number }
  setTimeout(callback: () => void, delayMs: number): unknown
  clearTimeout(timer: never): void
  setInterval(callback: () => void, intervalMs: number): unknown
  clearInterval(timer: never): void
  setImmediate(callback: () => void): unknown
}

// Timers of hosts count in 32 bits; what is longer would fire at once.
const longestMs = 2_147_483_647

/** The clock of a host, e.g. `clockOf(globalThis)` in Node.js. */
export function clockOf(host: ClockHost): Clock {
  return {
    now: () => host.Date.now(),
    elapsed: () => host.performance.now(),
    after(delayMs, callback) {
      const timer = host.setTimeout(callback, Math.min(longestMs, Math.max(0, delayMs)))
      return { cancel: () => host.clearTimeout(timer as never) }
    },
    every(intervalMs, callback) {
      const timer = host.setInterval(callback, Math.min(longestMs, intervalMs))
      return { cancel: () => host.clearInterval(timer as never) }
    },
    soon: (callback) => void host.setImmediate(callback),
  }
}

/** Resolves after `delayMs`, or earlier when `end` of what is given back is called. */
export function pauseFor(clock: Clock, delayMs: number): { readonly over: Promise<void>; readonly end: () => void } {
  let end: () => void = () => undefined
  const over = new Promise<void>((resolve) => {
    const timer = clock.after(delayMs, resolve)
    end = () => {
      timer.cancel()
      resolve()
    }
  })
  return { over, end }
}
