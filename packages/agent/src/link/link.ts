/**
 * The agent's stream to one of the gateways: opened again whenever it ends. Owns the stream, its timers and which gateway is next; what passes over it is
 * decided by its user through `LinkEvents`.
 *
 *   connecting ──Welcome──> open ──end, error, silence──> waiting ──backoff──> connecting          any ──stop──> stopped
 *
 * 1. Nothing but Hello is sent before Welcome.
 * 2. Log bytes sent and not acknowledged on this stream never exceed the window of its Welcome (one chunk may always be under way).
 * 3. A stream that gives no Welcome in time is given up.
 * 4. Messages of an older stream are not heard any more.
 * 5. It begins with a gateway by chance, and goes to the next whenever a stream ends. Each is tried once, quickly, before the backoff begins to grow: one
 *    engine's death costs its agents a moment, and the death of all does not make them hammer.
 */
import type { Clock, Timer } from '@lichen/core'
import type { AgentMessage, EngineMessage, Hello, Welcome } from '@lichen/protocol'
import type { Log } from '../log.js'
import { Backoff } from './backoff.js'
import type { AgentStream, StreamEvents } from './transport.js'

/**
 * A gateway that five thousand agents come back to at once needs some twenty seconds of a core for them, and serves them side by side: with half of this nearly all would give up shortly before
 * they are welcomed, and its work would be for nothing. Twice as much holds up the way to another gateway when the host of this one is dead.
 */
const welcomeTimeoutMs = 30_000
/** While there are gateways that were not tried yet: a dead host that answers nothing should not hold up the way to a living one. */
const firstRoundTimeoutMs = 2500
/** A stream that lasted this long counts as good: what comes after it begins anew. */
const goodAfterMs = 10_000
/** Whatever a gateway asks for: a heartbeat costs both ends a wake-up. */
const shortestHeartbeatMs = 100
/** Before the next gateway is tried: enough to spread the agents of a dead engine a little. */
const nextGatewayMs = 100

/** What the link asks and tells its user. */
export interface LinkEvents {
  /** host:port of every gateway known, at least one. Asked again before each stream. */
  listGateways(): readonly string[]
  openStream(gateway: string, events: StreamEvents): AgentStream
  buildHello(): Hello
  /** Facts as JSON when they changed since they were last sent; else empty. */
  buildHeartbeat(): string
  onWelcome(welcome: Welcome): void
  onMessage(message: EngineMessage): void
  /** The stream may take more: give what is to be sent through `send`, until `canSend` is false. */
  onWritable(): void
}

/** See the file header. */
export class Link {
  readonly #events: LinkEvents
  readonly #clock: Clock
  readonly #random: () => number
  readonly #log: Log
  readonly #backoff: Backoff
  #state: 'connecting' | 'open' | 'waiting' | 'stopped' = 'waiting'
  #gateway = ''
  /** Streams since the last one that was good, or since the start. */
  #tries = 0
  #stream: AgentStream | undefined
  #openedAt = 0
  #timer: Timer | undefined
  #heartbeat: Timer | undefined
  #windowBytes = 0
  #unackedBytes = 0
  #isFull = false
  #lastError = ''

  constructor(events: LinkEvents, { clock, random, log }: { clock: Clock; random: () => number; log: Log }) {
    this.#events = events
    this.#clock = clock
    this.#random = random
    this.#log = log
    // 250 ms: a restarted engine is found at once; 30 s: a gateway that is away for long is not bothered more than needed.
    this.#backoff = new Backoff({ firstMs: 250, maxMs: 30_000, goodAfterMs, random })
  }

  get state(): 'connecting' | 'open' | 'waiting' | 'stopped' {
    return this.#state
  }

  /** The gateway of the stream that is, or was last; empty before the first. */
  get gateway(): string {
    return this.#gateway
  }

  /** Why the last stream ended, in words; empty when none did. */
  get lastError(): string {
    return this.#lastError
  }

  start(): void {
    if (this.#state !== 'waiting') return
    const gateways = this.#events.listGateways()
    this.#connect(gateways[Math.floor(this.#random() * gateways.length)] ?? gateways[0]!)
  }

  stop(): void {
    this.#state = 'stopped'
    this.#close()
  }

  /** Opens a new stream at once, to the same gateway: e.g. with a new certificate. */
  reconnect(): void {
    if (this.#state === 'stopped') return
    this.#close()
    this.#connect(this.#gateway)
  }

  /** True while the stream takes messages without piling them up in memory. */
  get canSend(): boolean {
    return this.#state === 'open' && !this.#isFull
  }

  /** How many bytes of log may be sent now. One chunk may always be under way, whatever its size. */
  get logRoomBytes(): number {
    if (!this.canSend) return 0
    return this.#unackedBytes === 0 ? Infinity : this.#windowBytes - this.#unackedBytes
  }

  /** Sends the message if the stream is open; says nothing when it is not: what must not be lost is sent again after the next Welcome. */
  send(message: AgentMessage): void {
    if (this.#state !== 'open' || !this.#stream) return
    if (message.message?.$case === 'log') this.#unackedBytes += message.message.value.data.length
    this.#isFull = !this.#stream.send(message)
  }

  /** The engine acknowledged this many bytes of log. */
  acknowledgeLog(sizeBytes: number): void {
    this.#unackedBytes = Math.max(0, this.#unackedBytes - sizeBytes)
  }

  #connect(gateway: string): void {
    this.#state = 'connecting'
    this.#gateway = gateway
    this.#tries++
    const isOwn = (): boolean => this.#stream === stream
    const stream: AgentStream = this.#events.openStream(gateway, {
      onMessage: (message) => {
        if (isOwn()) this.#onMessage(message)
      },
      onDrain: () => {
        if (!isOwn()) return
        this.#isFull = false
        if (this.#state === 'open') this.#events.onWritable()
      },
      onEnd: (reason) => {
        if (isOwn()) this.#onEnd(reason)
      },
    })
    this.#stream = stream
    const timeoutMs = this.#isFirstRound ? firstRoundTimeoutMs : welcomeTimeoutMs
    this.#timer = this.#clock.after(timeoutMs, () => this.#onEnd(`no Welcome within ${timeoutMs} ms`))
    stream.send({ message: { $case: 'hello', value: this.#events.buildHello() } })
  }

  get #isFirstRound(): boolean {
    return this.#tries < this.#events.listGateways().length
  }

  #beat(intervalMs: number): void {
    this.#heartbeat?.cancel()
    this.#heartbeat = this.#clock.every(Math.max(shortestHeartbeatMs, intervalMs), () => this.#sayAlive())
  }

  #sayAlive(): void {
    this.send({ message: { $case: 'heartbeat', value: { facts: this.#events.buildHeartbeat() } } })
  }

  #onMessage({ message }: EngineMessage): void {
    if (message?.$case === 'ping') return this.#sayAlive()
    if (message?.$case === 'pace') return this.#beat(message.value.heartbeatIntervalMs)
    if (message?.$case !== 'welcome') {
      if (this.#state === 'open') this.#events.onMessage({ message })
      return
    }
    this.#timer?.cancel()
    const welcome = message.value
    this.#state = 'open'
    this.#openedAt = this.#clock.elapsed()
    this.#windowBytes = welcome.logWindowBytes
    this.#unackedBytes = 0
    this.#isFull = false
    this.#beat(welcome.heartbeatIntervalMs)
    this.#events.onWelcome(welcome)
    this.#events.onWritable()
  }

  #onEnd(reason: string | undefined): void {
    const lastedMs = this.#state === 'open' ? this.#clock.elapsed() - this.#openedAt : 0
    this.#close()
    this.#state = 'waiting'
    // Not after any stream: gateways that take streams and drop them are not to be hammered.
    if (lastedMs >= goodAfterMs) this.#tries = 1
    const gateways = this.#events.listGateways()
    const next = gateways[(gateways.indexOf(this.#gateway) + 1) % gateways.length]!
    const waitMs = this.#isFirstRound ? this.#random() * nextGatewayMs : this.#backoff.next(lastedMs)
    this.#lastError = reason ?? 'the gateway closed the stream'
    this.#log.warn({ gateway: this.#gateway, error: this.#lastError, next, waitMs: Math.round(waitMs) }, 'the stream to the gateway ended; connecting again')
    this.#timer = this.#clock.after(waitMs, () => this.#connect(next))
  }

  #close(): void {
    this.#timer?.cancel()
    this.#heartbeat?.cancel()
    const stream = this.#stream
    this.#stream = undefined
    stream?.cancel()
  }
}
