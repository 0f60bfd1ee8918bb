/**
 * One agent's stream. Owns the call, what waits to be written, and the log bytes under way. Knows nothing of tasks: it hands on what comes.
 * Invariants: (1) nothing is handed on before a good hello, and nothing after `close`; (2) messages go out in the order they were given;
 * while the peer does not read they wait, up to a limit, then the stream is closed; (3) a peer that sends more log than its window is not read until
 * the store has caught up; (4) a message that makes no sense closes this stream or is dropped, and touches no other; (5) the stream ends when the
 * certificate it was opened with does; (6) a stream that has ended is never told of as opened, and one that was is told of as closed, once.
 */
import type { ServerDuplexStream } from '@grpc/grpc-js'
import { type Clock, compileCheck, type Facts, FactsSchema, LichenError, type Timer } from '@lichen/core'
import { type AgentMessage, type AttemptKey, attemptKeyText, type EngineMessage, type Hello, type LogChunk, type OrderRefused, type ResultReport } from '@lichen/protocol'
import type { NodeIdentity } from '../authority/authority.js'
import type { EngineLog } from '../engine-log.js'
import type { NodeStream } from './node-stream.js'
import { isOtherPace } from './heartbeat-pace.js'
import { refusalOf } from './refusal.js'

export type AgentCall = ServerDuplexStream<AgentMessage, EngineMessage>

export interface Session extends NodeStream {
  readonly registration: string
  /** Of the agent's process: another one under the same name is a copy, or came after a restart. */
  readonly instance: string
  readonly runningKeys: readonly AttemptKey[]
  /** When the node was last heard of, on this stream; ms of `Clock.elapsed`. */
  readonly heardAt: number
  /** So many log bytes of this stream are durable, or given up. */
  releaseLogBytes(count: number): void
  /** Ends the stream; with an error when there is a reason to tell. */
  close(reason?: LichenError): void
}

/** Where a session hands on what its node says. Called in the order of arrival. */
export interface SessionListener {
  /** After a good hello: whether the node may stay. Nothing is handed on before this is resolved, nor when it is an error: the stream is closed with it then. */
  admit(session: Session): LichenError | undefined | Promise<LichenError | undefined>
  /** It may stay, and its stream has not ended while that was found out. */
  opened(session: Session, facts: Facts, agentVersion: string): void
  /** Once for each `opened`. */
  closed(session: Session): void
  heartbeat(session: Session, facts: Facts | undefined): void
  result(session: Session, report: ResultReport): void
  refused(session: Session, refused: OrderRefused): void
  accepted(session: Session, key: AttemptKey): void
  log(session: Session, chunk: LogChunk): void
}

export interface SessionParts {
  readonly call: AgentCall
  readonly identity: NodeIdentity
  readonly id: string
  readonly welcome: Extract<NonNullable<EngineMessage['message']>, { $case: 'welcome' }>['value']
  /** How often its node has to say heartbeats as of now, ms. */
  readonly pace: () => number
  readonly listener: SessionListener
  readonly clock: Clock
  readonly log: EngineLog
}

// A node that opens a stream and says nothing holds memory for nobody.
const helloTimeoutMs = 20_000
// For all nodes that run nothing, which are most.
const runningNothing: ReadonlySet<string> = new Set()
// Messages waiting for a peer that does not read: orders of a few KiB. Above it the node is better off with a new stream.
const waitingLimit = 20_000

/** Runs the stream of an identified node until it ends. */
export function startSession({ call, identity, id, welcome, pace, listener, clock, log }: SessionParts): void {
  const { node } = identity
  const waiting: EngineMessage[] = []
  let state: 'greeting' | 'admitting' | 'open' | 'closed' = 'greeting'
  let isBlocked = false
  let logBytes = 0
  const logLimit = welcome.logWindowBytes * 2
  let paceMs = welcome.heartbeatIntervalMs

  // Fields, no getters: there are thousands of these, and each getter would cost each of them a function and a shape of its own.
  const session: { -readonly [Key in keyof Session]: Session[Key] } = {
    node,
    id,
    registration: identity.registration,
    running: runningNothing,
    runningKeys: [],
    instance: '',
    heardAt: clock.elapsed(),
    send(message) {
      if (state === 'closed') return false
      if (!isBlocked) isBlocked = !call.write({ message })
      else if (waiting.push({ message }) > waitingLimit) close(new LichenError('AGENT_UNREACHABLE', `node ${node} does not read its stream`))
      return true
    },
    releaseLogBytes(count) {
      logBytes -= count
      if (logBytes <= logLimit && call.isPaused()) call.resume()
    },
    close,
  }

  function close(reason?: LichenError): void {
    if (state === 'closed') return
    const wasOpen = state === 'open'
    state = 'closed'
    helloTimer?.cancel()
    expiryTimer?.cancel()
    waiting.length = 0
    // The rest of what the peer sent must be read for the stream to end; nobody listens to it any more.
    call.resume()
    if (reason === undefined) call.end()
    else call.emit('error', refusalOf(reason))
    if (wasOpen) listener.closed(session)
  }

  function greet(hello: Hello): void {
    helloTimer?.cancel()
    helloTimer = undefined
    const facts = parseFacts(hello.facts)
    if (facts === undefined) return close(new LichenError('ORDER_MALFORMED', `the facts in the hello of node ${node} are not of the known form`))
    session.runningKeys = hello.running
    if (hello.running.length > 0) session.running = new Set(hello.running.map(attemptKeyText))
    session.instance = hello.instance
    state = 'admitting'
    const open = (refusal: LichenError | undefined): void => {
      // The node may have gone while it was found out whether it may stay.
      if (state === 'closed') return
      if (refusal) return close(refusal)
      state = 'open'
      listener.opened(session, facts, hello.agentVersion)
    }
    const admitted = listener.admit(session)
    if (!(admitted instanceof Promise)) return open(admitted)
    call.pause()
    admitted
      .then((refusal) => {
        open(refusal)
        call.resume()
      })
      .catch((error: unknown) => {
        log.error({ err: error, nodeId: node }, 'a stream could not be admitted because of a defect')
        close(new LichenError('INTERNAL', 'see the log of the engine'))
      })
  }

  function receive({ message }: AgentMessage): void {
    session.heardAt = clock.elapsed()
    if (state === 'closed' || state === 'admitting') return
    if (state === 'greeting') return message?.$case === 'hello' ? greet(message.value) : close(new LichenError('ORDER_MALFORMED', `node ${node} did not begin with a hello`))
    switch (message?.$case) {
      case 'heartbeat':
        return receiveHeartbeat(message.value.facts)
      case 'result':
        return listener.result(session, message.value)
      case 'refused':
        return listener.refused(session, message.value)
      case 'log':
        logBytes += message.value.data.byteLength
        if (logBytes > logLimit) call.pause()
        return listener.log(session, message.value)
      case 'accepted':
        if (message.value.key) listener.accepted(session, message.value.key)
        return
      case 'hello':
      case undefined:
        log.warn({ nodeId: node, message: message?.$case ?? 'unknown' }, 'a node sent a message that has no place here; it was dropped')
    }
  }

  function receiveHeartbeat(text: string): void {
    const facts = text === '' ? undefined : parseFacts(text)
    if (text !== '' && facts === undefined) log.warn({ nodeId: node }, 'a node sent facts that are not of the known form; they were dropped')
    listener.heartbeat(session, facts)
    const wantedMs = pace()
    if (!isOtherPace(paceMs, wantedMs)) return
    paceMs = wantedMs
    session.send({ $case: 'pace', value: { heartbeatIntervalMs: wantedMs } })
  }

  let helloTimer: Timer | undefined = clock.after(helloTimeoutMs, () => close(new LichenError('ORDER_MALFORMED', `node ${node} did not say hello in time`)))
  let expiryTimer: Timer | undefined
  function awaitExpiry(): void {
    const leftMs = identity.expiresAt - clock.now()
    if (leftMs <= 0) return close(new LichenError('AGENT_UNAUTHENTICATED', `the certificate of node ${node} has expired`))
    expiryTimer = clock.after(leftMs, awaitExpiry)
  }
  call.on('drain', () => {
    isBlocked = false
    for (let message = waiting.shift(); message !== undefined; message = waiting.shift()) {
      isBlocked = !call.write(message)
      if (isBlocked) return
    }
  })
  call.on('error', (error) => {
    log.debug({ err: error, nodeId: node }, 'a stream ended with an error')
    close()
  })
  call.on('cancelled', () => close())
  call.on('end', () => close())
  call.on('data', (message: AgentMessage) => {
    try {
      receive(message)
    } catch (error) {
      log.error({ err: error, nodeId: node }, 'a defect while receiving from a node; its stream is closed')
      close(new LichenError('INTERNAL', 'see the log of the engine'))
    }
  })
  session.send({ $case: 'welcome', value: welcome })
  awaitExpiry()
}

const isFacts = compileCheck(FactsSchema)

function parseFacts(text: string): Facts | undefined {
  try {
    const value: unknown = JSON.parse(text)
    return isFacts(value) ? (value as Facts) : undefined
  } catch {
    return undefined
  }
}
