/**
 * What exists on the broker: one exchange, one queue for each name, one queue of dead letters; and the limits that both adapters keep to.
 * On RabbitMQ all queues are quorum queues (replicated, flushed before a confirm) but for mailboxes, which live with a connection. Checked with RabbitMQ 3.10, the oldest version that has
 * at-least-once dead lettering; the differences of later versions that matter are named where they do.
 */
import type { QueueName } from './broker.js'

/** Where a broker tells what an operator should know; the shape of pino's methods. */
export interface BrokerLog {
  debug(fields: object, message: string): void
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
  error(fields: object, message: string): void
}

/** A log that keeps nothing. */
export const silentLog: BrokerLog = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined }

/** Every queue that Lichen uses. */
export const queueNames: readonly QueueName[] = ['tasks']

/**
 * How often a message is given again before it dies. With the pauses below that takes half a minute; the sweeper finds the task anyway.
 * Fewer lets bells die in a short outage of the store, more keeps a poisonous message going round.
 */
export const deliveryLimit = 5

/** Dead letters kept: beyond it the oldest are forgotten. They are for people to look at; 10,000 are more than anybody reads. */
export const deadLetterLimit = 10_000

/**
 * Pause before a message that asked for `retry` goes back to its queue, by how often it was given before: 1, 2, 4, 8, 16 s. It stays with its
 * receiver meanwhile, far below RabbitMQ's delivery timeout of 30 minutes. Without a pause five retries are over in a millisecond.
 */
export const retryPauseMs = (timesGivenBefore: number, firstPauseMs = 1_000): number => Math.min(30_000, firstPauseMs * 2 ** Math.min(timesGivenBefore, 10))

/** Why a message died that was given again too often. */
export const reasonOfDeliveryLimit = (limit: number): string => `given again more than ${limit} times without success`

/** Names and arguments on a RabbitMQ virtual host. */
export interface Topology {
  readonly exchange: string
  /** Routing key of the dead letters on the exchange; those of the queues are their names. */
  readonly deadKey: string
  readonly deadQueue: string
  readonly queues: readonly { readonly key: QueueName; readonly queue: string; readonly arguments: Readonly<Record<string, unknown>> }[]
  readonly deadArguments: Readonly<Record<string, unknown>>
  /** Where messages between engines are published; `mailboxKey` has the keys. */
  readonly mailboxExchange: string
  readonly mailboxArguments: Readonly<Record<string, unknown>>
}

// Members of a quorum queue: three bear the loss of any one, and more only add to what each message costs. A broker alone makes one.
const quorumMembers = 3

/**
 * What waits for an engine that does not read: beyond it senders are told. 128 MiB hold the largest body eight times over, and 100,000 small ones take 100 MB of
 * the broker's memory; an engine that is stopped longer than that lasts loses its connection by the heartbeat anyway.
 */
const mailboxLimitBytes = 128 << 20
const mailboxLimit = 100_000

/** Routing key of one mailbox, of all, and of who asked whether a name is taken. */
export const mailboxKey = { of: (name: string): string => `to.${name}`, everyone: 'everyone', answerTo: (instance: string): string => `answer.${instance}` } as const

/** The topology under `prefix` (`lichen` gives exchange `lichen`, queues `lichen.tasks` and `lichen.dead`). */
export function buildTopology(prefix: string, limit: number = deliveryLimit): Topology {
  return {
    exchange: prefix,
    mailboxExchange: `${prefix}.mailboxes`,
    mailboxArguments: { 'x-queue-type': 'classic', 'x-max-length': mailboxLimit, 'x-max-length-bytes': mailboxLimitBytes, 'x-overflow': 'reject-publish' },
    deadKey: 'dead',
    deadQueue: `${prefix}.dead`,
    // Listing gives every letter out and back, which counts as a delivery: a limit that nobody reaches keeps them from vanishing (RabbitMQ 4 drops after 20 by default).
    deadArguments: { 'x-queue-type': 'quorum', 'x-quorum-initial-group-size': quorumMembers, 'x-max-length': deadLetterLimit, 'x-overflow': 'drop-head', 'x-delivery-limit': 1_000_000_000 },
    queues: queueNames.map((key) => ({
      key,
      queue: `${prefix}.${key}`,
      arguments: {
        'x-queue-type': 'quorum',
        'x-quorum-initial-group-size': quorumMembers,
        'x-delivery-limit': limit,
        'x-dead-letter-exchange': prefix,
        'x-dead-letter-routing-key': 'dead',
        // A letter leaves its queue only when the dead queue has confirmed it; asks for reject-publish (https://www.rabbitmq.com/docs/quorum-queues#activating-at-least-once-dead-lettering).
        'x-dead-letter-strategy': 'at-least-once',
        'x-overflow': 'reject-publish',
      },
    })),
  }
}
