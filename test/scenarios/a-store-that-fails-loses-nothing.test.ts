import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { LichenError } from '@lichen/core'
import type { Store, TaskStore } from '@lichen/store'
import t from 'tap'
import { makeRandom } from '../core/task-fixture.js'
import { makePlan, startSystem } from './system.js'

/** The store, but calls fail at random: before anything is done, or after it was committed and the answer got lost. */
function makeUnreliable(store: Store, seed: number, rate: number): Store {
  const random = makeRandom(seed)
  const unreliable =
    <Arguments extends unknown[], Answer>(call: (...given: Arguments) => Promise<Answer>) =>
    async (...given: Arguments): Promise<Answer> => {
      const fate = random()
      if (fate < rate) throw new LichenError('STORE_UNAVAILABLE', 'the connection was cut before')
      const answer = await call(...given)
      if (fate > 1 - rate) throw new LichenError('STORE_UNAVAILABLE', 'the connection was cut after')
      return answer
    }
  const tasks = Object.fromEntries(Object.entries(store.tasks).map(([name, call]) => [name, unreliable(call as (...given: unknown[]) => Promise<unknown>)])) as unknown as TaskStore
  return { ...store, tasks, logs: { ...store.logs, appendLog: unreliable(store.logs.appendLog.bind(store.logs)) }, secrets: { ...store.secrets, putSecret: unreliable(store.secrets.putSecret.bind(store.secrets)) } }
}

for (const seed of [1, 2, 3]) {
  t.test(`calls to the store that fail before or after their commit lose nothing and double nothing (seed ${seed})`, async (t) => {
    const system = await startSystem(t, { wrapStore: (store) => makeUnreliable(store, seed, 0.05), limits: { leaseTtlMs: 2_000 } })
    for (const name of ['n1', 'n2']) await system.startAgent(name)
    const file = join(system.directory, 'runs')
    const components = Array.from({ length: 6 }, (_, index) => ({ name: `c${index}`, blueprint: 'script', ...(index === 0 ? {} : { after: [`c${index - 1}`] }), with: { script: `echo c${index}-$LICHEN_NODE >> ${file}; echo line of c${index}` } }))
    const view = await system.ended(await system.submit(makePlan('unreliable', components)), 60_000)
    t.equal(view.outcome, 'succeeded', view.reason)
    const expected = components.flatMap(({ name }) => [`${name}-n1`, `${name}-n2`])
    t.strictSame(readFileSync(file, 'utf8').trim().split('\n').sort(), expected.sort(), 'each action ran once')
    t.strictSame(system.logged.filter((line) => line.level === 'error'), [])
  })
}
