import type { Test } from 'tap'
import type { Broker, Mailbox, PeerMessage } from '@lichen/broker'
import { eventually } from '../eventually.js'

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text)
const textOf = (message: PeerMessage): string => Buffer.from(message.body).toString()

interface Opened {
  readonly box: Mailbox
  /** `FROM: BODY` of each message. */
  readonly received: string[]
}

async function openBox(t: Test, broker: Broker, name: string): Promise<Opened> {
  const received: string[] = []
  const box = await broker.openMailbox(name, (message) => received.push(`${message.from}: ${textOf(message)}`))
  t.teardown(() => box.close())
  return { box, received }
}

/** What mailboxes of every broker adapter must do. `open` opens an empty broker and closes it with the test. */
export function testMailboxes(t: Test, open: (t: Test) => Promise<Broker>): void {
  t.test('a message reaches the mailbox of that name and no other, and says who sent it', async (t) => {
    const broker = await open(t)
    const [one, two, three] = await Promise.all(['engine-1', 'engine-2', 'engine-3'].map((name) => openBox(t, broker, name)))
    t.equal(await one!.box.send('engine-2', bytes('grüße')), true)
    await eventually(t, 'it came', () => two!.received.length === 1)
    t.same(two!.received, ['engine-1: grüße'])
    t.same([one!.received, three!.received], [[], []])
  })

  t.test('sending to a name that nobody has open is false, also after it was closed', async (t) => {
    const broker = await open(t)
    const one = await openBox(t, broker, 'engine-1')
    t.equal(await one.box.send('engine-2', bytes('x')), false)
    const two = await openBox(t, broker, 'engine-2')
    t.equal(await one.box.send('engine-2', bytes('x')), true)
    await eventually(t, 'it came', () => two.received.length === 1)
    await two.box.close()
    t.equal(await one.box.send('engine-2', bytes('y')), false)
    t.equal(await one.box.send('no such name, nor could there be one', bytes('y')), false)
    t.same(two.received, ['engine-1: x'])
  })

  t.test('a broadcast reaches every other mailbox and not its sender', async (t) => {
    const broker = await open(t)
    const [one, two, three] = await Promise.all(['engine-1', 'engine-2', 'engine-3'].map((name) => openBox(t, broker, name)))
    await one!.box.broadcast(bytes('hello'))
    await two!.box.broadcast(bytes('hi'))
    await eventually(t, 'all came', () => one!.received.length === 1 && two!.received.length === 1 && three!.received.length === 2)
    t.same(three!.received.toSorted(), ['engine-1: hello', 'engine-2: hi'])
    // What one sends to itself comes after its own broadcast, so that one would have come by now.
    t.equal(await one!.box.send('engine-1', bytes('to me')), true)
    await eventually(t, 'it came', () => one!.received.length === 2)
    t.same(one!.received, ['engine-2: hi', 'engine-1: to me'])
  })

  t.test('a broadcast with nobody else there is fine', async (t) => {
    const broker = await open(t)
    const { box, received } = await openBox(t, broker, 'engine-1')
    await box.broadcast(bytes('anybody?'))
    t.same(received, [])
  })

  t.test('messages of one sender come in the order sent, broadcasts and large ones among them, and none twice', async (t) => {
    const broker = await open(t)
    const one = await openBox(t, broker, 'engine-1')
    const numbers: number[] = []
    const two = await broker.openMailbox('engine-2', (message) => numbers.push(Buffer.from(message.body).readUInt32BE()))
    t.teardown(() => two.close())
    const sent = Array.from({ length: 2_000 }, (_, number) => {
      const body = Buffer.alloc(number % 100 === 7 ? 300_000 : 40)
      body.writeUInt32BE(number)
      return number % 10 === 3 ? one.box.broadcast(body) : one.box.send('engine-2', body)
    })
    await Promise.all(sent)
    await eventually(t, 'all came', () => numbers.length === 2_000, { timeoutMs: 20_000 })
    t.same(numbers, Array.from({ length: 2_000 }, (_, number) => number))
  })

  t.test('bodies are bytes: empty ones and 16 MiB come as they were; a longer one is a defect of the caller', async (t) => {
    const broker = await open(t)
    const one = await openBox(t, broker, 'engine-1')
    const bodies: Uint8Array[] = []
    const two = await broker.openMailbox('engine-2', (message) => bodies.push(message.body))
    t.teardown(() => two.close())
    const large = Buffer.alloc(16 << 20, 'lichen')
    // A view into a larger buffer, as decoders give them.
    const view = Uint8Array.from([9, 0, 255, 128, 9]).subarray(1, 4)
    for (const body of [new Uint8Array(0), large, view]) t.equal(await one.box.send('engine-2', body), true)
    await eventually(t, 'all came', () => bodies.length === 3)
    t.equal(bodies[0]?.length, 0)
    t.ok(Buffer.compare(bodies[1]!, large) === 0)
    t.same([...bodies[2]!], [0, 255, 128])
    await t.rejects(one.box.send('engine-2', Buffer.alloc((16 << 20) + 1)), { code: 'INTERNAL' })
    await t.rejects(broker.openMailbox('two words', () => undefined), { code: 'INTERNAL' })
  })

  t.test('a body belongs to the sender again as soon as it is sent', async (t) => {
    const broker = await open(t)
    const one = await openBox(t, broker, 'engine-1')
    const two = await openBox(t, broker, 'engine-2')
    const body = bytes('before')
    const sending = one.box.send('engine-2', body)
    body.set(bytes('after!'))
    await sending
    await eventually(t, 'it came', () => two.received.length === 1)
    t.same(two.received, ['engine-1: before'])
  })

  t.test('a name is taken while its mailbox is open, and free afterwards', async (t) => {
    const broker = await open(t)
    const one = await openBox(t, broker, 'engine-1')
    await t.rejects(broker.openMailbox('engine-1', () => undefined), { code: 'BROKER_MAILBOX_TAKEN', message: /"engine-1"/ })
    t.equal(await one.box.send('engine-1', bytes('still here')), true)
    await eventually(t, 'the refused one took nothing', () => one.received.length === 1)
    await one.box.close()
    const next = await openBox(t, broker, 'engine-1')
    t.equal(await next.box.send('engine-1', bytes('mine now')), true)
    await eventually(t, 'it came', () => next.received.length === 1)
    t.same(one.received, ['engine-1: still here'])
  })

  t.test('a receiver that throws gets the next message all the same', async (t) => {
    const broker = await open(t)
    const one = await openBox(t, broker, 'engine-1')
    const received: string[] = []
    const two = await broker.openMailbox('engine-2', (message) => {
      received.push(textOf(message))
      throw new Error('the receiver of this test always fails')
    })
    t.teardown(() => two.close())
    await one.box.send('engine-2', bytes('a'))
    await one.box.send('engine-2', bytes('b'))
    await eventually(t, 'both came', () => received.length === 2)
    t.same(received, ['a', 'b'])
  })

  t.test('a closed mailbox, and one of a closed broker, sends nothing, and closing twice is fine', async (t) => {
    const broker = await open(t)
    const one = await openBox(t, broker, 'engine-1')
    const two = await openBox(t, broker, 'engine-2')
    await one.box.close()
    await one.box.close()
    await t.rejects(one.box.send('engine-2', bytes('x')), { code: 'BROKER_UNAVAILABLE' })
    await t.rejects(one.box.broadcast(bytes('x')), { code: 'BROKER_UNAVAILABLE' })
    await broker.close()
    await t.rejects(two.box.send('engine-1', bytes('x')), { code: 'BROKER_UNAVAILABLE' })
    await t.rejects(broker.openMailbox('engine-3', () => undefined), { code: 'BROKER_UNAVAILABLE' })
    t.same([one.received, two.received], [[], []])
  })
}
