/**
 * The broker on RabbitMQ (3.10 or later). Owns two connections, one that publishes and one that consumes, each with its own way
 * back after a loss, and a third one while somebody looks at dead letters.
 * RabbitMQ being away at the start is no error: publishing fails fast until it is there, consumers begin when it is.
 */
import { LichenError } from '@lichen/core'
import type { Broker } from '../broker.js'
import { buildTopology, deliveryLimit as defaultDeliveryLimit, silentLog, type BrokerLog } from '../topology.js'
import { openConsumers } from './consumers.js'
import { deadHeaders, listDeadLetters, replayDeadLetter } from './dead-letters.js'
import { declareTopology } from './declare-topology.js'
import { startLink } from './link.js'
import { startPublisher } from './publisher.js'

export interface RabbitBrokerOptions {
  /** `amqp://` or `amqps://`; several brokers of one cluster with commas between them. */
  readonly url: string
  readonly log?: BrokerLog
  /** First part of the names of exchange and queues. Default: `lichen`. */
  readonly prefix?: string
  readonly deliveryLimit?: number
  readonly tls?: { readonly ca?: string; readonly cert?: string; readonly key?: string }
  /** How long one `publish` may wait for the broker's confirms. Default: 10,000. */
  readonly confirmTimeoutMs?: number
  /** Pause before the first redelivery of a message that asked for `retry`; doubles each time. Default: 1,000. */
  readonly firstRetryPauseMs?: number
  readonly now?: () => number
}

// Headers of one message share a table of 64 KiB.
const longestReason = 2_000

function parseUrls(url: string): readonly string[] {
  const urls = url.split(',').map((one) => one.trim()).filter((one) => one !== '')
  for (const one of urls) {
    // The URL itself stays out of the message: it holds a password.
    if (!URL.canParse(one) || !/^amqps?:$/.test(new URL(one).protocol)) throw new LichenError('BROKER_BAD_URL', 'the broker URL must look like amqp://user:password@host:5672/vhost (amqps:// for TLS)')
  }
  if (urls.length === 0) throw new LichenError('BROKER_BAD_URL', 'the broker URL is empty')
  return urls
}

/**
 * A broker over RabbitMQ. Resolves after the first attempt to connect, whether it succeeded or not.
 * @throws BROKER_BAD_URL when the URL is not one of AMQP
 */
export async function openRabbitBroker(options: RabbitBrokerOptions): Promise<Broker> {
  const { log = silentLog, prefix = 'lichen', deliveryLimit = defaultDeliveryLimit, confirmTimeoutMs = 10_000, firstRetryPauseMs = 1_000, now = Date.now } = options
  const topology = buildTopology(prefix, deliveryLimit)
  const target = { urls: parseUrls(options.url), ...(options.tls ? { tls: options.tls } : {}) }
  const publisher = startPublisher({ topology, target, name: `${prefix} publisher`, confirmTimeoutMs, log, repaired: () => link.restart('the queues were made again') })
  const consumers = openConsumers({
    topology, log, firstRetryPauseMs,
    bury: ({ id, queue, body, reason }) =>
      publisher.publish([{ key: topology.deadKey, id, body, headers: { [deadHeaders.reason]: reason.slice(0, longestReason), [deadHeaders.queue]: queue, [deadHeaders.diedAt]: now() } }]),
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
    listDeadLetters: (limit) => look(() => listDeadLetters(target, topology, limit)),
    replayDeadLetter: (id) => look(() => replayDeadLetter(target, topology, publisher, id)),
    isConnected: () => publisher.isConnected(),
    async close() {
      await consumers.stop()
      await Promise.all([link.stop(), publisher.stop()])
    },
  }
}
