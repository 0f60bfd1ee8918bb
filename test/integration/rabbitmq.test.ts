import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { rmSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { connect } from 'amqplib'
import t, { type Test } from 'tap'
import { openRabbitBroker, type Broker, type Message } from '@lichen/broker'
import { testBroker } from '../broker/contract.js'
import { eventually } from '../eventually.js'
import { startRabbit } from '../rabbitmq.js'
import type { RabbitNode } from '../rabbitmq-node.js'

let lastPrefix = 0
const makePrefix = (): string => `lichen-test-${(lastPrefix += 1)}`

async function openFor(t: Test, url: string, options: Partial<Parameters<typeof openRabbitBroker>[0]> = {}): Promise<Broker> {
  const broker = await openRabbitBroker({ url, prefix: makePrefix(), firstRetryPauseMs: 5, ...options })
  t.teardown(() => broker.close())
  return broker
}

const makeMessages = (count: number, from = 0): { id: string; body: string }[] => Array.from({ length: count }, (_, index) => ({ id: `m-${from + index}`, body: `{"n":${from + index}}` }))

async function withChannel<T>(url: string, work: (channel: Awaited<ReturnType<Awaited<ReturnType<typeof connect>>['createChannel']>>) => Promise<T>): Promise<T> {
  const connection = await connect(url)
  try {
    const channel = await connection.createChannel()
    const result = await work(channel)
    // A connection that closes overtakes what its channels have not sent yet.
    await channel.close()
    return result
  } finally {
    await connection.close()
  }
}

function testTopology(t: Test, rabbit: RabbitNode): void {
  t.test('a message that no queue takes is refused as unroutable, and the next try finds the queue made again', async (t) => {
    const prefix = makePrefix()
    const broker = await openFor(t, rabbit.url, { prefix })
    await withChannel(rabbit.url, (channel) => channel.deleteQueue(`${prefix}.tasks`))
    await t.rejects(broker.publish('tasks', makeMessages(2)), { code: 'BROKER_UNAVAILABLE', message: /unroutable/ })
    await eventually(t, 'publishing works again', () => broker.publish('tasks', makeMessages(1)).then(() => true))
  })

  t.test('a consumer whose queue was deleted goes on when the queue is there again', async (t) => {
    const prefix = makePrefix()
    const broker = await openFor(t, rabbit.url, { prefix })
    const received: string[] = []
    await broker.consume('tasks', 1, async (message) => (received.push(message.id), { verdict: 'ack' }))
    await withChannel(rabbit.url, (channel) => channel.deleteQueue(`${prefix}.tasks`))
    await eventually(t, 'a message goes through again', async () => {
      await broker.publish('tasks', makeMessages(1))
      return received.length > 0
    })
  })

  t.test('a queue that exists with other arguments is used as it is', async (t) => {
    const prefix = makePrefix()
    await withChannel(rabbit.url, (channel) => channel.assertQueue(`${prefix}.tasks`, { durable: true, arguments: { 'x-queue-type': 'quorum', 'x-delivery-limit': 77 } }))
    const broker = await openFor(t, rabbit.url, { prefix })
    const received: string[] = []
    await broker.consume('tasks', 1, async (message) => (received.push(message.id), { verdict: 'ack' }))
    await broker.publish('tasks', makeMessages(1))
    await eventually(t, 'the message came', () => received.length === 1)
  })

  t.test('messages of strangers, without an id and not even text, reach the receiver and can be buried and replayed', async (t) => {
    const prefix = makePrefix()
    const broker = await openFor(t, rabbit.url, { prefix })
    const received: Message[] = []
    const stop = await broker.consume('tasks', 1, async (message) => (received.push(message), { verdict: 'dead', reason: 'not JSON' }))
    await withChannel(rabbit.url, async (channel) => channel.publish(prefix, 'tasks', Buffer.from([0xff, 0x00, 0xfe])))
    await eventually(t, 'it died', async () => (await broker.listDeadLetters(5)).length === 1)
    await stop()
    const [letter] = await broker.listDeadLetters(5)
    t.match(letter, { id: /^unnamed-[0-9a-f]{16}$/, reason: 'not JSON', queue: 'tasks' })
    t.equal(await broker.replayDeadLetter(letter?.id ?? ''), true)
  })

  t.test('letters that died within the same millisecond are listed in the order of their deaths, after looks that mixed them too', async (t) => {
    const prefix = makePrefix()
    const one = await openFor(t, rabbit.url, { prefix, now: () => 1_764_000_000_000 })
    const two = await openFor(t, rabbit.url, { prefix })
    const stop = await one.consume('tasks', 1, async () => ({ verdict: 'dead', reason: 'no' }))
    const messages = makeMessages(60)
    await one.publish('tasks', messages)
    await eventually(t, 'all died', async () => (await one.listDeadLetters(100)).length === 60)
    await stop()
    await Promise.all(Array.from({ length: 10 }, (_, turn) => (turn % 2 ? one : two).listDeadLetters(100)))
    t.same((await one.listDeadLetters(100)).map((letter) => letter.id), messages.map((message) => message.id))
  })

  t.test('two brokers look at the same dead letters at the same time and none is lost', async (t) => {
    const prefix = makePrefix()
    const one = await openFor(t, rabbit.url, { prefix })
    const two = await openFor(t, rabbit.url, { prefix })
    const stop = await one.consume('tasks', 10, async () => ({ verdict: 'dead', reason: 'no' }))
    await one.publish('tasks', makeMessages(30))
    await eventually(t, 'all died', async () => (await one.listDeadLetters(100)).length === 30)
    await stop()
    await Promise.all(Array.from({ length: 10 }, (_, turn) => (turn % 2 ? one : two).listDeadLetters(100)))
    t.equal(await two.replayDeadLetter('m-17'), true)
    t.equal((await one.listDeadLetters(100)).length, 29)
  })
}

function testRefusals(t: Test, rabbit: RabbitNode): void {
  t.test('a URL that is not one of AMQP is refused without showing the password', async (t) => {
    const error = await openRabbitBroker({ url: 'http://user:secret@host' }).then(() => undefined, (reason: Error) => reason)
    t.match(error, { code: 'BROKER_BAD_URL' })
    t.notMatch(error?.message, /secret/)
    await t.rejects(openRabbitBroker({ url: '' }), { code: 'BROKER_BAD_URL' })
  })

  t.test('a wrong password leaves the broker disconnected with a warning, and close ends it', async (t) => {
    const warnings: unknown[] = []
    const quiet = (): void => undefined
    const broker = await openRabbitBroker({ url: rabbit.url.replace('guest:guest', 'guest:wrong'), log: { debug: quiet, info: quiet, error: quiet, warn: (fields) => warnings.push(fields) } })
    t.equal(broker.isConnected(), false)
    await t.rejects(broker.publish('tasks', makeMessages(1)), { code: 'BROKER_UNAVAILABLE', retryAfterS: 1 })
    t.match(warnings[0], { err: /ACCESS_REFUSED/ })
    t.notMatch(JSON.stringify(warnings), /wrong/)
    await broker.close()
  })

  t.test('of several URLs the first that works is used', async (t) => {
    const broker = await openFor(t, `amqp://127.0.0.1:1,${rabbit.url}`)
    t.equal(broker.isConnected(), true)
    await broker.publish('tasks', makeMessages(1))
  })

  t.test('publishing fails fast while the broker is short of memory, consuming goes on, and all is well when the alarm is over', async (t) => {
    const broker = await openFor(t, rabbit.url)
    const received: string[] = []
    await broker.publish('tasks', makeMessages(3))
    await rabbit.control('set_vm_memory_high_watermark', 'absolute', '1MB')
    t.teardown(() => rabbit.control('set_vm_memory_high_watermark', '0.4').then(() => undefined))
    // RabbitMQ tells a connection that it is blocked when it publishes.
    await eventually(t, 'publishing is refused', () => broker.publish('tasks', makeMessages(1, 100)).then(() => false, (error: { code: string }) => error.code === 'BROKER_UNAVAILABLE'), { timeoutMs: 20_000 })
    t.equal(broker.isConnected(), false)
    const startedAt = Date.now()
    await t.rejects(broker.publish('tasks', makeMessages(1, 200)), { message: /accepts no messages now/ })
    t.ok(Date.now() - startedAt < 1_000, 'at once')
    await broker.consume('tasks', 1, async (message) => (received.push(message.id), { verdict: 'ack' }))
    await eventually(t, 'messages are consumed meanwhile', () => ['m-0', 'm-1', 'm-2'].every((id) => received.includes(id)))
    await rabbit.control('set_vm_memory_high_watermark', '0.4')
    await eventually(t, 'publishing works again', () => broker.publish('tasks', makeMessages(1, 300)).then(() => true))
    await eventually(t, 'and arrives', () => received.includes('m-300'))
  })
}

// RabbitMQ 3.10, alone in its cluster, never finds a leader again for a quorum queue that it declared less than a second or two before it was killed. Queues that
// must outlive a SIGKILL are therefore made before the other tests run.
const oldPrefixes = { outage: makePrefix(), letters: makePrefix() }

async function makeOldQueues(rabbit: RabbitNode): Promise<void> {
  for (const prefix of Object.values(oldPrefixes)) {
    const broker = await openRabbitBroker({ url: rabbit.url, prefix })
    await broker.close()
  }
}

function testDeaths(t: Test, rabbit: RabbitNode): void {
  t.test('a message whose consumer is killed before it acked comes again to the next consumer', async (t) => {
    const prefix = makePrefix()
    const broker = await openFor(t, rabbit.url, { prefix })
    await broker.publish('tasks', makeMessages(1))
    const child = spawn(process.execPath, ['--import=tsx', resolve(import.meta.dirname, 'rabbitmq-consumer.ts'), rabbit.url, prefix], { stdio: ['ignore', 'pipe', 'inherit'] })
    const [line] = (await once(child.stdout, 'data')) as [Buffer]
    t.equal(line.toString(), 'm-0\n', 'the child has the message')
    child.kill('SIGKILL')
    await once(child, 'exit')
    const received: Message[] = []
    await broker.consume('tasks', 1, async (message) => (received.push(message), { verdict: 'ack' }))
    await eventually(t, 'it came again', () => received.length === 1)
    t.match(received[0], { id: 'm-0', isRedelivered: true })
  })

  t.test('the broker stops while messages are published and consumed: every confirmed message arrives, and publishing fails fast meanwhile', async (t) => {
    const broker = await openFor(t, rabbit.url, { prefix: oldPrefixes.outage })
    const received = new Set<string>()
    const confirmed: string[] = []
    await broker.consume('tasks', 10, async (message) => (received.add(message.id), { verdict: 'ack' }))
    let isOver = false
    const publishing = (async () => {
      for (let number = 0; !isOver; number++) {
        const messages = makeMessages(10, number * 10)
        await broker.publish('tasks', messages).then(() => confirmed.push(...messages.map((message) => message.id)), () => new Promise((resume) => setTimeout(resume, 5)))
      }
    })()
    await eventually(t, 'messages flow', () => received.size > 100)
    await rabbit.stop('SIGKILL')
    await eventually(t, 'the loss is noticed', () => !broker.isConnected())
    const startedAt = Date.now()
    await t.rejects(broker.publish('tasks', makeMessages(1, -1)), { code: 'BROKER_UNAVAILABLE', retryAfterS: 1 })
    t.ok(Date.now() - startedAt < 500, 'publishing without a connection fails at once')
    const before = confirmed.length
    await rabbit.start()
    await eventually(t, 'publishing works again', () => confirmed.length > before + 100, { timeoutMs: 30_000 })
    isOver = true
    await publishing
    await eventually(t, 'every confirmed message arrived', () => confirmed.every((id) => received.has(id)), { timeoutMs: 30_000 })
    t.pass(`${confirmed.length} messages confirmed`)
  })

  t.test('a message that is with a receiver when the broker stops comes again, and its late verdict harms nobody', async (t) => {
    const broker = await openFor(t, rabbit.url)
    const received: Message[] = []
    let finish: () => void = () => undefined
    await broker.consume('tasks', 1, async (message) => {
      received.push(message)
      if (received.length === 1) await new Promise<void>((done) => (finish = done))
      return { verdict: 'ack' }
    })
    await broker.publish('tasks', makeMessages(1))
    await eventually(t, 'it came', () => received.length === 1)
    await rabbit.stop('SIGTERM')
    await rabbit.start()
    await eventually(t, 'it came again', () => received.length === 2, { timeoutMs: 30_000 })
    finish()
    t.same(received.map((message) => message.isRedelivered), [false, true])
    await eventually(t, 'publishing works again', () => broker.publish('tasks', makeMessages(1, 1)).then(() => true), { timeoutMs: 30_000 })
    await eventually(t, 'the next one is served', () => received.some((message) => message.id === 'm-1'))
  })

  t.test('a program that starts while the broker is away connects and consumes when it comes', async (t) => {
    await rabbit.stop('SIGTERM')
    const broker = await openFor(t, rabbit.url)
    t.equal(broker.isConnected(), false)
    await t.rejects(broker.listDeadLetters(1), { code: 'BROKER_UNAVAILABLE' })
    const received: string[] = []
    await broker.consume('tasks', 1, async (message) => (received.push(message.id), { verdict: 'ack' }))
    await rabbit.start()
    await eventually(t, 'it is connected', () => broker.isConnected(), { timeoutMs: 30_000 })
    await broker.publish('tasks', makeMessages(1))
    await eventually(t, 'the message came', () => received.length === 1)
  })

  t.test('dead letters survive a crash of the broker', async (t) => {
    const broker = await openFor(t, rabbit.url, { prefix: oldPrefixes.letters })
    const stop = await broker.consume('tasks', 1, async () => ({ verdict: 'dead', reason: 'kept' }))
    await broker.publish('tasks', makeMessages(3))
    await eventually(t, 'all died', async () => (await broker.listDeadLetters(5)).length === 3)
    await stop()
    await rabbit.stop('SIGKILL')
    await rabbit.start()
    await eventually(t, 'they are all there', async () => (await broker.listDeadLetters(5)).length === 3, { timeoutMs: 30_000 })
    t.same((await broker.listDeadLetters(5)).map((letter) => letter.id), ['m-0', 'm-1', 'm-2'])
  })

  t.test('a broker that comes back with nothing gets its queues anew', async (t) => {
    const broker = await openFor(t, rabbit.url)
    const received: string[] = []
    await broker.consume('tasks', 1, async (message) => (received.push(message.id), { verdict: 'ack' }))
    await broker.publish('tasks', makeMessages(1))
    await eventually(t, 'it came', () => received.length === 1)
    await rabbit.stop('SIGTERM')
    rmSync(join(rabbit.directory, 'data'), { recursive: true })
    await rabbit.start()
    await eventually(t, 'publishing works again', () => broker.publish('tasks', makeMessages(1, 1)).then(() => true), { timeoutMs: 30_000 })
    await eventually(t, 'consuming too', () => received.includes('m-1'), { timeoutMs: 30_000 })
  })
}

t.test('with a private RabbitMQ', { timeout: 170_000 }, async (t) => {
  const rabbit = await startRabbit(t)
  if (rabbit === undefined) return
  await makeOldQueues(rabbit)
  await t.test('the adapter keeps the contract', async (t) => testBroker(t, (_t, limits) => openRabbitBroker({ url: rabbit.url, prefix: makePrefix(), ...limits })))
  await t.test('topology', async (t) => testTopology(t, rabbit))
  await t.test('refusals', async (t) => testRefusals(t, rabbit))
  await t.test('deaths', async (t) => testDeaths(t, rabbit))
})
