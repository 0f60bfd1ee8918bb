/**
 * The broker inside one process. Owns the queues, the consumers, the dead letters and the mailboxes, all in memory: a restart forgets them, which delays
 * nothing that matters, because the outbox and the sweeper of the store ring again.
 * Invariants: (1) a message is in exactly one place: waiting, with a receiver, or dead; (2) it is given to a receiver at most
 * 1 + `deliveryLimit` times and dies then; (3) a message that goes back stands in front; (4) memory is bounded: a full queue refuses, full dead
 * letters forget the oldest; (5) receivers start in a later turn of the event loop, never inside `publish`.
 */
import { LichenError } from '@lichen/core'
import type { Broker, DeadLetter, Message, QueueName, Verdict } from '../broker.js'
import { deadLetterLimit as defaultDeadLetterLimit, deliveryLimit as defaultDeliveryLimit, reasonOfDeliveryLimit, retryPauseMs, silentLog, type BrokerLog } from '../topology.js'
import { openMailboxes } from './mailboxes.js'
import { openMessageQueue, type Consumer, type MessageQueue, type QueuedMessage } from './message-queue.js'

export interface EmbeddedBrokerOptions {
  /** Redeliveries before a message dies. Default: the limit of the RabbitMQ topology. */
  readonly deliveryLimit?: number
  /** Messages that may wait on a queue. Default: 1,000,000. */
  readonly queueLimit?: number
  /** Dead letters kept. Default: 10,000. */
  readonly deadLetterLimit?: number
  /** Pause before the first redelivery of a message that asked for `retry`; doubles each time. Default: 1,000. */
  readonly firstRetryPauseMs?: number
  readonly now?: () => number
  readonly log?: BrokerLog
}

// 200 bytes each: 200 MB. A bell has no business waiting in such numbers; whoever rings gets told.
const defaultQueueLimit = 1_000_000

const closed = (): LichenError => new LichenError('BROKER_UNAVAILABLE', 'the broker is closed')

/** A broker for one process: no sockets, no disk. */
export function openEmbeddedBroker(options: EmbeddedBrokerOptions = {}): Broker {
  const { deliveryLimit = defaultDeliveryLimit, queueLimit = defaultQueueLimit, deadLetterLimit = defaultDeadLetterLimit, firstRetryPauseMs = 1_000, now = Date.now, log = silentLog } = options
  const queues = new Map<QueueName, MessageQueue>()
  const dead = new Map<string, DeadLetter>()
  const mailboxes = openMailboxes(log)
  let isClosed = false

  function queueOf(name: QueueName): MessageQueue {
    let queue = queues.get(name)
    if (queue === undefined) queues.set(name, (queue = openMessageQueue((consumer, message) => deliver(name, consumer, message))))
    return queue
  }

  function bury(name: QueueName, message: QueuedMessage, reason: string): void {
    dead.delete(message.id)
    dead.set(message.id, { id: message.id, queue: name, body: message.body, reason, diedAt: now() })
    log.warn({ messageId: message.id, queue: name, reason }, 'a message died')
    const [oldest] = dead.keys()
    if (dead.size <= deadLetterLimit || oldest === undefined) return
    dead.delete(oldest)
    log.warn({ messageId: oldest }, 'too many dead letters: the oldest one was forgotten')
  }

  async function askReceiver(consumer: Consumer, message: QueuedMessage): Promise<Verdict> {
    const given: Message = { id: message.id, body: message.body, isRedelivered: message.deliveries > 0 }
    message.deliveries += 1
    try {
      return await consumer.receive(given)
    } catch (error) {
      log.error({ err: error, messageId: message.id }, 'a message could not be dealt with; it is given again')
      return { verdict: 'retry' }
    }
  }

  /** Gives the message to the consumer; true when it goes back to its queue. */
  async function deliver(name: QueueName, consumer: Consumer, message: QueuedMessage): Promise<boolean> {
    const verdict = await askReceiver(consumer, message)
    if (verdict.verdict === 'ack') return false
    if (verdict.verdict === 'dead') bury(name, message, verdict.reason)
    else {
      await consumer.pause(retryPauseMs(message.deliveries - 1, firstRetryPauseMs))
      if (message.deliveries <= deliveryLimit) return true
      bury(name, message, reasonOfDeliveryLimit(deliveryLimit))
    }
    return false
  }

  return {
    async publish(name, messages) {
      if (isClosed) throw closed()
      const queue = queueOf(name)
      if (queue.length() + messages.length > queueLimit) throw new LichenError('BROKER_UNAVAILABLE', `the queue "${name}" is full: ${queue.length()} messages wait`, { retryAfterS: 1 })
      queue.push(messages.map(({ id, body }) => ({ id, body, deliveries: 0 })))
    },
    async consume(name, prefetch, receive) {
      if (isClosed) throw closed()
      return queueOf(name).addConsumer(Math.max(1, prefetch), receive)
    },
    async openMailbox(name, receive) {
      if (isClosed) throw closed()
      return mailboxes.open(name, receive)
    },
    listDeadLetters: async (limit) => [...dead.values()].slice(0, limit),
    readDeadLetter: async (id) => dead.get(id),
    async replayDeadLetter(id) {
      const letter = dead.get(id)
      if (letter === undefined) return false
      dead.delete(id)
      queueOf(letter.queue).push([{ id, body: letter.body, deliveries: 0 }])
      return true
    },
    isConnected: () => !isClosed,
    async close() {
      isClosed = true
      mailboxes.close()
      await Promise.all([...queues.values()].map((queue) => queue.close()))
    },
  }
}
