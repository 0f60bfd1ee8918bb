/**
 * Who has a mailbox's name. The claim is an empty exclusive queue named after the mailbox: the broker refuses it to every other connection and deletes it with
 * its own. A refusal alone proves nothing, because the broker may hold a dead connection for alive (two heartbeats; after the loss of a node, its net tick
 * time), so whoever is refused asks the name itself: only a living process answers.
 */
import type { ChannelModel, ConsumeMessage } from 'amqplib'
import { LichenError } from '@lichen/core'
import { mailboxKey, type BrokerLog, type Topology } from '../topology.js'
import type { Confirms } from './confirms.js'
import { within } from './link.js'

export interface ClaimsOptions {
  readonly connection: ChannelModel
  readonly confirms: Confirms
  readonly topology: Topology
  /** Of the mailbox. */
  readonly name: string
  /** Of this process's mailbox, over all its connections. */
  readonly instance: string
  /** Where the answer goes. */
  readonly queue: string
  readonly log: BrokerLog
  /** Whether this mailbox answers for its name. */
  answers(): boolean
}

export interface Claims {
  /** Undefined when the name is free or whoever has it does not answer any more; BROKER_MAILBOX_TAKEN when it answers. Takes up to three seconds. */
  claim(): Promise<LichenError | undefined>
  /** Goes on claiming in the background what is not claimed yet. */
  keep(): void
  /** True when the message was a question or an answer about the name. */
  take(message: ConsumeMessage): boolean
  stop(): void
}

/** What a message is, in its property `type`. */
const kinds = { question: 'who', answer: 'here' } as const
// The end of a process closes its sockets, which the broker sees within milliseconds.
const patienceMs = 3_000
const pauseMs = 250
// A living process answers in milliseconds; one that is busy for longer than this half a second six times over counts as gone.
const answerTimeoutMs = 500
const claimTimeoutMs = 2_000
const keepIntervalMs = 5_000

const isLocked = (error: unknown): boolean => (error as { code?: unknown }).code === 405

/** Claims for one connection of one mailbox. */
export function openClaims({ connection, confirms, topology, name, instance, queue, log, answers }: ClaimsOptions): Claims {
  let isClaimed = false
  let isStopped = false
  let answered: () => void = () => undefined
  let timer: NodeJS.Timeout | undefined

  async function declare(): Promise<void> {
    // An own channel, because a refused declaration closes it.
    const channel = await connection.createChannel()
    channel.on('error', () => undefined)
    await channel.assertQueue(`${topology.mailboxExchange}.${name}`, { exclusive: true, durable: false, arguments: { 'x-queue-type': 'classic' } })
    isClaimed = true
    await channel.close()
  }

  /** True when the claim is ours now. A broker that gives no answer, because the claim was on a node that is away, refuses too. */
  async function tryToClaim(): Promise<boolean> {
    try {
      await within(claimTimeoutMs, 'claiming the mailbox', declare())
    } catch (error) {
      if (!isLocked(error)) log.debug({ err: error, mailbox: name }, 'the mailbox could not be claimed')
    }
    return isClaimed
  }

  /** True when a living process answers for the name. */
  async function ask(): Promise<boolean> {
    const replyTo = mailboxKey.answerTo(instance)
    await confirms.channel.bindQueue(queue, topology.mailboxExchange, replyTo)
    const answer = new Promise<void>((resolve) => (answered = resolve))
    const question = confirms.publish(topology.mailboxExchange, mailboxKey.of(name), Buffer.alloc(0), { persistent: false, mandatory: true, type: kinds.question, replyTo, messageId: instance })
    const nobody = question.then((returned) => (returned === undefined ? new Promise<never>(() => undefined) : Promise.reject(new Error(returned))))
    return within(answerTimeoutMs, 'asking for the mailbox', Promise.race([answer, nobody])).then(() => true, () => false)
  }

  const taken = (): LichenError => new LichenError('BROKER_MAILBOX_TAKEN', `another process has the mailbox "${name}" open; each engine needs a name of its own`)

  async function claimAgain(): Promise<void> {
    if (await tryToClaim()) return
    if (!isStopped && (await ask().catch(() => false))) log.error({ mailbox: name }, 'another process has a mailbox of this name too: two engines of one name run')
    if (!isStopped) timer = setTimeout(() => void claimAgain(), keepIntervalMs)
  }

  return {
    async claim() {
      const until = performance.now() + patienceMs
      while (!(await tryToClaim())) {
        if (await ask()) return taken()
        if (performance.now() >= until) {
          log.warn({ mailbox: name }, 'the broker holds another connection of this mailbox for alive, but nobody answers there; going on')
          return undefined
        }
        await new Promise((resolve) => setTimeout(resolve, pauseMs))
      }
      return undefined
    },
    keep() {
      if (!isClaimed) void claimAgain()
    },
    take({ properties }) {
      const { type, replyTo, messageId } = properties as { readonly type?: unknown; readonly replyTo?: unknown; readonly messageId?: unknown }
      if (type === kinds.answer) answered()
      else if (type === kinds.question && typeof replyTo === 'string' && messageId !== instance && answers()) confirms.publish(topology.mailboxExchange, replyTo, Buffer.alloc(0), { persistent: false, type: kinds.answer }).catch(() => undefined)
      return type === kinds.answer || type === kinds.question
    },
    stop() {
      isStopped = true
      clearTimeout(timer)
    },
  }
}
