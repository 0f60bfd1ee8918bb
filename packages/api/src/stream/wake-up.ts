import type { Store } from '@lichen/store'

/** Waiting for commits that touch one task, without missing one between looking and waiting. */
export interface WakeUp {
  /** Call before looking: what is committed from here on ends the next wait. */
  arm(): void
  /** Resolves when something was committed since `arm`, or the signal has fired. */
  next(): Promise<void>
  close(): void
}

/** A wake-up for this task. It must be closed. */
export function openWakeUp(store: Pick<Store, 'watchTask'>, task: string, signal: AbortSignal): WakeUp {
  let isWoken = false
  let resolveWait: (() => void) | undefined
  const wake = () => {
    isWoken = true
    resolveWait?.()
  }
  const unwatch = store.watchTask(task, wake)
  signal.addEventListener('abort', wake)
  return {
    arm() {
      isWoken = false
    },
    async next() {
      if (isWoken || signal.aborted) return
      await new Promise<void>((resolve) => (resolveWait = resolve))
      resolveWait = undefined
    },
    close() {
      unwatch()
      signal.removeEventListener('abort', wake)
    },
  }
}
