/**
 * Publishing with confirms. Owns a connection of its own, because a broker short of memory or disk stops reading from whoever publishes, and
 * consumers must still be able to ack then.
 * Invariants: (1) a promise resolves only when the broker confirmed every message and gave none back as unroutable; (2) it settles in any case: by
 * confirm, by loss of the channel, or by the deadline; (3) nothing is kept for later while there is no connection: the caller has the outbox.
 */
import { LichenError } from '@lichen/core'
import type { ChannelModel, ConfirmChannel, Options } from 'amqplib'
import type { BrokerLog, Topology } from '../topology.js'
import { declareTopology } from './declare-topology.js'
import { startLink, type Link, type Target } from './link.js'

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
  readonly channel: ConfirmChannel
  /** Correlation ids of messages that came back; the confirm of each follows its return. */
  readonly returned: Map<string, string>
  blockedBy: string | undefined
  /** Ends the calls that wait for confirms, which do not come from a broker that stopped reading. */
  readonly giveUp: Set<(reason: string) => void>
  /** A declaration that runs after a message could not be routed. */
  repair: Promise<unknown> | undefined
}

const unavailable = (message: string, cause?: unknown): LichenError => new LichenError('BROKER_UNAVAILABLE', message, { retryAfterS: 1, ...(cause === undefined ? {} : { cause }) })

function buildOptions(message: Outgoing, correlationId: string): Options.Publish {
  return {
    persistent: true, mandatory: true, messageId: message.id, correlationId, contentType: 'application/json', contentEncoding: 'utf-8', appId: 'lichen',
    ...(message.headers ? { headers: { ...message.headers } } : {}),
  }
}

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
  const { topology, confirmTimeoutMs, log } = options
  let live: Live | undefined
  let lastNumber = 0

  async function setUp(connection: ChannelModel, link: Link): Promise<void> {
    await declareTopology(connection, topology, log)
    const channel = await connection.createConfirmChannel()
    const fresh: Live = { connection, channel, returned: new Map(), blockedBy: undefined, giveUp: new Set(), repair: undefined }
    connection.on('blocked', (reason) => {
      fresh.blockedBy = reason
      for (const giveUp of [...fresh.giveUp]) giveUp(`RabbitMQ accepts no messages now: ${reason}`)
      log.error({ reason }, 'RabbitMQ accepts no messages: it is short of memory or disk')
    })
    connection.on('unblocked', () => {
      fresh.blockedBy = undefined
      log.info({}, 'RabbitMQ accepts messages again')
    })
    channel.on('error', (error) => log.warn({ err: error }, 'RabbitMQ closed the publishing channel'))
    channel.on('close', () => link.restart('the publishing channel was closed'))
    channel.on('return', (message) => fresh.returned.set(String(message.properties.correlationId), (message.fields as { replyText?: string }).replyText ?? 'unroutable'))
    live = fresh
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
  function publishOne(on: Live, message: Outgoing): Promise<void> {
    const correlationId = String((lastNumber += 1))
    return new Promise((resolve, reject) => {
      on.channel.publish(topology.exchange, message.key, Buffer.from(message.body), buildOptions(message, correlationId), (error: unknown) => {
        const returnedBecause = on.returned.get(correlationId)
        on.returned.delete(correlationId)
        if (error) reject(unavailable(`publishing ${message.id}: RabbitMQ did not take the message`, error))
        else if (returnedBecause === undefined) resolve()
        else {
          repair(on)
          reject(unavailable(`publishing ${message.id}: unroutable, no queue is bound for "${message.key}" (${returnedBecause})`))
        }
      })
    })
  }

  /** Settles as `work` does, or earlier: with the deadline, or when the broker stops reading. What is confirmed later rings twice, which is harmless. */
  function withDeadline(on: Live, work: Promise<unknown>, count: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const giveUp = (reason: string): void => reject(unavailable(reason))
      const timer = setTimeout(giveUp, confirmTimeoutMs, `RabbitMQ did not confirm ${count} messages within ${confirmTimeoutMs} ms`)
      on.giveUp.add(giveUp)
      work.then(() => resolve(), reject).finally(() => {
        clearTimeout(timer)
        on.giveUp.delete(giveUp)
      })
    })
  }

  const link = startLink({ target: options.target, name: options.name, log, setUp, lost: () => (live = undefined) })

  return {
    async publish(messages) {
      const on = live
      if (on === undefined) throw unavailable('there is no connection to RabbitMQ')
      if (on.blockedBy !== undefined) throw unavailable(`RabbitMQ accepts no messages now: ${on.blockedBy}`)
      const all = Promise.allSettled(messages.map((message) => publishOne(on, message))).then((outcomes) => {
        const failure = outcomes.find((outcome) => outcome.status === 'rejected')
        if (failure === undefined) return
        const reason: unknown = failure.reason
        throw reason instanceof LichenError ? reason : unavailable('the connection to RabbitMQ is closing', reason)
      })
      await withDeadline(on, all, messages.length)
    },
    isConnected: () => live !== undefined && live.blockedBy === undefined,
    firstAttempt: link.firstAttempt,
    stop: () => link.stop(),
  }
}
