/** The one way in which running work is told to end: because its time is over, because it was cancelled, or because the agent itself stops. */

/** Why work has to end. `stopped`: the agent stops; the attempt is settled at its next start. */
export type EndReason = 'timedOut' | 'cancelled' | 'stopped'

/** Ends work once, with the first reason given. Owns its timers. */
export class Deadline {
  #reason: EndReason | undefined
  #message = ''
  #timer: NodeJS.Timeout | undefined
  #listeners: (() => void)[] = []

  /** Time without end, until `limit` is called. `parent`: when it ends, this one ends too, for the same reason. */
  constructor(parent?: Deadline) {
    parent?.onEnd(() => this.end(parent.reason!, parent.message))
  }

  /** From now on `limitMs` are left; at 0 or below it is over at once. */
  limit(limitMs: number, message: string): this {
    if (limitMs <= 0) this.end('timedOut', message)
    // setTimeout counts in 32 bits; beyond that (24 days) it would fire at once.
    else if (!this.#reason) this.#timer = setTimeout(() => this.end('timedOut', message), Math.min(limitMs, 2 ** 31 - 1))
    return this
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
    clearTimeout(this.#timer)
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
    clearTimeout(this.#timer)
    this.#listeners = []
  }
}

/** Resolves after `ms`, or earlier when the deadline ends. */
export function pause(ms: number, deadline: Deadline): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer)
      deadline.offEnd(done)
      resolve()
    }
    const timer = setTimeout(done, ms)
    deadline.onEnd(done)
  })
}
