/**
 * The streams between agents and gateways. Owns every connection and both of its ends.
 *
 * 1. Messages arrive in the order sent, or not at all: when a connection breaks, what was under way is lost in both directions.
 * 2. Each end learns of a break by itself and at its own time: at once when its own side broke it, when a reset arrives, or when keepalive finds the other side silent.
 */
import { EventEmitter } from 'node:events'
import type { AgentStream, StreamEvents } from '@lichen/agent'
import type { AgentMessage, EngineMessage } from '@lichen/protocol'
import type { AgentCall } from '../../packages/engine/dist/gateway/session.js'
import type { Life, Machine } from '../machine.js'
import type { Network, Path } from '../network.js'
import type { Random } from '../random.js'
import type { Scheduler } from '../scheduler.js'

/** A gateway that listens; `accept` is called in its process for each stream. */
export interface ListeningGateway {
  readonly life: Life
  readonly accept: (call: AgentCall, certificate: Buffer) => void
}

// A reader that is this far behind is full, as of gRPC's flow control window; half of it lets the sender go on.
const fullAt = 64
// Keepalive of the gateway: 20 s, and 10 s for the answer.
const keepaliveMs = [20_000, 30_000] as const

/** The engine's end of one stream: the part of a gRPC server call that a session uses. */
class GatewayCall extends EventEmitter {
  readonly #connection: Connection
  readonly #waiting: AgentMessage[] = []
  #isPaused = true

  constructor(connection: Connection) {
    super()
    this.#connection = connection
    this.on('newListener', (name) => {
      if (name === 'data') connection.gateway.clock.soon(() => this.resume())
    })
  }

  cancelled = false
  getAuthContext = (): { sslPeerCertificate: { raw: Buffer } } => ({ sslPeerCertificate: { raw: this.#connection.certificate } })
  getPeer = (): string => this.#connection.agent.name
  isPaused = (): boolean => this.#isPaused
  write = (message: EngineMessage): boolean => this.#connection.sendDown(message)
  end = (): void => this.#connection.endByGateway(undefined)

  pause(): void {
    this.#isPaused = true
  }

  resume(): void {
    this.#isPaused = false
    for (let message = this.#waiting.shift(); message !== undefined && !this.#isPaused; message = this.#waiting.shift()) this.emit('data', message)
  }

  receive(message: AgentMessage): void {
    if (this.#isPaused || this.#waiting.length > 0) this.#waiting.push(message)
    else this.emit('data', message)
  }

  /** An error that the gateway raises itself is the answer of the call. */
  override emit(name: string | symbol, ...values: unknown[]): boolean {
    if (name === 'error') this.#connection.endByGateway((values[0] as { details?: string } | undefined)?.details ?? 'refused')
    return super.emit(name, ...values)
  }

  broken(): void {
    this.cancelled = true
    super.emit('cancelled')
  }
}

interface ConnectionParts {
  readonly connections: Connections
  readonly agent: Life
  readonly gateway: Life
  readonly certificate: Buffer
  readonly events: StreamEvents
  readonly up: Path
  readonly down: Path
}

class Connection {
  readonly agent: Life
  readonly gateway: Life
  readonly certificate: Buffer
  readonly call: GatewayCall
  readonly #parts: ConnectionParts
  #isAgentOpen = true
  #isGatewayOpen = true
  #underWay = 0
  #isFull = false
  #upUnderWay = 0
  #isUpFull = false

  constructor(parts: ConnectionParts) {
    this.#parts = parts
    this.agent = parts.agent
    this.gateway = parts.gateway
    this.certificate = parts.certificate
    this.call = new GatewayCall(this)
    this.call.on('error', () => undefined)
  }

  get isOver(): boolean {
    return !this.#isAgentOpen && !this.#isGatewayOpen
  }

  sendDown(message: EngineMessage): boolean {
    // What a process does after its death does not leave it.
    if (!this.#isGatewayOpen || !this.gateway.isAlive) return false
    this.#underWay += 1
    this.#parts.connections.observer.sentDown(this.agent.machine.name, message)
    this.#parts.down.send(`to ${this.agent.name} ${message.message?.$case}`, () => {
      this.#underWay -= 1
      if (this.#isFull && this.#underWay <= fullAt / 2) {
        this.#isFull = false
        this.gateway.clock.soon(() => this.#isGatewayOpen && this.call.emit('drain'))
      }
      if (!this.#isAgentOpen) return
      this.#parts.connections.observer.arrived(this.agent.machine.name, message)
      this.#parts.events.onMessage(message)
    })
    this.#isFull ||= this.#underWay >= fullAt
    return !this.#isFull
  }

  sendUp(message: AgentMessage): boolean {
    if (!this.#isAgentOpen || !this.agent.isAlive) return true
    this.#upUnderWay += 1
    this.#parts.connections.observer.saidUp(this.agent.machine.name, message)
    this.#parts.up.send(`from ${this.agent.name} ${message.message?.$case}`, () => {
      this.#upUnderWay -= 1
      if (this.#isUpFull && this.#upUnderWay <= fullAt / 2) {
        this.#isUpFull = false
        this.agent.clock.soon(() => this.#isAgentOpen && this.#parts.events.onDrain())
      }
      if (this.#isGatewayOpen) this.call.receive(message)
    })
    this.#isUpFull ||= this.#upUnderWay >= fullAt
    return !this.#isUpFull
  }

  /** The gateway ends the stream in good order: the agent reads what was sent before, then the end. */
  endByGateway(reason: string | undefined): void {
    if (!this.#isGatewayOpen) return
    this.#isGatewayOpen = false
    this.#parts.up.cut()
    this.#parts.down.send(`end of stream to ${this.agent.name}`, () => this.breakAgent(reason))
    this.#parts.connections.forget(this)
  }

  cancelByAgent(): void {
    if (!this.#isAgentOpen) return
    this.#isAgentOpen = false
    this.#parts.down.cut()
    this.#parts.up.send(`cancel from ${this.agent.name}`, () => this.breakGateway())
    this.#parts.connections.forget(this)
  }

  breakAgent(reason: string | undefined): void {
    if (!this.#isAgentOpen) return
    this.#isAgentOpen = false
    this.#parts.down.cut()
    this.#parts.connections.forget(this)
    if (this.agent.isAlive) this.#parts.events.onEnd(reason)
  }

  breakGateway(): void {
    if (!this.#isGatewayOpen) return
    this.#isGatewayOpen = false
    this.#parts.up.cut()
    this.#parts.connections.forget(this)
    if (this.gateway.isAlive) this.call.broken()
  }
}

/** Who sees what passes. `node`: name of the node's machine. */
export interface TrafficObserver {
  sentDown(node: string, message: EngineMessage): void
  arrived(node: string, message: EngineMessage): void
  saidUp(node: string, message: AgentMessage): void
}

export interface ConnectionsParts {
  readonly observer: TrafficObserver
  readonly scheduler: Scheduler
  readonly network: Network
  readonly random: Random
  /** Who listens at this address now. */
  readonly findGateway: (address: string) => ListeningGateway | undefined
  /** The machine of this address, whether anybody listens or not. */
  readonly findMachine: (address: string) => Machine | undefined
}

/** See the file header. */
export class Connections {
  readonly #parts: ConnectionsParts
  readonly observer: TrafficObserver
  readonly #all = new Set<Connection>()
  /** How much longer than usual messages to and from this machine take. */
  readonly slowness = new Map<Machine, number>()

  constructor(parts: ConnectionsParts) {
    this.#parts = parts
    this.observer = parts.observer
  }

  /** A stream of the agent to the gateway at this address. */
  open(agent: Life, address: string, certificate: Buffer, events: StreamEvents): AgentStream {
    const { network, findGateway, findMachine } = this.#parts
    const early: AgentMessage[] = []
    let connection: Connection | undefined
    let isCancelled = false
    const machine = findMachine(address)
    const refuse = (reason: string): void => {
      if (!isCancelled && agent.isAlive) events.onEnd(reason)
    }
    if (machine === undefined) agent.clock.soon(() => refuse(`no address for ${address}`))
    else {
      network.send(agent.machine, machine, `connect ${agent.name}`, undefined, () => {
        const gateway = findGateway(address)
        const isListening = gateway !== undefined && gateway.life.isAlive
        network.send(machine, agent.machine, isListening ? 'connected' : 'connection refused', agent, () => {
          if (isCancelled) return
          // It may have gone while the answer was on its way.
          if (!isListening || !gateway.life.isAlive) return refuse(`connection to ${address} refused`)
          connection = this.#connect(agent, gateway, certificate, events)
          for (const message of early) connection.sendUp(message)
        })
      })
    }
    return {
      send: (message) => {
        if (connection !== undefined) return connection.sendUp(message)
        early.push(message)
        return true
      },
      cancel: () => {
        isCancelled = true
        connection?.cancelByAgent()
      },
    }
  }

  forget(connection: Connection): void {
    if (connection.isOver) this.#all.delete(connection)
  }

  /** The process ended: its kernel resets its connections, if the machine still runs; else the others find out by keepalive. */
  ended(life: Life, isMachineUp: boolean): void {
    for (const connection of [...this.#all]) {
      if (connection.agent === life) this.#tell(isMachineUp, connection.agent.machine, connection.gateway, () => connection.breakGateway())
      else if (connection.gateway === life) this.#tell(isMachineUp, connection.gateway.machine, connection.agent, () => connection.breakAgent('connection reset'))
    }
  }

  /** The machines were cut off from each other just now: keepalive notices if they still are, later. */
  noticeCut(left: Machine, right: Machine): void {
    const { scheduler, random, network } = this.#parts
    for (const connection of this.#all) {
      const machines = [connection.agent.machine, connection.gateway.machine]
      if (!machines.includes(left) || !machines.includes(right)) continue
      const check = (life: Life, end: () => void): void => void scheduler.at(scheduler.now + random.between(...keepaliveMs), life, 'keepalive', () => network.isOpen(left, right) || end())
      check(connection.agent, () => connection.breakAgent('keepalive timed out'))
      check(connection.gateway, () => connection.breakGateway())
    }
  }

  /** Breaks one stream of this machine, as a router that forgets it does; each end learns of it at its own time. */
  breakOne(machine: Machine): boolean {
    const connection = [...this.#all].find((one) => one.agent.machine === machine)
    if (connection === undefined) return false
    const { scheduler, random } = this.#parts
    scheduler.at(scheduler.now + random.between(0, 2_000), connection.agent, 'stream broken', () => connection.breakAgent('connection reset'))
    scheduler.at(scheduler.now + random.between(0, 20_000), connection.gateway, 'stream broken', () => connection.breakGateway())
    return true
  }

  #tell(isMachineUp: boolean, from: Machine, other: Life, end: () => void): void {
    const { scheduler, random, network } = this.#parts
    if (isMachineUp) network.send(from, other.machine, `reset to ${other.name}`, other, end)
    else scheduler.at(scheduler.now + random.between(...keepaliveMs), other, 'keepalive', end)
  }

  #connect(agent: Life, gateway: ListeningGateway, certificate: Buffer, events: StreamEvents): Connection {
    const { network } = this.#parts
    const slowness = this.slowness.get(agent.machine) ?? 1
    const up = network.openPath(agent.machine, gateway.life.machine, gateway.life, slowness)
    const down = network.openPath(gateway.life.machine, agent.machine, agent, slowness)
    const connection = new Connection({ connections: this, agent, gateway: gateway.life, certificate, events, up, down })
    this.#all.add(connection)
    gateway.life.clock.soon(() => gateway.accept(connection.call as unknown as AgentCall, certificate))
    return connection
  }
}
