/**
 * Virtual time. Owns the queue of what will happen and runs it one event after the other; nothing real passes.
 *
 * 1. Events run in the order of (time, tie, number): ties of one time are drawn by chance, from the seed, and what has no tie keeps the order in which it was asked for.
 * 2. Between two events every promise that the first one settled has run to where it waits again: an event is one step of one process.
 * 3. An event of a process that is dead does not run; one of a process that stands still runs when it goes on.
 */
import { nextTick as realNextTick } from './real.js'

/** Whose event it is. */
export interface Owner {
  readonly name: string
  readonly isAlive: boolean
  readonly isStopped: boolean
  /** Puts back what came due while it stood still; called when it goes on. */
  readonly deferred: (() => void)[]
}

export interface Scheduled {
  cancel(): void
}

interface Entry {
  at: number
  readonly tie: number
  order: number
  readonly owner: Owner | undefined
  readonly label: string
  run: (() => void) | undefined
}

export interface SchedulerHooks {
  /** Called before an event runs; it may kill or stop the owner. */
  readonly before: (owner: Owner | undefined, label: string) => void
  /** Called when everything that follows from an event has run. */
  readonly after: (owner: Owner | undefined, label: string) => void
}

/** How a run of the scheduler ended: somebody said stop, nothing was left to do, or time was over. */
export type Ending = 'stopped' | 'idle' | 'over'

const settled = Promise.resolve()

/** See the file header. */
export class Scheduler {
  readonly #heap: Entry[] = []
  readonly #hooks: SchedulerHooks
  #order = 0
  #now = 0
  #events = 0

  constructor(hooks: SchedulerHooks) {
    this.#hooks = hooks
  }

  /** Milliseconds since the beginning of the run. */
  get now(): number {
    return this.#now
  }

  /** Events that have run. */
  get events(): number {
    return this.#events
  }

  /** Runs `run` at this time, or now if that is past. */
  at(at: number, owner: Owner | undefined, label: string, run: () => void, tie = 0): Scheduled {
    const entry: Entry = { at: at > this.#now ? at : this.#now, tie, order: (this.#order += 1), owner, label, run }
    this.#push(entry)
    return { cancel: () => void (entry.run = undefined) }
  }

  /** Runs events until `isDone` says so, none is left, or the time `until` has come. Rejects with what an event threw. */
  run(until: number, isDone: () => boolean): Promise<Ending> {
    return new Promise<Ending>((resolve, reject) => {
      let running: Entry | undefined
      const finish = (): void => {
        try {
          this.#hooks.after(running?.owner, running?.label ?? '')
        } catch (error) {
          return reject(error as Error)
        }
        step()
      }
      const soon = (): void => realNextTick(finish)
      const step = (): void => {
        try {
          for (;;) {
            if (isDone()) return resolve('stopped')
            const entry = this.#pop()
            if (entry === undefined) return resolve('idle')
            if (entry.at > until) {
              this.#now = until
              return resolve('over')
            }
            this.#now = entry.at
            // What was cancelled, or is nobody's any more, takes no turn.
            if (!this.#begin(entry)) continue
            running = entry
            // The microtasks of the event come before this one, and those that they make before the tick: the queue of microtasks is emptied as a whole.
            void settled.then(soon)
            return
          }
        } catch (error) {
          reject(error as Error)
        }
      }
      step()
    })
  }

  #begin(entry: Entry): boolean {
    if (entry.run === undefined || isDead(entry.owner) || this.#defer(entry)) return false
    this.#hooks.before(entry.owner, entry.label)
    // It may have died of it, or have been stopped.
    if (isDead(entry.owner) || this.#defer(entry)) return false
    this.#events += 1
    const { run } = entry
    entry.run = undefined
    run()
    return true
  }

  /** Keeps the event until its owner goes on; false when it does not stand still. */
  #defer(entry: Entry): boolean {
    const { owner } = entry
    if (owner?.isStopped !== true) return false
    owner.deferred.push(() => {
      entry.at = this.#now
      entry.order = this.#order += 1
      this.#push(entry)
    })
    return true
  }

  #push(entry: Entry): void {
    const heap = this.#heap
    let at = heap.length
    heap.push(entry)
    while (at > 0) {
      const parent = (at - 1) >> 1
      if (!isBefore(entry, heap[parent]!)) break
      heap[at] = heap[parent]!
      at = parent
    }
    heap[at] = entry
  }

  #pop(): Entry | undefined {
    const heap = this.#heap
    const first = heap[0]
    const last = heap.pop()
    if (first === undefined || last === undefined || heap.length === 0) return first
    let at = 0
    for (;;) {
      let child = 2 * at + 1
      if (child >= heap.length) break
      if (child + 1 < heap.length && isBefore(heap[child + 1]!, heap[child]!)) child += 1
      if (!isBefore(heap[child]!, last)) break
      heap[at] = heap[child]!
      at = child
    }
    heap[at] = last
    return first
  }
}

const isBefore = (left: Entry, right: Entry): boolean => left.at - right.at < 0 || (left.at === right.at && (left.tie - right.tie < 0 || (left.tie === right.tie && left.order < right.order)))

const isDead = (owner: Owner | undefined): boolean => owner !== undefined && !owner.isAlive
