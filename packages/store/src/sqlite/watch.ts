/**
 * Wakes those who follow a task. Owns the listeners and one timer. Commits of this process wake the listeners of the tasks they touched at
 * once; commits of other processes cannot be told apart by task, so they wake everyone.
 * Invariants: (1) the timer runs only while somebody watches and never keeps the process alive; (2) a listener that throws does not
 * keep others from being woken; (3) after `close` nobody is called.
 */
import type { StoreLog } from './store-log.js'

export interface Watchers {
  /** Calls `listener` after commits that touched the task. Gives back the unsubscribe function; calling it twice is fine. */
  watch(task: string, listener: () => void): () => void
  /** Wakes the listeners of these tasks. */
  wake(tasks: ReadonlySet<string>): void
  close(): void
}

// How soon a tail sees what another process wrote: half as much doubles an idle server's wake-ups, twice as much is felt by a person who follows a log.
const pollMs = 250

/** Watchers that ask `readForeignVersion` for a number that changes when another process committed. */
export function openWatchers(readForeignVersion: () => Promise<number>, log: StoreLog): Watchers {
  const listeners = new Map<string, Set<() => void>>()
  let timer: NodeJS.Timeout | undefined
  let isPolling = false
  let lastVersion: number | undefined

  function call(listener: () => void): void {
    try {
      listener()
    } catch (error) {
      log.warn({ err: error }, 'a listener of a task failed')
    }
  }

  async function poll(): Promise<void> {
    isPolling = true
    try {
      const version = await readForeignVersion()
      // The first number counts as a move: what was committed between the listener's last read and this poll must not be missed.
      const isMoved = version !== lastVersion
      lastVersion = version
      if (isMoved) for (const ofTask of [...listeners.values()]) for (const listener of [...ofTask]) call(listener)
    } catch (error) {
      log.warn({ err: error }, 'cannot see whether another process wrote; trying again')
    }
    isPolling = false
    schedule()
  }

  function schedule(): void {
    timer = undefined
    if (listeners.size === 0) return
    timer = setTimeout(() => void poll(), pollMs)
    timer.unref()
  }

  function unwatch(task: string, ofTask: Set<() => void>, own: () => void): void {
    ofTask.delete(own)
    if (ofTask.size === 0 && listeners.get(task) === ofTask) listeners.delete(task)
    if (listeners.size === 0 && timer !== undefined) {
      clearTimeout(timer)
      timer = undefined
    }
  }

  return {
    watch(task, listener) {
      const ofTask = listeners.get(task) ?? new Set()
      listeners.set(task, ofTask)
      // An own function for each subscription: the same listener may be given twice.
      const own = (): void => listener()
      ofTask.add(own)
      if (timer === undefined && !isPolling) void poll()
      return () => unwatch(task, ofTask, own)
    },
    wake(tasks) {
      if (listeners.size === 0) return
      for (const task of tasks) for (const listener of [...(listeners.get(task) ?? [])]) call(listener)
    },
    close() {
      clearTimeout(timer)
      timer = undefined
      listeners.clear()
    },
  }
}
