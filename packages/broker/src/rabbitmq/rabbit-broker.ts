/**
 * The broker on RabbitMQ (3.10 or later), one node or a cluster. Owns two connections, one that publishes and one that consumes, one for each mailbox, each with
 * its own way back after a loss, and another one while somebody looks at dead letters.
 * RabbitMQ being away at the start is no error: publishing fails fast until it is there, consumers begin when it is.
 */
import type { Broker, Mailbox } from '../broker.js'
import { buildTopology, deliveryLimit as defaultDeliveryLimit, silentLog, type BrokerLog } from '../topology.js'
import { openConsumers } from './consumers.js'
import { unavailable } from './confirms.js'
import { deadHeaders, listDeadLetters, readDeadLetter, replayDeadLetter } from './dead-letters.js'
import { declareTopology } from './declare-topology.js'
import { startLink } from './link.js'
import { openRabbitMailbox } from './mailbox.js'
import { startPublisher } from './publisher.js'
import { parseTarget, type TlsMaterial } from './target.js'

export interface RabbitBrokerOptions {
  /** `amqp://` or `amqps://`; several brokers of one cluster with commas between them, tried in turn from a random one on. See target.ts. */
  readonly url: string
  readonly log?: BrokerLog
  /** First part of the names of exchange and queues. Default: `lichen`. */
  readonly prefix?: string
  readonly deliveryLimit?: number
  /** Certificates, besides those that the URL names. */
  readonly tls?: TlsMaterial
  /** How long one `publish` may wait for the broker's confirms. Default: 10,000. */
  readonly confirmTimeoutMs?: number
  /** Pause before the first redelivery of a message that asked for `retry`; doubles each time. Default: 1,000. */
  readonly firstRetryPauseMs?: number
  readonly now?: () => number
}

// Headers of one message share a table of 64 KiB.
const longestReason = 2_000

/**
 * A broker over RabbitMQ. Resolves after the first attempt to connect, whether it succeeded or not.
 * @throws BROKER_BAD_URL when the URL is not one of AMQP, or names a file that cannot be read
 */
export async function openRabbitBroker(options: RabbitBrokerOptions): Promise<Broker> {
  const { log = silentLog, prefix = 'lichen', deliveryLimit = defaultDeliveryLimit, confirmTimeoutMs = 10_000, firstRetryPauseMs = 1_000, now = Date.now } = options
  const topology = buildTopology(prefix, deliveryLimit)
  const target = parseTarget(options.url, options.tls)
  await Promise.all(target.hosts.map((host) => host.readTls()))
  const mailboxes = new Set<Mailbox>()
  let isClosed = false
  const publisher = startPublisher({ topology, target, name: `${prefix} publisher`, confirmTimeoutMs, log, repaired: () => link.restart('the queues were made again') })
  let buried = 0
  const consumers = openConsumers({
    topology, log, firstRetryPauseMs,
    bury: ({ id, queue, body, reason }) =>
      publisher.publish([{ key: topology.deadKey, id, body, headers: { [deadHeaders.reason]: reason.slice(0, longestReason), [deadHeaders.queue]: queue, [deadHeaders.diedAt]: now(), [deadHeaders.order]: (buried += 1) } }]),
  })
  const link = startLink({
    target, name: `${prefix} consumer`, log,
    async setUp(connection, own) {
      await declareTopology(connection, topology, log)
      await consumers.setUp(connection, own)
    },
    lost: () => consumers.lost(),
  })

  // One look at the dead letters after the other: two at once would hide letters from each other.
  let lastLook: Promise<unknown> = Promise.resolve()
  function look<T>(work: () => Promise<T>): Promise<T> {
    const result = lastLook.then(work)
    lastLook = result.catch(() => undefined)
    return result
  }

  await Promise.all([publisher.firstAttempt, link.firstAttempt])
  return {
    publish: (queue, messages) => publisher.publish(messages.map(({ id, body }) => ({ key: queue, id, body }))),
    consume: (queue, prefetch, receive) => consumers.add(queue, prefetch, receive),
    async openMailbox(name, receive, reopened = () => undefined) {
      if (isClosed) throw unavailable('the broker is closed')
      const mailbox = await openRabbitMailbox({ target, topology, log, name, receive, reopened, confirmTimeoutMs })
      mailboxes.add(mailbox)
      return {
        ...mailbox,
        async close() {
          mailboxes.delete(mailbox)
          await mailbox.close()
        },
      }
    },
    listDeadLetters: (limit) => look(() => listDeadLetters(target, topology, limit)),
    readDeadLetter: (id) => look(() => readDeadLetter(target, topology, id)),
    replayDeadLetter: (id) => look(() => replayDeadLetter(target, topology, publisher, id)),
    isConnected: () => publisher.isConnected(),
    async close() {
      isClosed = true
      await Promise.all([...mailboxes].map((mailbox) => mailbox.close()))
      await consumers.stop()
      await Promise.all([link.stop(), publisher.stop()])
    },
  }
}
