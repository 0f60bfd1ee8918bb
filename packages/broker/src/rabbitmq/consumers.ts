/**
 * Consuming across reconnections. Owns the registrations and, for each, the channel it has on the present connection.
 * Invariants: (1) a verdict is carried out only on the channel that delivered the message; when that one is gone, the broker gives the message
 * again; (2) at most `prefetch` messages of a registration are with its receiver; (3) a `dead` message is acked only after its copy among the
 * dead letters is confirmed; (4) after a registration's stop function resolved, its receiver is not called again and no call is running.
 */
import { createHash } from 'node:crypto'
import type { Channel, ChannelModel, ConsumeMessage, GetMessage } from 'amqplib'
import type { Message, QueueName, Verdict } from '../broker.js'
import { retryPauseMs, type BrokerLog, type Topology } from '../topology.js'
import type { Link } from './link.js'

interface Registration {
  readonly queue: QueueName
  readonly prefetch: number
  readonly receive: (message: Message) => Promise<Verdict>
  readonly running: Set<Promise<void>>
  /** Ends the pauses of messages that wait to go back. */
  readonly pauses: Set<() => void>
  channel: Channel | undefined
  consumerTag: string | undefined
  isStopped: boolean
}

export interface Consumers {
  /** Gives every registration a channel on this connection. */
  setUp(connection: ChannelModel, link: Link): Promise<void>
  lost(): void
  /** Registers a receiver; gives back its stop function. */
  add(queue: QueueName, prefetch: number, receive: (message: Message) => Promise<Verdict>): Promise<() => Promise<void>>
  stop(): Promise<void>
}

export interface ConsumersOptions {
  readonly topology: Topology
  readonly log: BrokerLog
  readonly firstRetryPauseMs: number
  /** Resolves when the copy is confirmed. */
  bury(letter: { readonly id: string; readonly queue: QueueName; readonly body: string; readonly reason: string }): Promise<void>
}

/** The id that the message carries; for one that was published by a stranger, a digest of its body, the same each time. */
export function readMessageId(message: ConsumeMessage | GetMessage): string {
  const id: unknown = message.properties.messageId
  return typeof id === 'string' && id !== '' ? id : `unnamed-${createHash('sha256').update(message.content).digest('hex').slice(0, 16)}`
}

const timesGivenBefore = (message: ConsumeMessage): number => Number(message.properties.headers?.['x-delivery-count'] ?? 0) || 0

/** Consumers without a connection yet. */
export function openConsumers(options: ConsumersOptions): Consumers {
  const { topology, log } = options
  const registrations = new Set<Registration>()
  let live: { readonly connection: ChannelModel; readonly link: Link } | undefined

  function pause(registration: Registration, ms: number): Promise<void> {
    if (registration.isStopped) return Promise.resolve()
    return new Promise((resolve) => {
      const end = (): void => {
        clearTimeout(timer)
        registration.pauses.delete(end)
        resolve()
      }
      const timer = setTimeout(end, ms)
      registration.pauses.add(end)
    })
  }

  async function askReceiver(registration: Registration, message: ConsumeMessage): Promise<Verdict> {
    const id = readMessageId(message)
    const body = message.content.toString('utf8')
    const isRedelivered = message.fields.redelivered || timesGivenBefore(message) > 0
    try {
      const verdict = await registration.receive({ id, body, isRedelivered })
      if (verdict.verdict === 'dead') await options.bury({ id, queue: registration.queue, body, reason: verdict.reason })
      return verdict
    } catch (error) {
      log.error({ err: error, messageId: id }, 'a message could not be dealt with; it is given again')
      return { verdict: 'retry' }
    }
  }

  async function deliver(registration: Registration, channel: Channel, message: ConsumeMessage): Promise<void> {
    const { verdict } = await askReceiver(registration, message)
    if (verdict === 'retry') await pause(registration, retryPauseMs(timesGivenBefore(message), options.firstRetryPauseMs))
    if (registration.channel !== channel) return
    try {
      // Reject, not nack: from RabbitMQ 4.3 on only a reject counts towards the delivery limit (https://www.rabbitmq.com/docs/4.3/nack).
      if (verdict === 'retry') channel.reject(message, true)
      else channel.ack(message)
    } catch (error) {
      log.debug({ err: error, messageId: readMessageId(message) }, 'the channel closed before the verdict; the broker gives the message again')
    }
  }

  async function attach(registration: Registration, connection: ChannelModel, link: Link): Promise<void> {
    const channel = await connection.createChannel()
    channel.on('error', (error) => log.warn({ err: error, queue: registration.queue }, 'RabbitMQ closed a consuming channel'))
    channel.on('close', () => {
      const isOurs = registration.channel !== channel
      if (registration.channel === channel) registration.channel = undefined
      if (!isOurs) link.restart('a consuming channel was closed')
    })
    await channel.prefetch(Math.max(1, registration.prefetch))
    registration.channel = channel
    const queue = topology.queues.find((one) => one.key === registration.queue)?.queue ?? registration.queue
    const { consumerTag } = await channel.consume(queue, (message) => {
      if (message === null) return link.restart('the broker cancelled a consumer')
      const running = deliver(registration, channel, message).finally(() => registration.running.delete(running))
      registration.running.add(running)
    })
    registration.consumerTag = consumerTag
  }

  async function detach(registration: Registration): Promise<void> {
    registration.isStopped = true
    registrations.delete(registration)
    const { channel, consumerTag } = registration
    if (channel && consumerTag !== undefined) await channel.cancel(consumerTag).catch(() => undefined)
    for (const end of [...registration.pauses]) end()
    while (registration.running.size > 0) await Promise.all(registration.running)
    registration.channel = undefined
    await channel?.close().catch(() => undefined)
  }

  return {
    async setUp(connection, link) {
      live = { connection, link }
      for (const registration of registrations) await attach(registration, connection, link)
    },
    lost() {
      live = undefined
      for (const registration of registrations) registration.channel = undefined
    },
    async add(queue, prefetch, receive) {
      const registration: Registration = { queue, prefetch, receive, running: new Set(), pauses: new Set(), channel: undefined, consumerTag: undefined, isStopped: false }
      registrations.add(registration)
      const on = live
      // Without a connection, or when it breaks right now, the next one takes the registration along.
      if (on) await attach(registration, on.connection, on.link).catch(() => on.link.restart('a consumer could not be made'))
      return () => detach(registration)
    },
    async stop() {
      await Promise.all([...registrations].map(detach))
    },
  }
}
