/** A clock that the test turns by hand: nothing happens between two turns. */
import type { Clock } from '@lichen/core'

export interface HandClock extends Clock {
  /** Lets so many milliseconds pass: what becomes due on the way is called at its time, and all that follows from it without waiting. */
  turn(ms: number): Promise<void>
}

interface Due {
  at: number
  readonly callback: () => void
  readonly intervalMs: number | undefined
}

const turnOfTheLoop = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

/** A clock that stands at some moment. `isQuiet`: false while something outside its time is under way, which what is called next has to see done. */
export function makeHandClock(isQuiet: () => boolean = () => true): HandClock {
  async function settle(): Promise<void> {
    do await turnOfTheLoop()
    while (!isQuiet())
  }

  let now = 1_000_000
  const waiting = new Set<Due>()
  const add = (delayMs: number, callback: () => void, intervalMs?: number): { cancel(): void } => {
    const due: Due = { at: now + delayMs, callback, intervalMs }
    waiting.add(due)
    return { cancel: () => void waiting.delete(due) }
  }
  return {
    now: () => Math.floor(now),
    elapsed: () => now,
    after: (delayMs, callback) => add(delayMs, callback),
    every: (intervalMs, callback) => add(intervalMs, callback, intervalMs),
    soon: (callback) => void setImmediate(callback),
    async turn(ms) {
      const until = now + ms
      for (;;) {
        await settle()
        const [first] = [...waiting].filter((due) => due.at <= until).sort((left, right) => left.at - right.at)
        if (first === undefined) break
        now = first.at
        if (first.intervalMs === undefined) waiting.delete(first)
        else first.at += first.intervalMs
        first.callback()
      }
      now = until
      await settle()
    },
  }
}
