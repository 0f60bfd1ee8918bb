import type { Test } from 'tap'
import type { Broker, Message, Verdict } from '@lichen/broker'
import { eventually } from '../eventually.js'
import { testMailboxes } from './mailbox-contract.js'

export interface BrokerLimits {
  readonly deliveryLimit: number
  readonly firstRetryPauseMs: number
}

/** Opens an empty broker with these limits. Closing is the contract's business. */
export type OpenBroker = (t: Test, limits: BrokerLimits) => Promise<Broker>

const limits: BrokerLimits = { deliveryLimit: 2, firstRetryPauseMs: 5 }
const makeMessages = (count: number, from = 0): { id: string; body: string }[] => Array.from({ length: count }, (_, index) => ({ id: `m-${from + index}`, body: JSON.stringify({ v: 1, task: `t-${from + index}` }) }))
const ack: Verdict = { verdict: 'ack' }

async function openFor(t: Test, open: OpenBroker): Promise<Broker> {
  const broker = await open(t, limits)
  t.teardown(() => broker.close())
  await eventually(t, 'the broker is connected', () => broker.isConnected())
  return broker
}

/** What every broker adapter must do. */
export function testBroker(t: Test, open: OpenBroker): void {
  t.test('a published message reaches one receiver, with its id and body as they were', async (t) => {
    const broker = await openFor(t, open)
    const received: Message[] = []
    await broker.consume('tasks', 10, async (message) => (received.push(message), ack))
    await broker.publish('tasks', [{ id: 'm-ü', body: '{"v":1,"task":"t-€\\u0000"}' }])
    await eventually(t, 'the message came', () => received.length === 1)
    t.same(received, [{ id: 'm-ü', body: '{"v":1,"task":"t-€\\u0000"}', isRedelivered: false }])
  })

  t.test('publishing nothing is fine', async (t) => {
    const broker = await openFor(t, open)
    await broker.publish('tasks', [])
    t.ok(broker.isConnected())
  })

  t.test('messages published before anybody consumes are kept and come in order', async (t) => {
    const broker = await openFor(t, open)
    await broker.publish('tasks', makeMessages(500))
    const received: string[] = []
    await broker.consume('tasks', 1, async (message) => (received.push(message.id), ack))
    await eventually(t, 'all messages came', () => received.length === 500)
    t.same(received, makeMessages(500).map((message) => message.id))
  })

  t.test('no more messages than the prefetch are with a receiver at a time', async (t) => {
    const broker = await openFor(t, open)
    await broker.publish('tasks', makeMessages(10))
    const waiting: (() => void)[] = []
    let highest = 0
    let done = 0
    await broker.consume('tasks', 3, async () => {
      await new Promise<void>((resolve) => {
        waiting.push(resolve)
        highest = Math.max(highest, waiting.length)
      })
      done += 1
      return ack
    })
    await eventually(t, 'three receivers run', () => waiting.length === 3)
    await eventually(t, 'all are done', () => {
      for (const resolve of waiting.splice(0)) resolve()
      return done === 10
    })
    t.equal(highest, 3)
  })

  t.test('two consumers of a queue share its messages', async (t) => {
    const broker = await openFor(t, open)
    const seen: [string[], string[]] = [[], []]
    for (const mine of seen) await broker.consume('tasks', 1, async (message) => (mine.push(message.id), new Promise((resolve) => setImmediate(resolve, ack))))
    await broker.publish('tasks', makeMessages(100))
    await eventually(t, 'all messages came', () => seen[0].length + seen[1].length === 100)
    t.equal(new Set([...seen[0], ...seen[1]]).size, 100, 'each message came once')
    t.ok(seen[0].length > 0 && seen[1].length > 0, 'both consumers worked')
  })

  t.test('a message that asks for retry comes again and says so', async (t) => {
    const broker = await openFor(t, open)
    const received: Message[] = []
    await broker.consume('tasks', 1, async (message) => (received.push(message), { verdict: received.length === 1 ? 'retry' : 'ack' }))
    await broker.publish('tasks', makeMessages(1))
    await eventually(t, 'it came twice', () => received.length === 2)
    t.same(received.map((message) => message.isRedelivered), [false, true])
  })

  t.test('a receiver that throws counts as retry', async (t) => {
    const broker = await openFor(t, open)
    let calls = 0
    await broker.consume('tasks', 1, async () => {
      calls += 1
      if (calls === 1) throw new Error('the receiver of this test fails once')
      return ack
    })
    await broker.publish('tasks', makeMessages(1))
    await eventually(t, 'it came twice', () => calls === 2)
    t.same(await broker.listDeadLetters(10), [])
  })

  t.test('a message that is given again more often than the limit dies with that reason, and the next one is served', async (t) => {
    const broker = await openFor(t, open)
    const received: string[] = []
    const before = Date.now()
    await broker.consume('tasks', 1, async (message) => (received.push(message.id), { verdict: message.id === 'm-0' ? 'retry' : 'ack' }))
    await broker.publish('tasks', makeMessages(2))
    const [letter] = await eventually(t, 'the message died', async () => {
      const letters = await broker.listDeadLetters(10)
      return letters.length > 0 ? letters : undefined
    })
    t.match(letter, { id: 'm-0', queue: 'tasks', body: makeMessages(1)[0]?.body, reason: /given again more than 2 times/ })
    t.ok(letter && letter.diedAt >= before - 1_000 && letter.diedAt <= Date.now() + 1_000, 'it says when')
    t.equal(received.filter((id) => id === 'm-0').length, 1 + limits.deliveryLimit)
    await eventually(t, 'the other one came', () => received.includes('m-1'))
  })

  t.test('a message declared dead is kept with the reason given and does not come again', async (t) => {
    const broker = await openFor(t, open)
    let calls = 0
    const before = Date.now()
    await broker.consume('tasks', 5, async () => ((calls += 1), { verdict: 'dead', reason: 'BROKER_MALFORMED_MESSAGE: no task in {}' }))
    await broker.publish('tasks', [{ id: 'bad', body: '{}' }])
    const letters = await eventually(t, 'the message died', async () => {
      const found = await broker.listDeadLetters(10)
      return found.length > 0 ? found : undefined
    })
    t.match(letters, [{ id: 'bad', queue: 'tasks', body: '{}', reason: 'BROKER_MALFORMED_MESSAGE: no task in {}' }])
    t.ok((letters[0]?.diedAt ?? 0) >= before)
    t.equal(calls, 1)
  })

  t.test('dead letters are listed oldest first, as often as one likes, up to a limit', async (t) => {
    const broker = await openFor(t, open)
    const stop = await broker.consume('tasks', 1, async (message) => ({ verdict: 'dead', reason: `reason of ${message.id}` }))
    await broker.publish('tasks', makeMessages(60))
    const ids = makeMessages(60).map((message) => message.id)
    await eventually(t, 'all died', async () => (await broker.listDeadLetters(100)).length === 60)
    await stop()
    for (let look = 0; look < 25; look++) t.same((await broker.listDeadLetters(100)).map((letter) => letter.id), ids, `look ${look}`)
    t.same((await broker.listDeadLetters(3)).map((letter) => letter.id), ids.slice(0, 3))
    t.same(await broker.listDeadLetters(0), [])
  })

  t.test('a replayed dead letter comes to a receiver again; the others stay where they are', async (t) => {
    const broker = await openFor(t, open)
    const stop = await broker.consume('tasks', 1, async () => ({ verdict: 'dead', reason: 'not now' }))
    await broker.publish('tasks', makeMessages(5))
    await eventually(t, 'all died', async () => (await broker.listDeadLetters(10)).length === 5)
    await stop()
    t.match(await broker.readDeadLetter('m-2'), { id: 'm-2', queue: 'tasks', body: makeMessages(5)[2]?.body, reason: 'not now', diedAt: Number })
    t.equal(await broker.replayDeadLetter('m-2'), true)
    const received: Message[] = []
    await broker.consume('tasks', 1, async (message) => (received.push(message), ack))
    await eventually(t, 'it came', () => received.length === 1)
    t.match(received[0], { id: 'm-2', body: makeMessages(5)[2]?.body, isRedelivered: false })
    t.same((await broker.listDeadLetters(10)).map((letter) => letter.id), ['m-0', 'm-1', 'm-3', 'm-4'])
    t.equal(await broker.replayDeadLetter('m-2'), false, 'it is not there any more')
    t.equal(await broker.replayDeadLetter('never-seen'), false)
    t.equal(await broker.readDeadLetter('m-2'), undefined)
  })

  t.test('stopping a consumer waits for its running receivers, and the queue keeps the rest', async (t) => {
    const broker = await openFor(t, open)
    await broker.publish('tasks', makeMessages(4))
    const received: string[] = []
    let finish: () => void = () => undefined
    const stop = await broker.consume('tasks', 1, async (message) => {
      received.push(message.id)
      await new Promise<void>((resolve) => (finish = resolve))
      return ack
    })
    await eventually(t, 'the first receiver runs', () => received.length === 1)
    let isStopped = false
    const stopped = stop().then(() => (isStopped = true))
    await new Promise((resolve) => setImmediate(resolve))
    t.equal(isStopped, false, 'a receiver runs still')
    finish()
    await stopped
    t.same(received, ['m-0'])
    await broker.consume('tasks', 1, async (message) => (received.push(message.id), ack))
    await eventually(t, 'the rest came to the next consumer', () => received.length === 4)
    t.same(received, ['m-0', 'm-1', 'm-2', 'm-3'])
  })

  t.test('stopping does not wait for the pause before a retry, and the message is not lost', async (t) => {
    const broker = await open(t, { deliveryLimit: 5, firstRetryPauseMs: 60_000 })
    t.teardown(() => broker.close())
    await eventually(t, 'the broker is connected', () => broker.isConnected())
    let calls = 0
    const stop = await broker.consume('tasks', 1, async () => ((calls += 1), { verdict: 'retry' }))
    await broker.publish('tasks', makeMessages(1))
    await eventually(t, 'it came', () => calls === 1)
    await stop()
    const received: Message[] = []
    await broker.consume('tasks', 1, async (message) => (received.push(message), ack))
    await eventually(t, 'it came again', () => received.length === 1)
    t.equal(received[0]?.isRedelivered, true)
  })

  t.test('after closing, publishing is refused as unavailable', async (t) => {
    const broker = await openFor(t, open)
    await broker.close()
    t.equal(broker.isConnected(), false)
    await t.rejects(broker.publish('tasks', makeMessages(1)), { code: 'BROKER_UNAVAILABLE' })
  })

  testMailboxes(t, (t) => openFor(t, open))
}
