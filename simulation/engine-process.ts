/** One engine of a simulated deployment: started by its service manager again and again, each time as a new process. */
import type { Catalog } from '@lichen/core'
import { type Authority, type Gateway, type GatewayParts, type PartialEngineLimits, type Sealer, startEngine } from '@lichen/engine'
import { Registry } from 'prom-client'
import { identifyPeer } from '../packages/engine/dist/gateway/peer.js'
import { refusalOf } from '../packages/engine/dist/gateway/refusal.js'
import { type AgentCall, startSession } from '../packages/engine/dist/gateway/session.js'
import { type Life, Machine } from './machine.js'
import type { Connections, ListeningGateway } from './node/connection.js'
import { type SimCertificate, signer, signingKey } from './node/sim-node.js'
import type { Surroundings } from './surroundings.js'

/** Limits of the simulated engines: those of production where they matter for order, shorter where only patience is measured. */
export const engineLimits: PartialEngineLimits = {
  nodesRefreshMs: 2_000,
  lostAfterHeartbeats: 2,
  task: { beginWithinMs: 20_000, answerGraceMs: 6_000, nodeWaitMs: 30_000, cancelWaitMs: 8_000 },
}

// Sealed values are as they were: what is simulated has no secrets.
const sealer: Sealer = { seal: (bytes) => bytes, open: (sealed) => Buffer.from(sealed) }
const authority = {
  caDigest: '', caCertificatePem: '', caCertificate: Buffer.alloc(0), signingKeys: [signingKey], signer,
  checkNodeCertificate: (der: Buffer) => JSON.parse(der.toString('utf8')) as SimCertificate,
} as unknown as Authority

export interface EngineProcessParts {
  readonly around: Surroundings
  readonly connections: Connections
  readonly catalog: Catalog
  readonly limits: PartialEngineLimits
}

/** See the file header. */
export class EngineProcess {
  readonly name: string
  readonly machine: Machine
  life: Life | undefined
  listening: ListeningGateway | undefined
  /** Whether its service manager starts it again. */
  isWanted = false
  #instances = 0
  readonly #parts: EngineProcessParts

  constructor(name: string, machineName: string, parts: EngineProcessParts) {
    this.name = name
    this.machine = new Machine(machineName)
    this.#parts = parts
  }

  /** `host:port` of its gateway. */
  get address(): string {
    return `${this.machine.name}:8471`
  }

  start(): void {
    this.isWanted = true
    if (this.life?.isAlive) return
    const { around, connections } = this.#parts
    const life = (this.life = around.begin(this.name, this.machine))
    this.#instances += 1
    const instance = `${this.machine.name}#${this.#instances}`
    around.note(life.name, `starts as ${instance}`)
    life.onEnd(() => {
      this.listening = undefined
      connections.ended(life, true)
    })
    this.#run(life, instance)
  }

  /** SIGKILL. */
  kill(): void {
    this.life?.kill()
  }

  /** It will not be started again. */
  remove(): void {
    this.isWanted = false
    this.kill()
  }

  #run(life: Life, instance: string): void {
    const { around, catalog, limits } = this.#parts
    const log = around.logOf(life)
    startEngine({
      store: around.openStore(life), broker: around.openBroker(life), catalog, authority, sealer, clock: life.clock, log, registry: new Registry(), limits,
      identity: { name: this.name, instance },
      // Its data directory is locked: whoever starts there has outlived the one before.
      isSuccessor: this.#instances > 1,
      gateway: { host: this.machine.name, port: 8471, advertise: () => this.address },
      openGateway: (parts) => this.#openGateway(life, parts),
      failed: () => this.#restart(life),
    }).catch((error: unknown) => {
      log.warn({ err: error }, 'the engine could not be started')
      this.#restart(life)
    })
  }

  /** As a program that ends, which its service manager starts again. */
  #restart(life: Life): void {
    if (!life.isAlive) return
    life.kill()
    const { around } = this.#parts
    around.scheduler.at(around.scheduler.now + 1_000, undefined, `restart of ${this.name}`, () => this.isWanted && this.start())
  }

  async #openGateway(life: Life, parts: GatewayParts): Promise<Gateway> {
    const { directory, limits, listener, log, clock, instance, gateways } = parts
    let sessions = 0

    // As in `gateway.ts`, over streams that are no sockets.
    async function connect(call: AgentCall): Promise<void> {
      try {
        const identity = await identifyPeer(call, authority, directory)
        if (call.cancelled) return
        const welcome = { heartbeatIntervalMs: directory.heartbeatIntervalMs(), logWindowBytes: limits.logWindowBytes, signingKeys: [...authority.signingKeys], gateways: [...gateways()] }
        startSession({ call, identity, id: `${instance}/${++sessions}`, welcome, pace: directory.heartbeatIntervalMs, listener, clock, log })
      } catch (error) {
        call.emit('error', refusalOf(error))
      }
    }
    this.listening = { life, accept: (call) => void connect(call) }
    return {
      port: 8471,
      stop: async () => void (this.listening = undefined),
    }
  }
}
