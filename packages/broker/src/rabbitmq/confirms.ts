/**
 * A channel whose broker says for each message that it has it. Owns one channel, what came back as unroutable, and the calls that wait.
 * Invariants: (1) a message counts as published only by the broker's confirm; (2) every call settles: by confirm, by loss of the channel, when the broker
 * stops reading, or by the deadline; (3) where the queue has no reason of its own, a message that is refused, and a deadline that passes without any confirm
 * meanwhile, give the connection up: RabbitMQ 3.10 refuses everything on a channel that met a quorum queue between two leaders, until the old leader's node is
 * back, while a fresh channel works.
 */
import { LichenError } from '@lichen/core'
import type { ChannelModel, ConfirmChannel, Options } from 'amqplib'
import type { BrokerLog } from '../topology.js'
import type { Link } from './link.js'

export interface ConfirmsOptions {
  /** For the log: who publishes. */
  readonly name: string
  /** Bounds one call. */
  readonly timeoutMs: number
  readonly log: BrokerLog
  /** False leaves a connection alone on which messages are refused or nothing is confirmed, because the trouble may be with the queue of the addressee. */
  readonly restartsOnTrouble: boolean
}

export interface Confirms {
  readonly channel: ConfirmChannel
  /** Why RabbitMQ accepts no messages on this connection now. */
  blockedBy(): string | undefined
  /**
   * Resolves when the message is confirmed: undefined when it was routed, otherwise why it came back (with `mandatory` only).
   * @throws BROKER_UNAVAILABLE when RabbitMQ refused it or the channel is lost
   */
  publish(exchange: string, key: string, body: Buffer, properties: Options.Publish): Promise<string | undefined>
  /** Settles as `work` does, or earlier: with the deadline, or when the broker stops reading. @throws BROKER_UNAVAILABLE */
  withDeadline<T>(work: Promise<T>, count: number): Promise<T>
}

/** BROKER_UNAVAILABLE with these words. */
export const unavailable = (message: string, cause?: unknown): LichenError => new LichenError('BROKER_UNAVAILABLE', message, { retryAfterS: 1, ...(cause === undefined ? {} : { cause }) })

const blockedText = (reason: string): string => `RabbitMQ accepts no messages now: ${reason}`

/** A confirming channel on this connection. Its end restarts the link. */
export async function openConfirms(connection: ChannelModel, link: Link, { name, timeoutMs, log, restartsOnTrouble }: ConfirmsOptions): Promise<Confirms> {
  const channel = await connection.createConfirmChannel()
  /** Ids of messages that came back; the confirm of each follows its return. */
  const returned = new Map<string, string>()
  const giveUps = new Set<(reason: string) => void>()
  let blockedBy: string | undefined
  let lastNumber = 0
  let confirmedAt = performance.now()

  connection.on('blocked', (reason) => {
    blockedBy = reason
    for (const giveUp of [...giveUps]) giveUp(blockedText(reason))
    log.error({ reason }, 'RabbitMQ accepts no messages: it is short of memory or disk')
  })
  connection.on('unblocked', () => {
    blockedBy = undefined
    log.info({}, 'RabbitMQ accepts messages again')
  })
  channel.on('error', (error) => log.warn({ err: error, channel: name }, 'RabbitMQ closed a publishing channel'))
  channel.on('close', () => link.restart('the publishing channel was closed'))
  channel.on('return', (message) => returned.set(String(message.properties.correlationId), (message.fields as { replyText?: string }).replyText ?? 'unroutable'))

  function passed(): string {
    if (restartsOnTrouble && performance.now() - confirmedAt >= timeoutMs) link.restart('no message was confirmed in time')
    return `RabbitMQ did not confirm within ${timeoutMs} ms`
  }

  return {
    channel,
    blockedBy: () => (blockedBy === undefined ? undefined : blockedText(blockedBy)),
    publish(exchange, key, body, properties) {
      const correlationId = String((lastNumber += 1))
      return new Promise((resolve, reject) => {
        try {
          channel.publish(exchange, key, body, { ...properties, correlationId }, (error: unknown) => {
            const reason = returned.get(correlationId)
            if (reason !== undefined) returned.delete(correlationId)
            if (error) {
              if (restartsOnTrouble) link.restart('RabbitMQ refused a message')
              return reject(unavailable('RabbitMQ did not take the message', error))
            }
            confirmedAt = performance.now()
            resolve(reason)
          })
        } catch (error) {
          reject(unavailable('the connection to RabbitMQ is closing', error))
        }
      })
    },
    withDeadline(work, count) {
      return new Promise((resolve, reject) => {
        const giveUp = (reason: string): void => reject(unavailable(reason))
        const timer = setTimeout(() => giveUp(`${passed()} (${count} sent)`), timeoutMs)
        const end = (): void => {
          clearTimeout(timer)
          giveUps.delete(giveUp)
        }
        giveUps.add(giveUp)
        work.then(resolve, reject).finally(end)
      })
    },
  }
}
