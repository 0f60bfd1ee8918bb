/** The one way in which running work is told to end: because its time is over, because it was cancelled, or because the agent itself stops. */

import { type Clock, pauseFor, type Timer } from '@lichen/core'

/** Why work has to end. `stopped`: the agent stops; the attempt is settled at its next start. */
export type EndReason = 'timedOut' | 'cancelled' | 'stopped'

const longestMs = 24 * 24 * 3_600_000

/** Ends work once, with the first reason given. Owns its timers. */
export class Deadline {
  readonly clock: Clock
  #reason: EndReason | undefined
  #message = ''
  #timer: Timer | undefined
  /** When it ends, by the clock's `elapsed`. */
  #endsAt = Infinity
  #listeners: (() => void)[] = []

  /** Time without end, until `limit` is called. `parent`: when it ends, this one ends too, for the same reason. */
  constructor(clock: Clock, parent?: Deadline) {
    this.clock = clock
    if (parent) this.#endsAt = parent.#endsAt
    parent?.onEnd(() => this.end(parent.reason!, parent.message))
  }

  /** From now on `limitMs` are left; at 0 or below it is over at once. */
  limit(limitMs: number, message: string): this {
    if (limitMs <= 0) this.end('timedOut', message)
    else if (!this.#reason) {
      this.#endsAt = Math.min(this.#endsAt, this.clock.elapsed() + limitMs)
      this.#timer = this.clock.after(limitMs, () => this.end('timedOut', message))
    }
    return this
  }

  /** Milliseconds until it ends by itself; at most 24 days. */
  get leftMs(): number {
    return Math.min(longestMs, Math.max(0, this.#endsAt - this.clock.elapsed()))
  }

  /** Why it ended; undefined while there is time. */
  get reason(): EndReason | undefined {
    return this.#reason
  }

  /** The reason in words. */
  get message(): string {
    return this.#message
  }

  end(reason: EndReason, message: string): void {
    if (this.#reason) return
    this.#reason = reason
    this.#message = message
    this.#timer?.cancel()
    for (const listener of this.#listeners.splice(0)) listener()
  }

  /** Calls back once at the end, at once if it is over. */
  onEnd(listener: () => void): void {
    if (this.#reason) listener()
    else this.#listeners.push(listener)
  }

  /** No longer interested in the end. */
  offEnd(listener: () => void): void {
    const index = this.#listeners.indexOf(listener)
    if (index >= 0) this.#listeners.splice(index, 1)
  }

  /** The work is over: the timer is dropped. */
  clear(): void {
    this.#timer?.cancel()
    this.#listeners = []
  }
}

/** Resolves after `ms`, or earlier when the deadline ends. */
export async function pause(ms: number, deadline: Deadline): Promise<void> {
  const { over, end } = pauseFor(deadline.clock, ms)
  deadline.onEnd(end)
  await over
  deadline.offEnd(end)
}
