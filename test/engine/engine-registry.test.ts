import t from 'tap'
import type { Clock } from '@lichen/core'
import { startEngineRegistry } from '../../packages/engine/dist/engine-registry.js'
import { Database } from '../../simulation/store/database.js'
import { openStoreClient } from '../../simulation/store/client.js'

const silent = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined }
const ttlMs = 10_000

/** A clock that is turned by hand; `tick` runs what repeats. */
function makeClock(now: number): Clock & { tick(ms: number): void } {
  let elapsed = 0
  const repeating: (() => void)[] = []
  return {
    now: () => now + elapsed,
    elapsed: () => elapsed,
    after: () => ({ cancel: () => undefined }),
    every: (_intervalMs, callback) => (repeating.push(callback), { cancel: () => undefined }),
    soon: (callback) => callback(),
    tick(ms) {
      elapsed += ms
      for (const callback of repeating) callback()
    },
  }
}

async function settle(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await Promise.resolve()
}

t.test('an engine whose clock is far behind counts as running while it renews its row, and no longer', async (t) => {
  const database = new Database()
  const store = openStoreClient({ database, soon: (callback) => callback(), call: async (_what, body) => body() })
  const start = async (name: string, clock: Clock) => {
    let alive: ReadonlySet<string> = new Set()
    await startEngineRegistry({ engine: { name, instance: `${name}#1` }, isSuccessor: false, store, ttlMs, clock, log: silent, alive: (names) => (alive = names), replaced: () => undefined, gatewaysChanged: () => undefined })
    return () => [...alive].sort()
  }
  const [here, late] = [makeClock(1_785_000_000_000), makeClock(1_785_000_000_000 - 3_600_000)]
  const alive = await start('engine-1', here)
  await start('engine-2', late)
  for (let turn = 0; turn < 3; turn++) {
    late.tick(ttlMs / 3)
    await settle()
    here.tick(ttlMs / 3)
    await settle()
  }
  t.same(alive(), ['engine-1', 'engine-2'], 'its row says that it expired an hour ago, and it moves')
  for (let turn = 0; turn < 4; turn++) {
    here.tick(ttlMs / 3)
    await settle()
  }
  t.same(alive(), ['engine-1'], 'it moves no more')
})
