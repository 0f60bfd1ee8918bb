import type { Test } from 'tap'

type Truthy<T> = Exclude<T, false | 0 | '' | null | undefined>

/**
 * Resolves with the first truthy value that `probe` gives, asking every `intervalMs`; fails the test with the last thing seen when
 * `timeoutMs` is over. `probe` may throw: that counts as "not yet".
 */
export async function eventually<T>(t: Test, what: string, probe: () => T | Promise<T>, { timeoutMs = 10_000, intervalMs = 20 } = {}): Promise<Truthy<T>> {
  const until = Date.now() + timeoutMs
  let last: unknown
  for (;;) {
    try {
      const value = await probe()
      if (value) return value as Truthy<T>
      last = value
    } catch (error) {
      last = error
    }
    if (Date.now() >= until) break
    await new Promise((resolve) => setTimeout(resolve, intervalMs))
  }
  t.fail(`${what}: not within ${timeoutMs} ms`, { lastSeen: last instanceof Error ? last.stack : last })
  throw new Error(`${what}: not within ${timeoutMs} ms; last seen: ${last instanceof Error ? last.message : JSON.stringify(last)}`)
}
