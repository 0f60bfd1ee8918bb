/**
 * Publishing with confirms. Owns a connection of its own, because a broker short of memory or disk stops reading from whoever publishes, and
 * consumers must still be able to ack then.
 * Invariants: (1) a promise resolves only when the broker confirmed every message and gave none back as unroutable; (2) it settles in any case: by
 * confirm, by loss of the channel, or by the deadline; (3) nothing is kept for later, neither while there is no connection nor when one is lost with messages
 * unconfirmed: the caller has the outbox and publishes again, on the next host.
 */
import { LichenError } from '@lichen/core'
import type { ChannelModel, Options } from 'amqplib'
import type { BrokerLog, Topology } from '../topology.js'
import { openConfirms, unavailable, type Confirms } from './confirms.js'
import { declareTopology } from './declare-topology.js'
import { startLink, type Link } from './link.js'
import type { Target } from './target.js'

/** One message for the exchange, with its routing key. */
export interface Outgoing {
  readonly key: string
  readonly id: string
  readonly body: string
  readonly headers?: Readonly<Record<string, string | number>>
}

export interface Publisher {
  /** @throws BROKER_UNAVAILABLE at once when there is no connection or it is blocked; later when one message was not routed, refused, or not confirmed in time */
  publish(messages: readonly Outgoing[]): Promise<void>
  isConnected(): boolean
  readonly firstAttempt: Promise<void>
  stop(): Promise<void>
}

interface Live {
  readonly connection: ChannelModel
  readonly confirms: Confirms
  /** A declaration that runs after a message could not be routed. */
  repair: Promise<unknown> | undefined
}

const buildProperties = (message: Outgoing): Options.Publish => ({
  persistent: true, mandatory: true, messageId: message.id, contentType: 'application/json', contentEncoding: 'utf-8', appId: 'lichen',
  ...(message.headers ? { headers: { ...message.headers } } : {}),
})

export interface PublisherOptions {
  readonly topology: Topology
  readonly target: Target
  readonly name: string
  /** Bounds one call of `publish`. */
  readonly confirmTimeoutMs: number
  readonly log: BrokerLog
  /** The topology was declared again after a message found no queue. */
  repaired(): void
}

// A queue that is deleted tells its consumers so, but not when it is made again in the same moment (seen with RabbitMQ 3.10): they would wait for ever.
const repairPauseMs = 500

/** A running publisher. */
export function startPublisher(options: PublisherOptions): Publisher {
  const { topology, log } = options
  let live: Live | undefined

  async function setUp(connection: ChannelModel, link: Link): Promise<void> {
    await declareTopology(connection, topology, log)
    const confirms = await openConfirms(connection, link, { name: options.name, timeoutMs: options.confirmTimeoutMs, log, restartsOnTrouble: true })
    live = { connection, confirms, repair: undefined }
  }

  /** A queue that somebody deleted is made again, so that the next try finds it. */
  function repair(on: Live): void {
    on.repair ??= new Promise((resolve) => setTimeout(resolve, repairPauseMs))
      .then(() => declareTopology(on.connection, topology, log))
      .then(() => options.repaired())
      .catch((error: unknown) => log.warn({ err: error }, 'cannot declare the topology again'))
      .finally(() => (on.repair = undefined))
  }

  /** Resolves when the message is confirmed and was routed. */
  async function publishOne(on: Live, message: Outgoing): Promise<void> {
    const returnedBecause = await on.confirms.publish(topology.exchange, message.key, Buffer.from(message.body), buildProperties(message)).catch((error: unknown) => {
      throw unavailable(`publishing ${message.id}: ${error instanceof Error ? error.message : String(error)}`, error)
    })
    if (returnedBecause === undefined) return
    repair(on)
    throw unavailable(`publishing ${message.id}: unroutable, no queue is bound for "${message.key}" (${returnedBecause})`)
  }

  async function publishAll(on: Live, messages: readonly Outgoing[]): Promise<void> {
    const outcomes = await Promise.allSettled(messages.map((message) => publishOne(on, message)))
    const failure = outcomes.find((outcome) => outcome.status === 'rejected')
    if (failure !== undefined) throw failure.reason instanceof LichenError ? failure.reason : unavailable('publishing failed', failure.reason)
  }

  const link = startLink({ target: options.target, name: options.name, log, setUp, lost: () => (live = undefined) })

  return {
    async publish(messages) {
      const on = live
      if (on === undefined) throw unavailable('there is no connection to RabbitMQ')
      const blockedBy = on.confirms.blockedBy()
      if (blockedBy !== undefined) throw unavailable(blockedBy)
      // What is confirmed after the deadline rings twice, which is harmless.
      await on.confirms.withDeadline(publishAll(on, messages), messages.length)
    },
    isConnected: () => live !== undefined && live.confirms.blockedBy() === undefined,
    firstAttempt: link.firstAttempt,
    stop: () => link.stop(),
  }
}
