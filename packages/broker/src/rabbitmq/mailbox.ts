/**
 * One mailbox on RabbitMQ. Owns a connection of its own (a large message between engines holds no bell up), and on it an exclusive queue that the broker
 * deletes with the connection, bound by the mailbox's name and by the key for everyone. Nothing of it is durable: at most once is the promise.
 * Invariants: (1) the queue's name is new for each connection, so that the mailbox is back as soon as there is a connection, also while the broker holds the
 * lost one for alive; (2) a message that is not confirmed is reported as unavailable and never sent again; (3) the sender's own broadcasts are dropped here;
 * (4) nothing is received before `openMailbox` resolved or after `close` was called; (5) a mailbox that lost its binding while its connection lives (somebody
 * deleted the exchange, another engine made it anew) finds out within seconds, by a message to itself, and comes back.
 */
import { randomUUID } from 'node:crypto'
import type { LichenError } from '@lichen/core'
import type { ChannelModel, ConsumeMessage } from 'amqplib'
import type { Mailbox, PeerMessage } from '../broker.js'
import { checkMailboxBody, checkMailboxName, isMailboxName } from '../mailbox-limits.js'
import { mailboxKey, type BrokerLog, type Topology } from '../topology.js'
import { openConfirms, unavailable, type Confirms } from './confirms.js'
import { startLink, type Link } from './link.js'
import { openClaims, type Claims } from './mailbox-claim.js'
import type { Target } from './target.js'

export interface RabbitMailboxOptions {
  readonly topology: Topology
  readonly target: Target
  readonly log: BrokerLog
  /** Bounds one `send`. */
  readonly confirmTimeoutMs: number
  readonly name: string
  receive(message: PeerMessage): void
  reopened(): void
}

interface Live {
  readonly confirms: Confirms
  readonly claims: Claims
  readonly timer: NodeJS.Timeout
}

/** What a message is, in its property `type`. */
const kinds = { message: 'message', broadcast: 'broadcast', check: 'check' } as const

// One small message each; what an engine that nobody can reach costs the others, in seconds.
const checkIntervalMs = 10_000

const asBuffer = (body: Uint8Array): Buffer => Buffer.from(body.buffer, body.byteOffset, body.byteLength)

/**
 * An open mailbox on a connection of its own.
 * @throws BROKER_UNAVAILABLE when no host could be used, BROKER_MAILBOX_TAKEN when another process answers under this name
 */
export async function openRabbitMailbox(options: RabbitMailboxOptions): Promise<Mailbox> {
  const { topology, log, name } = options
  checkMailboxName(name)
  const instance = randomUUID()
  let live: Live | undefined
  let state: 'opening' | 'open' | 'closed' = 'opening'
  let failure: unknown
  let settleOpening: (error?: LichenError) => void = () => undefined
  const opening = new Promise<LichenError | undefined>((resolve) => {
    settleOpening = resolve
  })

  function deliver(message: ConsumeMessage | null, claims: Claims, link: Link): void {
    if (message === null) return link.restart('the broker cancelled the mailbox')
    const { type, replyTo } = message.properties as { readonly type?: unknown; readonly replyTo?: unknown }
    if (claims.take(message) || state !== 'open' || typeof replyTo !== 'string') return
    if (type !== kinds.message && (type !== kinds.broadcast || replyTo === name)) return
    try {
      options.receive({ from: replyTo, body: message.content })
    } catch (error) {
      log.error({ err: error, from: replyTo, mailbox: name }, 'a message of a mailbox could not be dealt with')
    }
  }

  async function setUp(connection: ChannelModel, link: Link): Promise<void> {
    // An addressee whose broker froze leaves messages unconfirmed too, and a new connection of ours would not change that.
    const confirms = await openConfirms(connection, link, { name: `mailbox ${name}`, timeoutMs: options.confirmTimeoutMs, log, restartsOnTrouble: false })
    const { channel } = confirms
    await channel.assertExchange(topology.mailboxExchange, 'direct', { durable: true })
    const { queue } = await channel.assertQueue(`${topology.mailboxExchange}.${name}.${randomUUID()}`, { exclusive: true, autoDelete: true, durable: false, arguments: topology.mailboxArguments })
    const claims = openClaims({ connection, confirms, topology, name, instance, queue, log, answers: () => state === 'open' })
    await channel.consume(queue, (message) => deliver(message, claims, link), { noAck: true })
    // Only a fresh start asks who has the name. One who had it comes back without asking: rather two of one name for a moment than none.
    const refusal = state === 'opening' ? await claims.claim() : undefined
    if (refusal) return settleOpening(refusal)
    await channel.bindQueue(queue, topology.mailboxExchange, mailboxKey.of(name))
    await channel.bindQueue(queue, topology.mailboxExchange, mailboxKey.everyone)
    const timer = setInterval(() => void checkBinding(link), checkIntervalMs)
    live = { confirms, claims, timer }
    claims.keep()
    if (state === 'open') tellReopened()
    else if (state === 'opening') {
      state = 'open'
      settleOpening()
    }
  }

  function tellReopened(): void {
    try {
      options.reopened()
    } catch (error) {
      log.error({ err: error, mailbox: name }, 'nobody could deal with a mailbox that was opened again')
    }
  }

  const link = startLink({
    target: options.target,
    name: `mailbox ${name}`,
    log,
    setUp: (connection, own) =>
      setUp(connection, own).catch((error: unknown) => {
        failure = error
        throw error
      }),
    lost() {
      live?.claims.stop()
      clearInterval(live?.timer)
      live = undefined
    },
  })

  async function checkBinding(own: Link): Promise<void> {
    const returnedBecause = await publish(mailboxKey.of(name), kinds.check, new Uint8Array(0)).catch(() => undefined)
    if (returnedBecause !== undefined) own.restart('the mailbox has lost its binding')
  }

  async function publish(key: string, type: string, body: Uint8Array): Promise<string | undefined> {
    checkMailboxBody(body)
    const on = live
    if (on === undefined || state === 'closed') throw unavailable(state === 'closed' ? 'the mailbox is closed' : 'there is no connection to RabbitMQ')
    const blockedBy = on.confirms.blockedBy()
    if (blockedBy !== undefined) throw unavailable(blockedBy)
    return on.confirms.withDeadline(on.confirms.publish(topology.mailboxExchange, key, asBuffer(body), { persistent: false, mandatory: true, type, replyTo: name, appId: 'lichen' }), 1)
  }

  const refusal = await Promise.race([opening, link.firstAttempt.then(() => (state === 'opening' ? unavailable(`opening the mailbox ${name}: RabbitMQ cannot be used`, failure) : undefined))])
  if (refusal) {
    state = 'closed'
    await link.stop()
    throw refusal
  }
  return {
    async send(to, body) {
      // A longer name is no routing key, so nobody can have it.
      return isMailboxName(to) && (await publish(mailboxKey.of(to), kinds.message, body)) === undefined
    },
    async broadcast(body) {
      await publish(mailboxKey.everyone, kinds.broadcast, body)
    },
    async close() {
      state = 'closed'
      await link.stop()
    },
  }
}
