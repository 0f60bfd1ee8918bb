/**
 * Looking at dead letters without losing them: each is taken, held unacknowledged, and given back in one go. While that lasts nobody else sees them, so
 * within this process one look follows the other, and a look that should find a letter tries again when another process may hold it.
 * Each look has a connection of its own, because a quorum queue without a leader (just after a restart) lets a `get` hang for a minute and then closes the
 * connection (seen with RabbitMQ 3.10); people look seldom, and consumers must not suffer from it.
 * Invariant: a letter leaves the dead queue only after its copy on its old queue is confirmed.
 */
import type { Channel, ChannelModel, GetMessage } from 'amqplib'
import { LichenError } from '@lichen/core'
import type { DeadLetter, QueueName } from '../broker.js'
import { deadLetterLimit, queueNames, reasonOfDeliveryLimit, type Topology } from '../topology.js'
import { readMessageId } from './consumers.js'
import { chooseFirstHost, closeConnection, openConnection } from './link.js'
import type { Publisher } from './publisher.js'
import type { BrokerHost, Target } from './target.js'

/** Headers of letters that a receiver declared dead. Letters that the broker buried carry its own `x-death` instead. `order` counts the letters of one process: several die within a millisecond. */
export const deadHeaders = { reason: 'lichen-reason', queue: 'lichen-queue', diedAt: 'lichen-died-at', order: 'lichen-died-as' } as const

interface BrokerDeath {
  readonly queue?: string
  readonly reason?: string
  readonly time?: { readonly value?: number }
}

const brokerReasons: Readonly<Record<string, string>> = { expired: 'it waited too long', maxlen: 'its queue was full', rejected: 'a consumer rejected it' }

function readQueue(topology: Topology, name: string | undefined): QueueName {
  return topology.queues.find((one) => one.queue === name || one.key === name)?.key ?? (queueNames[0] as QueueName)
}

/** A message of the dead queue as a dead letter. Times set by the broker are whole seconds. */
export function decodeDeadLetter(message: GetMessage, topology: Topology): DeadLetter {
  const headers = message.properties.headers ?? {}
  const death = (headers['x-death'] as readonly BrokerDeath[] | undefined)?.[0]
  const ours: unknown = headers[deadHeaders.reason]
  const base = { id: readMessageId(message), body: message.content.toString('utf8') }
  if (typeof ours === 'string') return { ...base, queue: readQueue(topology, String(headers[deadHeaders.queue])), reason: ours, diedAt: Number(headers[deadHeaders.diedAt]) }
  const limit = Number(topology.queues.find((one) => one.queue === death?.queue)?.arguments['x-delivery-limit'])
  const reason = death?.reason === 'delivery_limit' ? reasonOfDeliveryLimit(limit) : (brokerReasons[death?.reason ?? ''] ?? `the broker gave the reason "${death?.reason ?? 'none'}"`)
  return { ...base, queue: readQueue(topology, death?.queue), reason, diedAt: (death?.time?.value ?? 0) * 1000 }
}

// A get takes a millisecond. A queue that has no leader yet has one within a second or two.
const getTimeoutMs = 3_000

function getLetter(channel: Channel, queue: string): Promise<GetMessage | false> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`the queue ${queue} gave no answer within ${getTimeoutMs} ms`)), getTimeoutMs)
    channel.get(queue).then(resolve, reject).finally(() => clearTimeout(timer))
  })
}

/** Takes up to `limit` letters, front first, until `wanted` says that one is it. */
async function takeLetters(channel: Channel, topology: Topology, limit: number, wanted: (message: GetMessage) => boolean): Promise<GetMessage[]> {
  const taken: GetMessage[] = []
  while (taken.length < limit) {
    const message = await getLetter(channel, topology.deadQueue)
    if (message === false) break
    taken.push(message)
    if (wanted(message)) break
  }
  return taken
}

async function connectAny(target: Target): Promise<ChannelModel> {
  let failure: unknown
  const first = chooseFirstHost(target, Math.random())
  for (let turn = 0; turn < target.hosts.length; turn++) {
    try {
      return await openConnection(target.hosts[(first + turn) % target.hosts.length] as BrokerHost, 'lichen dead letters')
    } catch (error) {
      failure = error
    }
  }
  throw failure
}

/** Runs `work` on a connection of its own, whose end gives back what was not acknowledged. */
async function onOwnChannel<T>(target: Target, work: (channel: Channel) => Promise<T>): Promise<T> {
  let connection: ChannelModel | undefined
  try {
    connection = await connectAny(target)
    connection.on('error', () => undefined)
    const channel = await connection.createChannel()
    channel.on('error', () => undefined)
    const result = await work(channel)
    // First the channel: the end of a connection overtakes verdicts that the broker has not read yet.
    await channel.close()
    return result
  } catch (error) {
    if (error instanceof LichenError) throw error
    throw new LichenError('BROKER_UNAVAILABLE', `looking at dead letters: ${error instanceof Error ? error.message : String(error)}`, { cause: error, retryAfterS: 1 })
  } finally {
    if (connection) await closeConnection(connection)
  }
}

/** The oldest dead letters, at most `limit` (and never more than the dead queue holds). They stay. */
export async function listDeadLetters(target: Target, topology: Topology, limit: number): Promise<readonly DeadLetter[]> {
  const letters = await onOwnChannel(target, async (channel) => {
    const taken = await takeLetters(channel, topology, Math.min(limit, deadLetterLimit), () => false)
    const last = taken.at(-1)
    if (last) channel.nack(last, true, true)
    return taken.map((message) => ({ letter: decodeDeadLetter(message, topology), order: Number(message.properties.headers?.[deadHeaders.order] ?? 0) }))
  })
  // Letters that were given back may come out in another order than they went in.
  return letters.sort((a, b) => a.letter.diedAt - b.letter.diedAt || a.order - b.order).map(({ letter }) => letter)
}

const searchPauseMs = 100
const searches = 3

/**
 * What `found` gives for the first letter with this id. It decides whether the letter stays: `others` are those taken before it, to be given back. Undefined when no letter has the id,
 * also not after a moment, because another process may hold it just now.
 */
async function findLetter<T>(target: Target, topology: Topology, id: string, found: (channel: Channel, message: GetMessage, others: GetMessage | undefined) => Promise<T>): Promise<T | undefined> {
  for (let search = 1; ; search++) {
    const result = await onOwnChannel(target, async (channel) => {
      const taken = await takeLetters(channel, topology, deadLetterLimit, (message) => readMessageId(message) === id)
      const last = taken.at(-1)
      if (last !== undefined && readMessageId(last) === id) return { value: await found(channel, last, taken.at(-2)) }
      if (last) channel.nack(last, true, true)
      return undefined
    })
    if (result) return result.value
    if (search === searches) return undefined
    await new Promise((resolve) => setTimeout(resolve, searchPauseMs))
  }
}

/** The first letter with this id; it stays. Undefined when no letter has it. */
export function readDeadLetter(target: Target, topology: Topology, id: string): Promise<DeadLetter | undefined> {
  return findLetter(target, topology, id, async (channel, message) => {
    channel.nack(message, true, true)
    return decodeDeadLetter(message, topology)
  })
}

/** Moves the letter back to its queue, as a new message with the same id. False when no letter has this id. */
export async function replayDeadLetter(target: Target, topology: Topology, publisher: Publisher, id: string): Promise<boolean> {
  const isFound = await findLetter(target, topology, id, async (channel, message, others) => {
    const letter = decodeDeadLetter(message, topology)
    await publisher.publish([{ key: letter.queue, id, body: letter.body }])
    channel.ack(message)
    if (others) channel.nack(others, true, true)
    return true
  })
  return isFound ?? false
}
