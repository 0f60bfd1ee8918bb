/**
 * The broker of a simulated deployment, with the semantics that the port promises and no more: a message that was confirmed is given until it is acknowledged, perhaps
 * twice and in any order; a mailbox gives at most once. Owns queues, dead letters and mailboxes.
 */
import { LichenError } from '@lichen/core'
import type { Broker, DeadLetter, Mailbox, Message, PeerMessage, Verdict } from '@lichen/broker'
import { deliveryLimit, reasonOfDeliveryLimit, retryPauseMs } from '../../packages/broker/dist/topology.js'
import type { Life, Machine } from '../machine.js'
import type { Network, Path } from '../network.js'
import type { Random } from '../random.js'
import type { Scheduler } from '../scheduler.js'
import { Server } from '../server.js'

interface Queued {
  readonly id: string
  readonly body: string
  deliveries: number
}

interface Consumer {
  readonly life: Life
  readonly prefetch: number
  readonly receive: (message: Message) => Promise<Verdict>
  readonly unacked: Set<Queued>
  isOn: boolean
}

interface OpenMailbox {
  readonly name: string
  readonly life: Life
  readonly receive: (message: PeerMessage) => void
  readonly reopened: () => void
  readonly paths: Map<string, Path>
  isOpen: boolean
}

/** What may go wrong with messages, as chances. */
export interface BrokerWeather {
  duplicate: number
  reorder: number
  /** Of mailboxes, which promise at most once. */
  loseMail: number
}

/** See the file header. */
export class BrokerServer {
  readonly server: Server
  readonly weather: BrokerWeather = { duplicate: 0, reorder: 0, loseMail: 0 }
  readonly #scheduler: Scheduler
  readonly #network: Network
  readonly #random: Random
  readonly #dead: DeadLetter[] = []
  #waiting: Queued[] = []
  #consumers: Consumer[] = []
  #mailboxes: OpenMailbox[] = []
  #turn = 0

  constructor(scheduler: Scheduler, network: Network, random: Random) {
    this.#scheduler = scheduler
    this.#network = network
    this.#random = random
    this.server = new Server({ name: 'broker', scheduler, network, random, workMs: 0.6, unavailable: (what) => new LichenError('BROKER_UNAVAILABLE', `${what}: the broker does not answer`) })
    this.server.onDown(() => this.#breakAll())
  }

  /** Messages that wait or are out. */
  get size(): number {
    return this.#waiting.length + this.#consumers.reduce((sum, consumer) => sum + consumer.unacked.size, 0)
  }

  get deadLetters(): readonly DeadLetter[] {
    return this.#dead
  }

  /** Every message is gone, confirmed ones too, as when a cluster loses its disks. */
  loseEverything(): void {
    this.#waiting = []
  }

  comeUp(): void {
    this.server.comeUp()
    this.#dispatch()
    for (const mailbox of this.#mailboxes) this.#reopen(mailbox)
  }

  /** The machines can reach the broker again after they could not: their connections are new ones. */
  reconnect(machine: Machine): void {
    for (const mailbox of this.#mailboxes) {
      if (mailbox.life.machine !== machine) continue
      for (const path of mailbox.paths.values()) path.cut()
      mailbox.paths.clear()
      this.#reopen(mailbox)
    }
    for (const consumer of this.#consumers) if (consumer.life.machine === machine) this.#giveBack(consumer)
    this.#dispatch()
  }

  /** Puts a message on the queue that nobody of ours published. */
  inject(id: string, body: string): void {
    this.#enqueue({ id, body, deliveries: 0 })
  }

  /** The broker as this process sees it. */
  openClient(life: Life): Broker {
    const { server } = this
    life.onEnd(() => this.#scheduler.at(this.#scheduler.now + this.#random.between(1, 3_000), undefined, `broker misses ${life.name}`, () => this.#forget(life)))
    const pause = (ms: number): Promise<void> => new Promise((resolve) => life.clock.after(ms, resolve))
    return {
      publish: (_queue, messages) =>
        server.call(life, 'publish', () => {
          for (const { id, body } of messages) {
            this.#enqueue({ id, body, deliveries: 0 })
            if (this.#random.chance(this.weather.duplicate)) this.#enqueue({ id, body, deliveries: 0 })
          }
        }),
      consume: async (_queue, prefetch, receive) => {
        const consumer: Consumer = { life, prefetch, receive, unacked: new Set(), isOn: true }
        // Across reconnections, so it is registered also while the broker is away.
        this.#consumers.push(consumer)
        this.#dispatch()
        return async () => {
          consumer.isOn = false
          this.#consumers = this.#consumers.filter((one) => one !== consumer)
          while (consumer.unacked.size > 0 && life.isAlive) await pause(10)
        }
      },
      openMailbox: (name, receive, reopened) => this.#openMailbox(life, name, receive, reopened ?? (() => undefined)),
      listDeadLetters: (limit) => server.call(life, 'listDeadLetters', () => this.#dead.slice(0, limit)),
      readDeadLetter: (id) => server.call(life, 'readDeadLetter', () => this.#dead.find((letter) => letter.id === id)),
      replayDeadLetter: (id) =>
        server.call(life, 'replayDeadLetter', () => {
          const at = this.#dead.findIndex((letter) => letter.id === id)
          if (at < 0) return false
          const [letter] = this.#dead.splice(at, 1)
          this.#enqueue({ id, body: letter!.body, deliveries: 0 })
          return true
        }),
      isConnected: () => server.isUp && this.#network.isOpen(life.machine, server.machine),
      close: async () => this.#forget(life),
    }
  }

  #enqueue(message: Queued): void {
    if (this.#random.chance(this.weather.reorder)) this.#waiting.splice(this.#random.integer(0, this.#waiting.length), 0, message)
    else this.#waiting.push(message)
    this.#dispatch()
  }

  #dispatch(): void {
    while (this.server.isUp && this.#waiting.length > 0) {
      const consumer = this.#nextConsumer()
      if (consumer === undefined) return
      const message = this.#waiting.shift()!
      consumer.unacked.add(message)
      this.#network.send(this.server.machine, consumer.life.machine, 'bell', consumer.life, () => this.#deliver(consumer, message))
    }
  }

  #nextConsumer(): Consumer | undefined {
    for (let tried = 0; tried < this.#consumers.length; tried++) {
      const consumer = this.#consumers[(this.#turn + tried) % this.#consumers.length]!
      if (consumer.unacked.size >= consumer.prefetch || !this.#network.isOpen(this.server.machine, consumer.life.machine)) continue
      this.#turn += tried + 1
      return consumer
    }
    return undefined
  }

  #deliver(consumer: Consumer, message: Queued): void {
    const given: Message = { id: message.id, body: message.body, isRedelivered: message.deliveries > 0 }
    message.deliveries += 1
    const { life } = consumer
    consumer.receive(given).then(
      (verdict) => {
        const answer = (): void => this.#network.send(life.machine, this.server.machine, `bell ${verdict.verdict}`, undefined, () => this.#settle(consumer, message, verdict))
        if (verdict.verdict === 'retry') life.clock.after(retryPauseMs(message.deliveries - 1), answer)
        else if (life.isAlive) answer()
      },
      () => life.clock.after(1_000, () => this.#settle(consumer, message, { verdict: 'retry' })),
    )
  }

  #settle(consumer: Consumer, message: Queued, verdict: Verdict): void {
    // Already given back: its connection broke. Who gets it now decides.
    if (!consumer.unacked.delete(message)) return
    if (verdict.verdict === 'dead') this.#bury(message, verdict.reason)
    else if (verdict.verdict === 'retry' && message.deliveries > deliveryLimit) this.#bury(message, reasonOfDeliveryLimit(deliveryLimit))
    else if (verdict.verdict === 'retry') this.#waiting.unshift(message)
    this.#dispatch()
  }

  #bury({ id, body }: Queued, reason: string): void {
    this.#dead.push({ id, queue: 'tasks', body, reason, diedAt: this.#scheduler.now })
  }

  #giveBack(consumer: Consumer): void {
    this.#waiting.unshift(...consumer.unacked)
    consumer.unacked.clear()
  }

  #breakAll(): void {
    for (const consumer of this.#consumers) this.#giveBack(consumer)
    for (const mailbox of this.#mailboxes) {
      for (const path of mailbox.paths.values()) path.cut()
      mailbox.paths.clear()
    }
  }

  #forget(life: Life): void {
    for (const consumer of this.#consumers) if (consumer.life === life) this.#giveBack(consumer)
    this.#consumers = this.#consumers.filter((consumer) => consumer.life !== life)
    for (const mailbox of this.#mailboxes) if (mailbox.life === life) mailbox.isOpen = false
    this.#mailboxes = this.#mailboxes.filter((mailbox) => mailbox.isOpen)
    this.#dispatch()
  }

  async #openMailbox(life: Life, name: string, receive: (message: PeerMessage) => void, reopened: () => void): Promise<Mailbox> {
    await this.server.call(life, `open mailbox ${name}`, () => {
      if (this.#mailboxes.some((mailbox) => mailbox.name === name && mailbox.life.isAlive)) throw new LichenError('BROKER_MAILBOX_TAKEN', `the mailbox "${name}" is open already; each engine needs a name of its own`)
      this.#mailboxes.push({ name, life, receive, reopened, paths: new Map(), isOpen: true })
    })
    const own = this.#mailboxes.find((mailbox) => mailbox.life === life && mailbox.name === name)!
    const check = (): void => {
      if (!own.isOpen) throw new LichenError('BROKER_UNAVAILABLE', 'the mailbox is closed')
    }
    return {
      send: async (to, body) => {
        check()
        const copy = Buffer.from(body)
        return this.server.call(life, `mail to ${to}`, () => this.#post(name, this.#mailboxes.filter((mailbox) => mailbox.name === to), copy))
      },
      broadcast: async (body) => {
        check()
        const copy = Buffer.from(body)
        await this.server.call(life, 'mail to all', () => this.#post(name, this.#mailboxes.filter((mailbox) => mailbox.name !== name), copy))
      },
      close: async () => {
        own.isOpen = false
        this.#mailboxes = this.#mailboxes.filter((mailbox) => mailbox !== own)
      },
    }
  }

  #reopen(mailbox: OpenMailbox): void {
    this.#network.send(this.server.machine, mailbox.life.machine, 'mailbox open again', mailbox.life, () => mailbox.isOpen && mailbox.reopened())
  }

  #post(from: string, boxes: readonly OpenMailbox[], body: Uint8Array): boolean {
    for (const mailbox of boxes) {
      if (this.#random.chance(this.weather.loseMail)) continue
      let path = mailbox.paths.get(from)
      if (path === undefined) mailbox.paths.set(from, (path = this.#network.openPath(this.server.machine, mailbox.life.machine, mailbox.life)))
      path.send(`mail from ${from}`, () => {
        if (mailbox.isOpen) mailbox.receive({ from, body: body.slice() })
      })
    }
    return boxes.length > 0
  }
}
