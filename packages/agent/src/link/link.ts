/**
 * The agent's stream to the gateway: opened again whenever it ends. Owns the client, the call and their timers; what passes over it is decided by
 * its user through `LinkEvents`.
 *
 *   connecting ──Welcome──> open ──end, error, silence──> waiting ──backoff──> connecting          any ──stop──> stopped
 *
 * 1. Nothing but Hello is sent before Welcome.
 * 2. Log bytes sent and not acknowledged on this stream never exceed the window of its Welcome (one chunk may always be under way).
 * 3. A stream that gives no Welcome within 10 s is given up.
 * 4. Messages of an older stream are not heard any more.
 */
import type { ClientDuplexStream, ServiceError } from '@grpc/grpc-js'
import type { AgentGatewayClient, AgentMessage, EngineMessage, Hello, Welcome } from '@lichen/protocol'
import { closeClient } from '../identity/join.js'
import type { Log } from '../log.js'
import { Backoff } from './backoff.js'

const welcomeTimeoutMs = 10_000

/** What the link asks and tells its user. */
export interface LinkEvents {
  /** A client with the node's current certificate. The link closes it. */
  openClient(): AgentGatewayClient
  buildHello(): Hello
  /** Facts as JSON when they changed since they were last sent; else empty. */
  buildHeartbeat(): string
  onWelcome(welcome: Welcome): void
  onMessage(message: EngineMessage): void
  /** The stream may take more: give what is to be sent through `send`, until `canSend` is false. */
  onWritable(): void
  /** The stream ended. */
  onClosed(error: ServiceError | undefined): void
}

type Stream = ClientDuplexStream<AgentMessage, EngineMessage>

/** See the file header. */
export class Link {
  readonly #events: LinkEvents
  readonly #log: Log
  readonly #backoff: Backoff
  #state: 'connecting' | 'open' | 'waiting' | 'stopped' = 'waiting'
  #client: AgentGatewayClient | undefined
  #stream: Stream | undefined
  #openedAt = 0
  #timer: NodeJS.Timeout | undefined
  #heartbeat: NodeJS.Timeout | undefined
  #windowBytes = 0
  #unackedBytes = 0
  #isFull = false
  #lastError = ''

  constructor(events: LinkEvents, log: Log, random: () => number = Math.random) {
    this.#events = events
    this.#log = log
    // 250 ms: a restarted engine is found at once; 30 s: a gateway that is away for long is not bothered more than needed.
    this.#backoff = new Backoff({ firstMs: 250, maxMs: 30_000, goodAfterMs: 10_000, random })
  }

  get state(): 'connecting' | 'open' | 'waiting' | 'stopped' {
    return this.#state
  }

  /** Why the last stream ended, in words; empty when none did. */
  get lastError(): string {
    return this.#lastError
  }

  start(): void {
    if (this.#state === 'waiting') this.#connect()
  }

  stop(): void {
    this.#state = 'stopped'
    this.#close()
  }

  /** Opens a new stream at once, e.g. with a new certificate. */
  reconnect(): void {
    if (this.#state === 'stopped') return
    this.#close()
    this.#connect()
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
    this.#isFull = !this.#stream.write(message)
  }

  /** The engine acknowledged this many bytes of log. */
  acknowledgeLog(sizeBytes: number): void {
    this.#unackedBytes = Math.max(0, this.#unackedBytes - sizeBytes)
  }

  #connect(): void {
    this.#state = 'connecting'
    this.#client = this.#events.openClient()
    const stream = this.#client.connect()
    this.#stream = stream
    const end = (error?: ServiceError): void => {
      if (this.#stream === stream) this.#onEnd(error)
    }
    stream.on('data', (message: EngineMessage) => {
      if (this.#stream === stream) this.#onData(message)
    })
    stream.on('drain', () => {
      this.#isFull = false
      if (this.#stream === stream && this.#state === 'open') this.#events.onWritable()
    })
    stream.on('error', (error: ServiceError) => end(error))
    stream.on('end', () => end())
    this.#timer = setTimeout(() => end(Object.assign(new Error(`no Welcome within ${welcomeTimeoutMs} ms`)) as ServiceError), welcomeTimeoutMs)
    stream.write({ message: { $case: 'hello', value: this.#events.buildHello() } })
  }

  #onData({ message }: EngineMessage): void {
    if (message?.$case !== 'welcome') {
      if (this.#state === 'open') this.#events.onMessage({ message })
      return
    }
    clearTimeout(this.#timer)
    const welcome = message.value
    this.#state = 'open'
    this.#openedAt = performance.now()
    this.#windowBytes = welcome.logWindowBytes
    this.#unackedBytes = 0
    this.#isFull = false
    clearInterval(this.#heartbeat)
    this.#heartbeat = setInterval(() => this.send({ message: { $case: 'heartbeat', value: { facts: this.#events.buildHeartbeat() } } }), Math.max(100, welcome.heartbeatIntervalMs))
    this.#events.onWelcome(welcome)
    this.#events.onWritable()
  }

  #onEnd(error: ServiceError | undefined): void {
    const lastedMs = this.#state === 'open' ? performance.now() - this.#openedAt : 0
    this.#close()
    this.#state = 'waiting'
    const waitMs = this.#backoff.next(lastedMs)
    this.#lastError = error ? error.details || error.message : 'the gateway closed the stream'
    this.#log.warn({ error: this.#lastError, waitMs: Math.round(waitMs) }, 'the stream to the gateway ended; connecting again')
    this.#timer = setTimeout(() => this.#connect(), waitMs)
    this.#events.onClosed(error)
  }

  #close(): void {
    clearTimeout(this.#timer)
    clearInterval(this.#heartbeat)
    const { stream, client } = { stream: this.#stream, client: this.#client }
    this.#stream = undefined
    this.#client = undefined
    // Cancelling makes the old stream say `error`; it is not listened to any more.
    stream?.cancel()
    if (client) closeClient(client)
  }
}
