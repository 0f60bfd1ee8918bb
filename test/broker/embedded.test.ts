import t from 'tap'
import { openEmbeddedBroker } from '@lichen/broker'
import { eventually } from '../eventually.js'
import { testBroker } from './contract.js'

t.test('the embedded broker keeps the contract', async (t) => {
  testBroker(t, async (_t, limits) => openEmbeddedBroker(limits))
})

t.test('a full queue refuses with a reason instead of filling the memory, and takes messages again when there is room', async (t) => {
  const broker = openEmbeddedBroker({ queueLimit: 2 })
  t.teardown(() => broker.close())
  await broker.publish('tasks', [{ id: 'a', body: '{}' }, { id: 'b', body: '{}' }])
  await t.rejects(broker.publish('tasks', [{ id: 'c', body: '{}' }]), { code: 'BROKER_UNAVAILABLE', message: /full: 2 messages wait/, retryAfterS: 1 })
  const received: string[] = []
  await broker.consume('tasks', 1, async (message) => (received.push(message.id), { verdict: 'ack' }))
  await eventually(t, 'the queue is empty', () => received.length === 2)
  await broker.publish('tasks', [{ id: 'c', body: '{}' }])
  await eventually(t, 'the third came', () => received.length === 3)
})

t.test('of too many dead letters the oldest are forgotten', async (t) => {
  const broker = openEmbeddedBroker({ deadLetterLimit: 2 })
  t.teardown(() => broker.close())
  await broker.consume('tasks', 1, async () => ({ verdict: 'dead', reason: 'no' }))
  await broker.publish('tasks', ['a', 'b', 'c'].map((id) => ({ id, body: '{}' })))
  await eventually(t, 'the last one died', async () => (await broker.listDeadLetters(9)).some((letter) => letter.id === 'c'))
  t.same((await broker.listDeadLetters(9)).map((letter) => letter.id), ['b', 'c'])
})

t.test('100,000 waiting messages go through in order', async (t) => {
  const broker = openEmbeddedBroker()
  t.teardown(() => broker.close())
  await broker.publish('tasks', Array.from({ length: 100_000 }, (_, index) => ({ id: String(index), body: '{}' })))
  let next = 0
  let isOrdered = true
  await broker.consume('tasks', 100, async (message) => {
    isOrdered &&= message.id === String(next)
    next += 1
    return { verdict: 'ack' }
  })
  await eventually(t, 'all came', () => next === 100_000)
  t.ok(isOrdered)
})
