/**
 * What passes between nodes, tasks and other engines, and where it goes. Owns nothing: it joins the session listener and the peer listener to the parts that do.
 */
import { type Clock, type LichenError, type NodeId, taskId } from '@lichen/core'
import { type AgentMessage, type AttemptKey, decodeCancel, decodeOrder, type EngineMessage } from '@lichen/protocol'
import type { EngineLimits } from './engine-limits.js'
import type { EngineLog } from './engine-log.js'
import { clonedError, contest } from './gateway/contest.js'
import type { LogWriter } from './gateway/log-writer.js'
import type { NodeDirectory } from './gateway/node-directory.js'
import type { Session, SessionListener } from './gateway/session.js'
import type { Sessions } from './gateway/sessions.js'
import type { PeerListener, Peers } from './peers/peers.js'
import { parseReport, reportRefusal } from './tasks/attempt-report.js'
import type { Roster } from './tasks/roster.js'

export interface TrafficParts {
  readonly sessions: Sessions
  readonly directory: NodeDirectory
  readonly roster: Roster
  readonly logWriter: LogWriter
  readonly clock: Clock
  readonly log: EngineLog
  readonly limits: EngineLimits
  /** Undefined until the mailbox is open. */
  readonly findPeers: () => Peers | undefined
}

/** What nodes that are connected here say, and where it goes. */
export function buildSessionListener({ sessions, directory, roster, logWriter, clock, log, limits, findPeers }: TrafficParts): SessionListener {
  /** AGENT_CLONED when an older stream of the node is alive; asked of every one that is there in turn, for others may come and go meanwhile. */
  async function contestAll(session: Session, first: Session): Promise<LichenError | undefined> {
    for (let older: Session | undefined = first; older !== undefined; ) {
      const refusal = await contest(older, clock, limits.proofOfLifeMs)
      const present = sessions.find(session.node)
      if (present === older) {
        if (refusal) log.warn({ nodeId: session.node, instance: session.instance, connected: older.instance }, refusal.message)
        return refusal
      }
      // The same process has opened another stream in the meantime: it gave this one up.
      if (present?.instance === session.instance) return void session.close()
      older = present
    }
    return undefined
  }

  return {
    admit(session) {
      const older = sessions.find(session.node)
      return older === undefined || older.instance === session.instance ? undefined : contestAll(session, older)
    },
    opened(session, facts, agentVersion) {
      sessions.add(session, facts)
      directory.recordHello(session.node, facts, agentVersion)
      findPeers()?.opened(session)
      for (const driver of roster.list()) driver.connected(session.node)
    },
    closed(session) {
      logWriter.forget(session)
      roster.forget(session)
      if (!sessions.remove(session)) return
      directory.recordGone(session.node)
      findPeers()?.closed(session)
      for (const driver of roster.list()) {
        // It may be connected to another engine for a while already: what went out on the stream that is closed now goes out there.
        driver.connected(session.node)
        driver.wake(session.node)
      }
    },
    heartbeat: (session, facts) => directory.recordSign(session.node, facts),
    result(session, report) {
      if (report.key === undefined) return log.warn({ nodeId: session.node }, 'a node sent a result that does not say of what; it was dropped')
      const { key } = report
      const parsed = parseReport(session.node, key, report, clock.now(), () => session.send({ $case: 'resultAck', value: { key } }))
      logWriter.afterStored(session, key, () => roster.report(session, parsed, { $case: 'result', value: report }))
    },
    refused(session, refused) {
      if (refused.key === undefined) return log.warn({ nodeId: session.node, code: refused.code, reason: refused.message }, 'a node refused an order that it cannot name')
      log.warn({ nodeId: session.node, taskId: refused.key.taskId, actionId: refused.key.actionId, code: refused.code, reason: refused.message }, 'a node refused an order')
      // It speaks of a message of an engine that lost the task, not of the attempt: whoever has the task now may have it running there.
      if (refused.code === 'ORDER_STALE_EPOCH') return
      roster.report(session, reportRefusal(session.node, refused.key, refused, clock.now()), { $case: 'refused', value: refused })
    },
    accepted(session, key) {
      const owner = roster.ownerOf(taskId(key.taskId))
      if (owner !== undefined && roster.find(taskId(key.taskId)) === undefined) void findPeers()?.forward(owner, session, { $case: 'accepted', value: { key } })
    },
    log: (session, chunk) => logWriter.write(session, chunk),
  }
}

/** What other engines tell, and where it goes. */
export function buildPeerListener({ sessions, roster, clock, log, limits }: TrafficParts): PeerListener {
  return {
    moved(node, isOpen) {
      for (const driver of roster.list()) {
        if (isOpen) driver.connected(node)
        driver.wake(node)
      }
    },
    openedElsewhere(session, instance, tell) {
      if (session.instance === instance) return session.close()
      // As in the session listener, from the other side: this stream is the older one.
      void contest(session, clock, limits.proofOfLifeMs).then((refusal) => {
        if (sessions.find(session.node) !== session) return
        if (refusal === undefined) return session.close()
        log.warn({ nodeId: session.node, instance, connected: session.instance }, refusal.message)
        tell()
      })
    },
    contested: (session) => session.close(clonedError(session.node)),
    command(session, engine, command) {
      const key = keyOf(command)
      if (key === undefined) return
      if (command.$case === 'resultAck') roster.recorded(session, key)
      else roster.passed(session, key, engine)
      session.send(command)
    },
    report(node, report, answer) {
      const parsed = parsePeerReport(node, report, clock.now(), answer)
      if (parsed) roster.reportFromPeer(parsed)
    },
  }
}

function keyOf(command: NonNullable<EngineMessage['message']>): AttemptKey | undefined {
  if (command.$case === 'order') return decodeOrder(command.value.order).key
  if (command.$case === 'cancel') return decodeCancel(command.value.cancel).key
  return command.$case === 'resultAck' ? command.value.key : undefined
}

function parsePeerReport(node: NodeId, report: NonNullable<AgentMessage['message']>, at: number, answer: (key: AttemptKey) => void) {
  if (report.$case === 'result' && report.value.key) {
    const { key } = report.value
    return parseReport(node, key, report.value, at, () => answer(key))
  }
  if (report.$case !== 'refused' || !report.value.key) return undefined
  const { key } = report.value
  return { ...reportRefusal(node, key, report.value, at), acknowledge: () => answer(key) }
}
