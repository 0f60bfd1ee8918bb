import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { startAnnouncer } from '@lichen/api'
import { openEmbeddedBroker, type Broker } from '@lichen/broker'
import { clockOf } from '@lichen/core'
import { openSqliteStore, type Store } from '@lichen/store'
import { eventually } from '../eventually.js'
import { createTask } from './api-fixture.js'

const silent = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined }

async function openStoreFor(t: Test): Promise<Store> {
  const directory = await mkdtemp(join(tmpdir(), 'lichen-announcer-'))
  const store = await openSqliteStore({ path: join(directory, 'lichen.db') })
  t.teardown(async () => {
    await store.close()
    await rm(directory, { recursive: true })
  })
  return store
}

/** The tasks whose bells rang, in order. */
async function listen(t: Test, broker: Broker): Promise<string[]> {
  const rung: string[] = []
  const stop = await broker.consume('tasks', 100, async (message) => {
    rung.push((JSON.parse(message.body) as { task: string }).task)
    return { verdict: 'ack' }
  })
  t.teardown(stop)
  return rung
}

t.test('bells are published in order, once each, and leave the outbox', async (t) => {
  const store = await openStoreFor(t)
  const broker = openEmbeddedBroker()
  const rung = await listen(t, broker)
  const announcer = startAnnouncer({ store, broker, clock: clockOf(globalThis), log: silent, intervalMs: 3_600_000 })
  t.teardown(() => announcer.stop())
  const ids = Array.from({ length: 1_200 }, (_, index) => `t-${String(index).padStart(4, '0')}`)
  for (let from = 0; from < ids.length; from += 100) {
    await Promise.all(ids.slice(from, from + 100).map((id) => createTask(store, id)))
    announcer.ring()
  }
  await eventually(t, 'all bells', () => rung.length >= ids.length)
  t.same([...rung].sort(), ids, 'each once')
  await eventually(t, 'an empty outbox', async () => (await store.outbox.readOutbox(10)).length === 0)
})

t.test('what is in the outbox at the start, and what nobody rings for, is found by the sweeper', async (t) => {
  const store = await openStoreFor(t)
  const broker = openEmbeddedBroker()
  const rung = await listen(t, broker)
  await createTask(store, 't-before')
  const announcer = startAnnouncer({ store, broker, clock: clockOf(globalThis), log: silent, intervalMs: 50 })
  t.teardown(() => announcer.stop())
  await eventually(t, 'the one from before', () => rung.includes('t-before'))
  await createTask(store, 't-silent')
  await eventually(t, 'the one without a ring', () => rung.includes('t-silent'))
})

t.test('while the broker is away bells wait and requests do not; when it is back they ring', async (t) => {
  const store = await openStoreFor(t)
  const away = openEmbeddedBroker()
  await away.close()
  const back = openEmbeddedBroker()
  const rung = await listen(t, back)
  let isBack = false
  // The link to the broker, cut and mended: what is on either side of it is real.
  const link: Broker = { ...away, publish: (queue, messages) => (isBack ? back : away).publish(queue, messages) }
  const warnings: string[] = []
  const announcer = startAnnouncer({ store, broker: link, clock: clockOf(globalThis), log: { ...silent, warn: (_fields, message) => void warnings.push(message) }, intervalMs: 20 })
  t.teardown(() => announcer.stop())
  await createTask(store, 't-1')
  announcer.ring()
  await eventually(t, 'a warning', () => warnings.length > 0)
  for (let index = 0; index < 1000; index++) announcer.ring()
  t.equal((await store.outbox.readOutbox(10)).length, 1)
  isBack = true
  await eventually(t, 'the bell', () => rung.length > 0)
  t.same(rung, ['t-1'])
  t.equal(warnings.length, 1, 'an outage is told once')
})

t.test('stop waits for what runs and leaves the rest for the next start', async (t) => {
  const store = await openStoreFor(t)
  const broker = openEmbeddedBroker()
  const rung = await listen(t, broker)
  const first = startAnnouncer({ store, broker, clock: clockOf(globalThis), log: silent })
  await first.stop()
  await createTask(store, 't-1')
  first.ring()
  t.equal((await store.outbox.readOutbox(10)).length, 1)
  const second = startAnnouncer({ store, broker, clock: clockOf(globalThis), log: silent })
  t.teardown(() => second.stop())
  await eventually(t, 'the bell', () => rung.includes('t-1'))
})
