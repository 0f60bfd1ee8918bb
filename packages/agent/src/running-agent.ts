/**
 * One agent: journal, runner, outbox and link put together. Owns what passes between its parts; every way to the world outside (time, disk, programs, gateways)
 * is handed in, so that the simulator runs this same code.
 *
 * 1. Nothing from the gateway is acted upon before `verified.ts` has said that it is signed for this node.
 * 2. Every verified order is answered: accepted and later a result, or refused with a code. A duplicate gets the stored answer.
 * 3. What an earlier run left unfinished is being settled before the first stream is opened.
 */
import { join as joinPath } from 'node:path'
import type { AttemptResult, Clock, Facts } from '@lichen/core'
import { type AttemptKey, attemptKeyText, type EngineMessage, encodeResult, type Hello, type SignedCancel, type SignedOrder, type Welcome } from '@lichen/protocol'
import { type Agent, agentVersion } from './agent-options.js'
import { type Disk, isNoSpace } from './disk/disk.js'
import type { OnWrite } from './durable-write.js'
import { factsFingerprint } from './facts/facts.js'
import { encodeSigningKeys, expiryTime, type Identity, writeIdentity } from './identity/identity.js'
import { Renewal } from './identity/renewal.js'
import { Journal, type JournaledAttempt } from './journal/journal.js'
import { Link } from './link/link.js'
import type { Transport } from './link/transport.js'
import type { Log } from './log.js'
import { checkOrder, type Expectation, type Refusal, type SigningKeys, verifyCancel, verifyOrder } from './orders/verified.js'
import { defaultLogLimits, type LogLimits } from './output/attempt-log.js'
import { Outbox } from './output/outbox.js'
import type { Programs } from './programs/programs.js'
import { PackageLock } from './run/package-lock.js'
import { Runner } from './run/runner.js'

/** A cancel of an attempt that was never seen is remembered this long, against its order coming late. Longer than any order is valid. */
const cancelMemoryMs = 24 * 3_600_000
/** An engine that is away for an evening should cost no output. */
export const defaultSpoolLimitBytes = 1024 ** 3
const defaultPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

/** Everything that an agent is made of. `startAgent` hands in the machine's own; the simulator hands in others. */
export interface AgentParts {
  readonly clock: Clock
  /** A number from 0 to 1, for the spreading of retries. */
  readonly random: () => number
  readonly disk: Disk
  readonly programs: Programs
  readonly transport: Transport
  readonly identity: Identity
  /** Reads the keys of an identity or a Welcome. */
  readonly readKeys: (keys: Identity['signingKeys']) => SigningKeys
  readonly readFacts: () => Facts
  readonly bootId: string
  /** New for every start of an agent. */
  readonly instance: string
  /** Gateways beside those that the identity knows, at least one. */
  readonly gateways: readonly string[]
  readonly dataDirectory: string
  readonly log: Log
  readonly confine?: string | undefined
  readonly concurrency?: number | undefined
  readonly logLimits?: LogLimits | undefined
  /** Bytes of log that all attempts together may have waiting. Default: 1 GiB. */
  readonly spoolLimitBytes?: number | undefined
  readonly path?: string | undefined
  /** False: the certificate is not looked after (there is none in a simulation). Default: true. */
  readonly renews?: boolean | undefined
  readonly onWrite?: OnWrite | undefined
  readonly onFatal?: ((error: unknown) => void) | undefined
  /** Called when the agent has stopped. */
  readonly onStopped?: (() => void) | undefined
}

/** The agent of these parts, started: what an earlier run left unfinished is being settled, and a stream is being opened. */
export async function startAgentWith(parts: AgentParts): Promise<Agent> {
  const { dataDirectory, disk, clock, onWrite, log } = parts
  const journal = await Journal.open({ directory: joinPath(dataDirectory, 'journal'), disk, clock, onWrite, log })
  const agent = new RunningAgent(parts, journal)
  await agent.start()
  return agent
}

class RunningAgent implements Agent {
  readonly #parts: AgentParts
  readonly #journal: Journal
  readonly #outbox: Outbox
  readonly #runner: Runner
  readonly #link: Link
  readonly #renewal: Renewal
  #identity: Identity
  #keys: SigningKeys
  #sentFacts = ''
  #isStopped = false

  constructor(parts: AgentParts, journal: Journal) {
    const { identity, dataDirectory, disk, clock, random, log, onWrite, confine, logLimits = defaultLogLimits, programs, bootId, transport } = parts
    this.#parts = parts
    this.#identity = identity
    this.#keys = parts.readKeys(identity.signingKeys)
    this.#journal = journal
    this.#outbox = new Outbox({ directory: joinPath(dataDirectory, 'spool'), disk, onWrite, log, clock, limitBytes: parts.spoolLimitBytes ?? defaultSpoolLimitBytes, onFatal: (error) => this.#fail(error) })
    const environment = { PATH: parts.path ?? defaultPath, LANG: 'C.UTF-8', HOME: confine ?? '/root', LICHEN_NODE: identity.nodeId }
    const around = { journal, outbox: this.#outbox, programs, clock, logLimits, bootId, confine, dataDirectory, environment, packageLock: new PackageLock() }
    this.#runner = new Runner(around, parts.concurrency ?? 4, log)
    this.#link = new Link(
      {
        listGateways: () => this.#listGateways(),
        openStream: (gateway, events) => transport.openStream(gateway, this.#identity, events),
        buildHello: () => this.#buildHello(),
        buildHeartbeat: () => this.#buildHeartbeat(),
        onWelcome: (welcome) => this.#onWelcome(welcome),
        onMessage: (message) => this.#onMessage(message),
        onWritable: () => this.#sendWaiting(),
      },
      { clock, random, log },
    )
    this.#renewal = new Renewal({
      clock,
      log,
      readIdentity: () => this.#identity,
      listGateways: () => [this.#link.gateway, ...this.#listGateways().filter((gateway) => gateway !== this.#link.gateway)],
      renew: (gateway, present) => transport.renew(gateway, present),
      onRenewed: (renewed) => this.#onRenewed(renewed),
    })
    this.#outbox.onReady = () => this.#sendWaiting()
  }

  get nodeId(): string {
    return this.#identity.nodeId
  }

  get state(): Agent['state'] {
    if (this.#isStopped) return 'stopped'
    return this.#link.state === 'open' ? 'connected' : 'connecting'
  }

  get lastError(): string {
    return this.#link.lastError
  }

  get attempts(): number {
    return this.#runner.size
  }

  async start(): Promise<void> {
    const [unfinished, unacknowledged] = [this.#journal.unfinished(), this.#journal.unacknowledged()]
    this.#outbox.keepPositions(new Set([...unfinished, ...unacknowledged].map((attempt) => attempt.keyText)))
    for (const attempt of unacknowledged) this.#outbox.queueResult(attempt.key)
    await this.#runner.settle()
    this.#link.start()
    if (this.#parts.renews === false) return
    this.#warnOfExpiry()
    this.#renewal.start()
  }

  async stop(): Promise<void> {
    if (this.#isStopped) return
    this.#isStopped = true
    this.#renewal.stop()
    await this.#runner.stop()
    this.#link.stop()
    await this.#outbox.close()
    await this.#journal.close()
    this.#parts.onStopped?.()
  }

  /** What the engine named last, then what is configured: one of those may be an address that the engine does not know of. */
  #listGateways(): readonly string[] {
    return [...new Set([...(this.#identity.gateways ?? []), ...this.#parts.gateways])]
  }

  #buildHello(): Hello {
    const facts = this.#parts.readFacts()
    this.#sentFacts = factsFingerprint(facts)
    return { agentVersion, bootId: facts.bootId, facts: JSON.stringify(facts), running: this.#journal.unfinished().map((attempt) => attempt.key), instance: this.#parts.instance }
  }

  #buildHeartbeat(): string {
    const facts = this.#parts.readFacts()
    const fingerprint = factsFingerprint(facts)
    if (fingerprint === this.#sentFacts) return ''
    this.#sentFacts = fingerprint
    return JSON.stringify(facts)
  }

  #onWelcome(welcome: Welcome): void {
    this.#parts.log.info({ nodeId: this.nodeId, gateway: this.#link.gateway }, 'connected to the gateway')
    this.#learn(welcome)
    this.#outbox.rewind()
  }

  /** Keeps what the engine says of its keys and gateways, when it is new. */
  #learn({ signingKeys = [], gateways }: Partial<Pick<Welcome, 'signingKeys'>> & Pick<Welcome, 'gateways'>): void {
    const identity = this.#identity
    const keys = signingKeys.length === 0 ? identity.signingKeys : encodeSigningKeys(signingKeys)
    const hasNewKeys = JSON.stringify(keys) !== JSON.stringify(identity.signingKeys)
    // Each gateway names itself first: another order is no news.
    const hasNewGateways = gateways.length > 0 && [...gateways].sort().join() !== [...(identity.gateways ?? [])].sort().join()
    if (hasNewKeys) this.#keys = this.#parts.readKeys(keys)
    if (hasNewKeys || hasNewGateways) this.#store({ ...identity, signingKeys: keys, ...(hasNewGateways && { gateways }) })
  }

  #store(identity: Identity): void {
    this.#identity = identity
    const { disk, dataDirectory, onWrite, log } = this.#parts
    try {
      writeIdentity(disk, dataDirectory, identity, onWrite)
    } catch (error) {
      log.error({ error: String(error) }, 'the identity could not be written; it is kept in memory until the agent ends')
    }
  }

  #onRenewed(identity: Identity): void {
    this.#store(identity)
    this.#keys = this.#parts.readKeys(identity.signingKeys)
    this.#link.reconnect()
  }

  #onMessage({ message }: EngineMessage): void {
    if (message?.$case === 'order') this.#onOrder(message.value)
    else if (message?.$case === 'cancel') this.#onCancel(message.value).catch((error: unknown) => this.#fail(error))
    else if (message?.$case === 'gateways') this.#learn(message.value)
    else if (message?.$case === 'resultAck' && message.value.key) this.#onResultAck(attemptKeyText(message.value.key))
    else if (message?.$case === 'logAck' && message.value.key) {
      this.#link.acknowledgeLog(this.#outbox.acknowledgeLog(attemptKeyText(message.value.key), message.value.position))
      this.#sendWaiting()
    }
  }

  #onOrder(signed: SignedOrder): void {
    const verified = verifyOrder(signed, this.#expectation)
    if (!verified.ok) return this.#refuse(verified.refusal)
    const order = verified.value
    const known = this.#journal.find(attemptKeyText(order.key))
    if (known) return this.#answerDuplicate(known, order.epoch)
    const commands = checkOrder(order, this.#parts.clock.now())
    if (!commands.ok) return this.#refuse(commands.refusal)
    if (!this.#journal.hasRoom(signed.order.length)) {
      return this.#refuse({ key: order.key, code: 'ORDER_NOT_JOURNALED', message: `the disk of ${this.nodeId} has no room for the order and its result; nothing was run` })
    }
    this.#runner.take(order, signed.order, commands.value, () => this.#accept(order.key)).catch((error: unknown) => this.#fail(error))
  }

  #answerDuplicate(attempt: JournaledAttempt, epoch: number): void {
    this.#journal.raiseEpoch(attempt, epoch)
    if (attempt.place) this.#outbox.queueResult(attempt.key)
    else this.#accept(attempt.key)
  }

  async #onCancel(signed: SignedCancel): Promise<void> {
    const verified = verifyCancel(signed, this.#expectation)
    if (!verified.ok) return this.#refuse(verified.refusal)
    const { key, epoch, reason } = verified.value
    const keyText = attemptKeyText(key)
    const known = this.#journal.find(keyText)
    if (known?.place) return this.#outbox.queueResult(key)
    if (known) {
      this.#journal.raiseEpoch(known, epoch)
      this.#runner.cancel(keyText, reason || 'cancelled')
      return
    }
    const now = this.#parts.clock.now()
    const result: AttemptResult = { outcome: 'cancelled', changed: false, commands: [], outputs: {}, failure: { code: 'COMMAND_CANCELLED', message: `${reason || 'cancelled'}; the node had not seen its order` }, startedAt: now, endedAt: now }
    try {
      this.#journal.endUnknown(key, epoch, now + cancelMemoryMs, encodeResult(result))
    } catch (error) {
      if (!isNoSpace(error)) throw error
      // Not answered: the engine asks again.
      return this.#parts.log.error({ attempt: keyText, error: String(error) }, 'a cancel of an attempt that the node had not seen could not be journaled')
    }
    await this.#journal.flush()
    this.#outbox.queueResult(key)
  }

  #onResultAck(keyText: string): void {
    const attempt = this.#journal.find(keyText)
    if (attempt) this.#journal.acknowledge(attempt)
    this.#outbox.acknowledgeResult(keyText)
  }

  /** Sends what waits, as long as the stream takes it. */
  #sendWaiting(): void {
    while (this.#link.canSend) {
      const next = this.#outbox.next(this.#link.logRoomBytes)
      if (!next) return
      if (next.type === 'log') this.#link.send({ message: { $case: 'log', value: { data: this.#outbox.take(next.chunk), ...next.chunk.head } } })
      else this.#sendResult(next.keyText)
    }
  }

  #sendResult(keyText: string): void {
    const attempt = this.#journal.find(keyText)
    const stored = attempt && this.#journal.readResult(attempt)
    if (!attempt || !stored) return
    this.#link.send({ message: { $case: 'result', value: { key: stored.key, result: stored.result, secretOutputs: { ...stored.secretOutputs }, epoch: Math.max(stored.epoch, attempt.epoch) } } })
  }

  #accept(key: AttemptKey): void {
    this.#link.send({ message: { $case: 'accepted', value: { key } } })
  }

  #refuse({ key, code, message }: Refusal): void {
    this.#parts.log.warn({ taskId: key?.taskId, actionId: key?.actionId, code }, message)
    this.#link.send({ message: { $case: 'refused', value: { key, code, message } } })
  }

  get #expectation(): Expectation {
    return { nodeId: this.#identity.nodeId, keys: this.#keys, highestEpoch: (taskId) => this.#journal.highestEpoch(taskId) }
  }

  #warnOfExpiry(): void {
    if (expiryTime(this.#identity.certificatePem) > this.#parts.clock.now()) return
    const file = joinPath(this.#parts.dataDirectory, 'identity.json')
    this.#parts.log.error({ nodeId: this.nodeId, file }, 'the certificate of this node has expired (or its clock is wrong): no gateway will let it in. Delete the node, remove the file, and join again with a new token')
  }

  #fail(error: unknown): void {
    this.#parts.log.error({ error: String(error) }, 'what must not be lost cannot be written to the disk; the agent must not go on')
    this.#parts.onFatal?.(error)
  }
}
