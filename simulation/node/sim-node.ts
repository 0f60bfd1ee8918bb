/** One simulated node: its machine, disk and programs, which outlive the agents on it, and the agent that runs now. */
import { type Agent, type Identity, startAgentWith } from '@lichen/agent'
import { type Facts, type NodeId, nodeId } from '@lichen/core'
import { decodeCancel, decodeOrder, encodeCancel, encodeOrder, orderDigest, type EngineMessage } from '@lichen/protocol'
import { type Life, Machine } from '../machine.js'
import { buildRandom, type Random } from '../random.js'
import type { Surroundings } from '../surroundings.js'
import type { Connections } from './connection.js'
import { NodeDisk } from './disk.js'
import type { Ledger } from './ledger.js'
import { bootIdOf, NodePrograms } from './programs.js'

/** The key that the orders of a simulation are "signed" with. Forging is for other tests; here it would only cost time. */
export const signingKey = { id: 'sim', publicKey: Buffer.alloc(32, 7) }
const signature = Buffer.alloc(64, 9)
/** Signs and verifies at no cost. */
export const signer = { keyId: signingKey.id, sign: (): Buffer => signature }
const readKeys = () => ({ verify: (keyId: string, _bytes: Buffer, given: Buffer): boolean | undefined => (keyId === signingKey.id ? given.equals(signature) : undefined) })

/** What a certificate of the simulation says. */
export interface SimCertificate {
  readonly node: string
  readonly registration: string
  readonly expiresAt: number
}

/** See the file header. */
export class SimNode {
  readonly id: NodeId
  readonly machine: Machine
  readonly disk: NodeDisk
  readonly programs: NodePrograms
  /** Protection that the tests turn off: orders come with an epoch that no agent refuses. */
  trustsEveryEpoch = false
  /** What joined under this name: grows when the node is replaced by another machine. */
  registration = 1
  life: Life | undefined
  agent: Agent | undefined
  #kernel: Life
  #instances = 0
  readonly #around: Surroundings
  readonly #connections: Connections
  readonly #random: Random
  readonly #gateways: () => readonly string[]

  constructor(name: string, around: Surroundings, connections: Connections, ledger: Ledger, gateways: () => readonly string[]) {
    this.id = nodeId(name)
    this.#around = around
    this.#connections = connections
    this.#gateways = gateways
    this.machine = new Machine(name)
    this.disk = new NodeDisk(around.scheduler, buildRandom(around.seed, `disk of ${name}`))
    this.programs = new NodePrograms({ node: name, scheduler: around.scheduler, random: buildRandom(around.seed, `programs of ${name}`), ledger, hasRoom: () => !this.disk.weather.isFull })
    this.#random = buildRandom(around.seed, `agent of ${name}`)
    this.#kernel = this.#boot()
  }

  get isUp(): boolean {
    return this.#kernel.isAlive
  }

  get keyDigest(): string {
    return `key of ${this.id} ${this.registration}`
  }

  get facts(): Facts {
    return {
      hostname: this.id, address: `10.0.0.${this.id.replace(/\D/g, '')}`, addresses: [], os: { id: 'debian', version: '12', codename: 'bookworm', prettyName: 'Debian' }, kernel: '6.1', architecture: 'amd64', cpus: 2,
      memoryBytes: 4e9, diskFreeBytes: 9e9, bootId: bootIdOf(this.machine), virtualization: 'none', cgroupVersion: 2, packageManager: 'apt', init: 'systemd',
    }
  }

  /** Starts the agent, unless it runs or the machine is off. */
  startAgent(): void {
    if (this.life?.isAlive || !this.isUp) return
    const life = (this.life = this.#around.begin(`agent of ${this.id}`, this.machine))
    life.onEnd(() => this.#connections.ended(life, this.isUp))
    this.#around.note(life.name, 'starts')
    this.#instances += 1
    const log = this.#around.logOf(life)
    startAgentWith({
      clock: life.clock,
      random: () => this.#random.next(),
      disk: this.disk.openFor(life),
      programs: this.programs.openFor(life),
      transport: {
        openStream: (gateway, identity, events) => this.#connections.open(life, gateway, Buffer.from(identity.certificatePem), this.trustsEveryEpoch ? { ...events, onMessage: (message) => events.onMessage(raiseEpoch(message)), onDrain: () => events.onDrain(), onEnd: (reason) => events.onEnd(reason) } : events),
        renew: () => Promise.reject(new Error('nothing is renewed in a simulation')),
      },
      identity: this.#identity(),
      readKeys,
      readFacts: () => this.facts,
      bootId: bootIdOf(this.machine),
      instance: `${this.id}/${this.#instances}`,
      gateways: this.#gateways(),
      dataDirectory: '/data',
      spoolLimitBytes: 64 * 1024 * 1024,
      log,
      renews: false,
      // As the service manager would: the program ends and is started again.
      onFatal: () => this.#restartAgent(life),
    }).then(
      (agent) => {
        if (life.isAlive) this.agent = agent
      },
      (error: unknown) => {
        log.warn({ err: error }, 'the agent could not be started')
        this.#restartAgent(life)
      },
    )
  }

  /** SIGKILL for the agent; what it started goes on. */
  killAgent(): void {
    this.life?.kill()
  }

  /** The power goes. */
  crash(): void {
    if (!this.isUp) return
    // First the machine: its kernel resets no connections.
    this.#kernel.kill()
    this.life?.kill()
    this.disk.crash()
  }

  /** The machine comes up again, with a new boot id; the agent is started by its service. */
  powerOn(): void {
    if (this.isUp) return
    this.machine.boot += 1
    this.#kernel = this.#boot()
    this.startAgent()
  }

  #boot(): Life {
    const kernel = this.#around.begin(`kernel of ${this.id}`, this.machine)
    this.programs.boot(kernel, bootIdOf(this.machine))
    return kernel
  }

  #restartAgent(life: Life): void {
    if (!life.isAlive) return
    life.kill()
    this.#kernel.clock.after(1_000, () => this.startAgent())
  }

  #identity(): Identity {
    const certificate: SimCertificate = { node: this.id, registration: this.keyDigest, expiresAt: Number.MAX_SAFE_INTEGER }
    return {
      nodeId: this.id, keyPem: '', certificatePem: JSON.stringify(certificate), caCertificatePem: '',
      signingKeys: [{ id: signingKey.id, publicKey: signingKey.publicKey.toString('base64') }], gateways: this.#gateways(),
    }
  }
}

/** The same message with the highest of all epochs, where it has one. */
function raiseEpoch({ message }: EngineMessage): EngineMessage {
  if (message?.$case === 'cancel') return { message: { $case: 'cancel', value: { ...message.value, cancel: encodeCancel({ ...decodeCancel(message.value.cancel), epoch: 1_000_000 }) } } }
  if (message?.$case !== 'order') return { message }
  const order = encodeOrder({ ...decodeOrder(message.value.order), epoch: 1_000_000 })
  return { message: { $case: 'order', value: { ...message.value, order, batch: orderDigest(order) } } }
}
