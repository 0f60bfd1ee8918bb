/**
 * Wakes those who follow a task. Owns the listeners and one timer. Commits of this process wake the listeners of the tasks they touched at
 * once; commits of other processes are asked for while somebody watches, and may be told sooner by whoever hears of them.
 * Invariants: (1) the timer runs only while somebody watches and never keeps the process alive; (2) a listener that throws does not
 * keep others from being woken; (3) after `close` nobody is called.
 */
import type { StoreLog } from './store-log.js'

export interface Watchers {
  /** Calls `listener` after commits that touched the task. Gives back the unsubscribe function; calling it twice is fine. */
  watch(task: string, listener: () => void): () => void
  /** Wakes the listeners of these tasks. */
  wake(tasks: Iterable<string>): void
  close(): void
}

// How soon a tail sees what another process wrote: half as much doubles an idle server's wake-ups, twice as much is felt by a person who follows a log.
const pollMs = 250

/** Watchers that ask `findMoved`, of the tasks that somebody watches, which ones may have been written by others since it was asked last; a task that is new to it counts as moved. */
export function openWatchers(findMoved: (tasks: readonly string[]) => Promise<Iterable<string>>, log: StoreLog): Watchers {
  const listeners = new Map<string, Set<() => void>>()
  let timer: NodeJS.Timeout | undefined
  let isPolling = false

  function call(listener: () => void): void {
    try {
      listener()
    } catch (error) {
      log.warn({ err: error }, 'a listener of a task failed')
    }
  }

  function wake(tasks: Iterable<string>): void {
    if (listeners.size === 0) return
    for (const task of tasks) for (const listener of [...(listeners.get(task) ?? [])]) call(listener)
  }

  async function poll(): Promise<void> {
    isPolling = true
    try {
      wake(await findMoved([...listeners.keys()]))
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
    wake,
    close() {
      clearTimeout(timer)
      timer = undefined
      listeners.clear()
    },
  }
}
