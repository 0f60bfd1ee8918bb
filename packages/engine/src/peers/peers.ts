/**
 * This engine among the others. Owns the mailbox, the messages that wait to leave together, and what is known of streams elsewhere (presence.ts).
 * Invariants: (1) what one engine tells another leaves in order; (2) whoever cannot be reached by mailbox has no streams; (3) nothing is trusted to arrive: presence is
 * asked for again after a gap, and while the store knows of a stream that is not known here; commands are repeated (remote-stream.ts), reports are kept until they are answered (held-reports.ts).
 */
import type { Broker, Mailbox, PeerMessage as MailboxMessage } from '@lichen/broker'
import { type Clock, LichenError, nodeId, type NodeId, type Timer } from '@lichen/core'
import { type AgentMessage, type AttemptKey, decodePeerBatch, encodePeerBatch, type EngineMessage, type PeerMessage } from '@lichen/protocol'
import type { EngineLog } from '../engine-log.js'
import type { NodeStream } from '../gateway/node-stream.js'
import type { Session } from '../gateway/session.js'
import { buildPresence } from './presence.js'
import type { RemoteStream } from './remote-stream.js'

type Told = NonNullable<PeerMessage['message']>
type Report = NonNullable<AgentMessage['message']>

/** What peers make happen here. */
export interface PeerListener {
  /** A node's stream opened, closed or moved somewhere else; `isOpen`: it is open now. */
  moved(node: NodeId, isOpen: boolean): void
  /** Another engine has a stream of this node, which is connected here, too. `instance`: of the agent there. */
  openedElsewhere(session: Session, instance: string, tell: () => void): void
  /** The stream here belongs to a copy of the node's agent. */
  contested(session: Session): void
  /** A command of the engine that drives the task, for a stream that ends here. */
  command(session: Session, engine: string, command: NonNullable<EngineMessage['message']>): void
  /** What a node with a stream elsewhere says; `answer` tells its engine that it is recorded, or that nobody wants it. */
  report(node: NodeId, report: Report, answer: (key: AttemptKey) => void): void
}

export interface Peers {
  find(node: NodeId): NodeStream | undefined
  opened(session: Session): void
  closed(session: Session): void
  /** Hands what a node said to the engine that drives the task. False when that engine is not there. */
  forward(engine: string, session: Session, report: Report): Promise<boolean>
  /** Engines that are not in this list have no streams any more. */
  keepOnly(alive: ReadonlySet<string>): void
  /** Asks the engine who is connected to it: it should have a stream that is not known here. */
  ask(engine: string): void
  stop(): Promise<void>
}

export interface PeersParts {
  /** Name of this engine, and of its mailbox. */
  readonly engine: string
  readonly broker: Broker
  readonly sessions: { find(node: NodeId): Session | undefined; list(): Iterable<Session> }
  readonly listener: PeerListener
  readonly clock: Clock
  readonly log: EngineLog
}

const repeatMs = 1_000
// As long as a sweep or two: nobody waits for it in particular.
const openAgainMs = 1_000
// Messages of one body: some 400 KiB of orders. A body is held in memory whole, and one that is much larger delays those behind it.
const batchMessages = 200

interface Waiting {
  readonly message: Told
  readonly done?: (isTaken: boolean) => void
}

/**
 * Opens the mailbox and asks who is connected where. While the broker is away the engine works by itself, and joins the others once it is back.
 * @throws BROKER_MAILBOX_TAKEN
 */
export async function joinPeers({ engine, broker, sessions, listener, clock, log }: PeersParts): Promise<Peers> {
  const waiting = new Map<string, Waiting[]>()
  const presence = buildPresence({ clock, send: (to, stream, command) => tell(to, { $case: 'command', value: { nodeId: stream.node, sessionId: stream.sessionId, message: { message: command } } }) })
  let mailbox: Mailbox | undefined
  let opening: Timer | undefined
  let isStopped = false
  const sending = new Set<Promise<void>>()
  const everybody = '*'

  /** Puts the message among those that leave in the next turn of the event loop. */
  function tell(to: string, message: Told, done?: (isTaken: boolean) => void): void {
    if (isStopped) return done?.(false)
    const entry: Waiting = done === undefined ? { message } : { message, done }
    const known = waiting.get(to)
    if (known) return void known.push(entry)
    waiting.set(to, [entry])
    clock.soon(() => leave(to))
  }

  function leave(to: string): void {
    const all = waiting.get(to) ?? []
    waiting.delete(to)
    for (let from = 0; from < all.length; from += batchMessages) {
      const sent = post(to, all.slice(from, from + batchMessages)).finally(() => sending.delete(sent))
      sending.add(sent)
    }
  }

  async function post(to: string, batch: readonly Waiting[]): Promise<void> {
    let isTaken = false
    try {
      const body = encodePeerBatch(batch.map(({ message }) => ({ message })))
      if (mailbox === undefined) isTaken = false
      else if (to !== everybody) isTaken = await mailbox.send(to, body)
      else await mailbox.broadcast(body).then(() => (isTaken = true))
      if (!isTaken && to !== everybody) lose(to, 'it has no mailbox any more')
    } catch (error) {
      log.warn({ err: error, engine: to, messages: batch.length }, 'a message to another engine could not be sent')
    }
    for (const { done } of batch) done?.(isTaken)
  }

  function lose(peer: string, why: string): void {
    const nodes = presence.forget(peer)
    if (nodes.length === 0) return
    log.warn({ engine: peer, nodes: nodes.length, why }, 'another engine is gone, and the streams of its nodes with it')
    for (const node of nodes) listener.moved(node, false)
  }

  function receive({ from, body }: MailboxMessage): void {
    const messages = decodePeerBatch(body)
    if (messages === undefined) return log.warn({ engine: from }, 'a message of another engine cannot be read; it was dropped')
    for (const { message } of messages) if (message) understand(from, message)
  }

  function understand(from: string, message: Told): void {
    switch (message.$case) {
      case 'presenceAsked':
        for (const session of sessions.list()) tell(from, openedMessage(session))
        return
      case 'presenceReset':
        for (const node of presence.forget(from)) listener.moved(node, false)
        return
      case 'streamOpened': {
        const { node } = presence.open(from, message.value)
        const session = sessions.find(node)
        if (session) listener.openedElsewhere(session, message.value.instance, () => tell(from, { $case: 'nodeContested', value: { nodeId: node, sessionId: message.value.sessionId } }))
        return listener.moved(node, true)
      }
      case 'streamClosed': {
        const node = presence.close(from, nodeId(message.value.nodeId), message.value.sessionId)
        if (node !== undefined) listener.moved(node, false)
        return
      }
      case 'nodeContested': {
        const session = sessions.find(nodeId(message.value.nodeId))
        if (session?.id === message.value.sessionId) listener.contested(session)
        return
      }
      case 'command': {
        const session = sessions.find(nodeId(message.value.nodeId))
        const command = message.value.message?.message
        if (session && session.id === message.value.sessionId && command) listener.command(session, from, command)
        return
      }
      case 'report':
        return receiveReport(from, nodeId(message.value.nodeId), message.value.sessionId, message.value.message?.message)
    }
  }

  function receiveReport(from: string, node: NodeId, id: string, report: Report | undefined): void {
    if (report === undefined) return
    const key = report.$case === 'result' || report.$case === 'refused' || report.$case === 'accepted' ? report.value.key : undefined
    if (key) presence.find(node)?.settle(key, report.$case !== 'accepted')
    listener.report(node, report, (answered) => tell(from, { $case: 'command', value: { nodeId: node, sessionId: id, message: { message: { $case: 'resultAck', value: { key: answered } } } } }))
  }

  function introduce(): void {
    tell(everybody, { $case: 'presenceReset', value: {} })
    for (const session of sessions.list()) tell(everybody, openedMessage(session))
    tell(everybody, { $case: 'presenceAsked', value: {} })
  }

  async function open(): Promise<void> {
    mailbox = await broker.openMailbox(engine, receive, introduce)
    if (isStopped) return mailbox.close()
    introduce()
  }

  /** Tries until it is open. Also while another process of this name has the mailbox: which of the two goes on the store decides (engine-registry.ts), and the mailbox of one that died is free soon. */
  function openLater(error: unknown): void {
    if (!(error instanceof LichenError)) return log.error({ err: error }, 'this engine cannot reach the others because of a defect')
    log.warn({ err: error }, 'this engine cannot reach the others; trying again')
    opening = clock.after(openAgainMs, () => void open().catch(openLater))
  }

  await open().catch((error: unknown) => {
    if (!(error instanceof LichenError) || error.entry.kind !== 'unavailable') throw error
    openLater(error)
  })
  const repeating = clock.every(repeatMs, () => {
    for (const stream of presence.list()) stream.repeat()
  })

  return {
    find: (node): RemoteStream | undefined => presence.find(node),
    opened: (session) => tell(everybody, openedMessage(session)),
    closed: (session) => tell(everybody, { $case: 'streamClosed', value: { nodeId: session.node, sessionId: session.id } }),
    forward: (to, session, report) => new Promise((resolve) => tell(to, { $case: 'report', value: { nodeId: session.node, sessionId: session.id, message: { message: report } } }, resolve)),
    keepOnly(alive) {
      for (const peer of presence.engines()) if (!alive.has(peer)) lose(peer, 'it is not registered as running')
    },
    ask: (to) => tell(to, { $case: 'presenceAsked', value: {} }),
    async stop() {
      repeating.cancel()
      for (const to of [...waiting.keys()]) leave(to)
      await Promise.all(sending)
      isStopped = true
      opening?.cancel()
      await mailbox?.close()
    },
  }
}

const openedMessage = (session: Session): Told => ({ $case: 'streamOpened', value: { nodeId: session.node, sessionId: session.id, instance: session.instance, running: session.runningKeys.map((key) => ({ ...key })) } })
