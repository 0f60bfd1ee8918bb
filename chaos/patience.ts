/** Resolves after so many milliseconds. */
export const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

/** The first truthy value that `probe` gives; it may throw, which counts as "not yet". @throws when `timeoutMs` is over, with the last thing seen */
export async function until<T>(what: string, timeoutMs: number, probe: () => T | Promise<T>, intervalMs = 100): Promise<Exclude<T, false | 0 | '' | null | undefined>> {
  const end = Date.now() + timeoutMs
  let last: unknown
  for (;;) {
    try {
      const value = await probe()
      if (value) return value as never
      last = value
    } catch (error) {
      last = error
    }
    if (Date.now() > end) throw new Error(`${what}: not within ${timeoutMs / 1000} s; last seen: ${last instanceof Error ? last.message : JSON.stringify(last)}`)
    await pause(intervalMs)
  }
}
