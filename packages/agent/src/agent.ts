/**
 * One agent: identity, journal, runner, outbox and link put together. Owns the data directory while it runs, and what passes between its parts.
 *
 * 1. Nothing from the gateway is acted upon before `verified.ts` has said that it is signed for this node.
 * 2. Every verified order is answered: accepted and later a result, or refused with a code. A duplicate gets the stored answer.
 * 3. What an earlier run left unfinished is being settled before the first stream is opened.
 */
import { mkdirSync } from 'node:fs'
import { join as joinPath } from 'node:path'
import type { AttemptResult, Facts } from '@lichen/core'
import { type AttemptKey, attemptKeyText, type EngineMessage, encodeResult, type Hello, type SignedCancel, type SignedOrder, type Welcome } from '@lichen/protocol'
import { type Agent, type AgentOptions, agentVersion } from './agent-options.js'
import { findAddress } from './facts/address.js'
import { factsFingerprint, readFacts } from './facts/facts.js'
import { encodeSigningKeys, expiryTime, type Identity, renewalTime, writeIdentity } from './identity/identity.js'
import { openClient, renew } from './identity/join.js'
import { joinPatiently, makeHere } from './identity/joining.js'
import { parseAddress } from './identity/pinned-ca.js'
import { lockDataDirectory } from './identity/data-lock.js'
import { Journal, type JournaledAttempt } from './journal/journal.js'
import { Link } from './link/link.js'
import { checkOrder, type Expectation, readSigningKeys, type Refusal, type SigningKeys, verifyCancel, verifyOrder } from './orders/verified.js'
import { defaultLogLimits } from './output/attempt-log.js'
import { Outbox } from './output/outbox.js'
import { PackageLock } from './run/package-lock.js'
import { readBootId } from './run/process-group.js'
import { Runner } from './run/runner.js'

/** How often the certificate's age is looked at, at most. */
const renewalCheckMs = 3_600_000
const renewalRetryMs = 60_000
/** A cancel of an attempt that was never seen is remembered this long, against its order coming late. Longer than any order is valid. */
const cancelMemoryMs = 24 * 3_600_000
const defaultPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

/**
 * A started agent that has joined. While the gateway cannot be reached, joining is tried again with a backoff, until `signal` says no more.
 * @throws JOIN_TOKEN_INVALID, JOIN_TOKEN_EXPIRED, JOIN_CA_MISMATCH, JOIN_NAME_TAKEN, JOIN_BAD_REQUEST when joining is refused.
 * @throws AGENT_DATA_IN_USE when another agent runs on the data directory.
 */
export async function startAgent(options: AgentOptions): Promise<Agent> {
  parseAddress(options.gateway)
  mkdirSync(options.dataDirectory, { recursive: true, mode: 0o700 })
  const unlock = lockDataDirectory(options.dataDirectory)
  try {
    const identity = await joinPatiently(options)
    const agent = await RunningAgent.open(options, identity, unlock)
    await agent.start()
    return agent
  } catch (error) {
    unlock()
    throw error
  }
}

class RunningAgent implements Agent {
  readonly #options: AgentOptions
  readonly #journal: Journal
  readonly #outbox: Outbox
  readonly #runner: Runner
  readonly #link: Link
  readonly #unlock: () => void
  #identity: Identity
  #keys: SigningKeys
  #address: string
  #sentFacts = ''
  #renewal: NodeJS.Timeout | undefined
  #isStopped = false

  private constructor(options: AgentOptions, identity: Identity, journal: Journal, address: string, unlock: () => void) {
    this.#options = options
    this.#identity = identity
    this.#keys = readSigningKeys(identity.signingKeys)
    this.#journal = journal
    this.#address = address
    this.#unlock = unlock
    this.#outbox = new Outbox(joinPath(options.dataDirectory, 'spool'), options.log)
    const packageLock = new PackageLock()
    const { confine, dataDirectory, now, logLimits = defaultLogLimits } = options
    const environment = { PATH: options.path ?? defaultPath, LANG: 'C.UTF-8', HOME: confine ?? '/root', LICHEN_NODE: identity.nodeId }
    const around = { journal, outbox: this.#outbox, now, logLimits, bootId: readBootId(), confine, dataDirectory, environment, lockPackages: () => packageLock.enter() }
    this.#runner = new Runner(around, options.concurrency ?? 4, options.log)
    this.#link = new Link(
      {
        openClient: () => openClient(options.gateway, this.#identity),
        buildHello: () => this.#buildHello(),
        buildHeartbeat: () => this.#buildHeartbeat(),
        onWelcome: (welcome) => this.#onWelcome(welcome),
        onMessage: (message) => this.#onMessage(message),
        onWritable: () => this.#sendWaiting(),
        onClosed: () => {},
      },
      options.log,
    )
    this.#outbox.onReady = () => this.#sendWaiting()
  }

  static async open(options: AgentOptions, identity: Identity, unlock: () => void): Promise<RunningAgent> {
    const journal = await Journal.open({ directory: joinPath(options.dataDirectory, 'journal'), now: options.now, log: options.log })
    const address = options.address ?? (await findAddress(parseAddress(options.gateway).host))
    return new RunningAgent(options, identity, journal, address, unlock)
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
    for (const attempt of this.#journal.unacknowledged()) this.#outbox.queueResult(attempt.key)
    await this.#runner.settle()
    this.#warnOfExpiry()
    this.#link.start()
    this.#planRenewal()
  }

  async stop(): Promise<void> {
    if (this.#isStopped) return
    this.#isStopped = true
    clearTimeout(this.#renewal)
    await this.#runner.stop()
    this.#link.stop()
    this.#outbox.close()
    await this.#journal.close()
    this.#unlock()
  }

  #buildHello(): Hello {
    const facts = this.#readFacts()
    this.#sentFacts = factsFingerprint(facts)
    return { agentVersion, bootId: facts.bootId, facts: JSON.stringify(facts), running: this.#journal.unfinished().map((attempt) => attempt.key) }
  }

  #buildHeartbeat(): string {
    const facts = this.#readFacts()
    const fingerprint = factsFingerprint(facts)
    if (fingerprint === this.#sentFacts) return ''
    this.#sentFacts = fingerprint
    return JSON.stringify(facts)
  }

  #readFacts(): Facts {
    const { confine } = this.#options
    return { ...readFacts(this.#address), ...(confine === undefined ? {} : { confinedTo: confine }) }
  }

  #onWelcome(welcome: Welcome): void {
    this.#options.log.info({ nodeId: this.nodeId, gateway: this.#options.gateway }, 'connected to the gateway')
    this.#learnKeys(welcome)
    this.#outbox.rewind()
  }

  #learnKeys({ signingKeys }: Welcome): void {
    if (signingKeys.length === 0) return
    const keys = encodeSigningKeys(signingKeys)
    if (JSON.stringify(keys) === JSON.stringify(this.#identity.signingKeys)) return
    this.#identity = { ...this.#identity, signingKeys: keys }
    this.#keys = readSigningKeys(keys)
    writeIdentity(this.#options.dataDirectory, this.#identity)
  }

  #onMessage({ message }: EngineMessage): void {
    if (message?.$case === 'order') this.#onOrder(message.value)
    else if (message?.$case === 'cancel') this.#onCancel(message.value).catch((error: unknown) => this.#fail(error))
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
    const commands = checkOrder(order, this.#options.now())
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
    const now = this.#options.now()
    const result: AttemptResult = { outcome: 'cancelled', changed: false, commands: [], outputs: {}, failure: { code: 'COMMAND_CANCELLED', message: `${reason || 'cancelled'}; the node had not seen its order` }, startedAt: now, endedAt: now }
    this.#journal.endUnknown(key, epoch, now + cancelMemoryMs, encodeResult(result))
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
      if (next.type === 'log') this.#link.send({ message: { $case: 'log', value: { ...next.chunk.head, data: this.#outbox.take(next.chunk) } } })
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
    this.#options.log.warn({ taskId: key?.taskId, actionId: key?.actionId, code }, message)
    this.#link.send({ message: { $case: 'refused', value: { key, code, message } } })
  }

  get #expectation(): Expectation {
    return { nodeId: this.#identity.nodeId, keys: this.#keys, highestEpoch: (taskId) => this.#journal.highestEpoch(taskId) }
  }

  #warnOfExpiry(): void {
    if (expiryTime(this.#identity.certificatePem) > this.#options.now()) return
    const file = joinPath(this.#options.dataDirectory, 'identity.json')
    this.#options.log.error({ nodeId: this.nodeId, file }, 'the certificate of this node has expired (or its clock is wrong): no gateway will let it in. Delete the node, remove the file, and join again with a new token')
  }

  /** `soonestMs`: a clock far ahead of the gateway's finds every certificate due at once, also one that is a moment old. */
  #planRenewal(soonestMs = 0): void {
    const leftMs = renewalTime(this.#identity.certificatePem) - this.#options.now()
    this.#renewal = setTimeout(() => void this.#renewWhenDue(), Math.min(Math.max(leftMs, soonestMs), renewalCheckMs))
  }

  async #renewWhenDue(): Promise<void> {
    if (renewalTime(this.#identity.certificatePem) > this.#options.now()) return this.#planRenewal()
    try {
      const renewed = await renew(this.#options.gateway, this.#identity, this.#options.makeKeyAndRequest ?? makeHere)
      if (this.#isStopped) return
      writeIdentity(this.#options.dataDirectory, renewed)
      this.#identity = renewed
      this.#keys = readSigningKeys(renewed.signingKeys)
      this.#options.log.info({ nodeId: this.nodeId }, 'the certificate was renewed')
      this.#link.reconnect()
      this.#planRenewal(renewalRetryMs)
    } catch (error) {
      if (this.#isStopped) return
      this.#options.log.error({ nodeId: this.nodeId, error: (error as Error).message }, 'the certificate could not be renewed; trying again')
      this.#renewal = setTimeout(() => void this.#renewWhenDue(), renewalRetryMs)
    }
  }

  #fail(error: unknown): void {
    this.#options.log.error({ error: String(error) }, 'the journal cannot be written; the agent must not go on')
    this.#options.onFatal?.(error)
  }
}
