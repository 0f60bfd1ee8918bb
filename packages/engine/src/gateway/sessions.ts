/** The open sessions by node. Invariant: a node has at most one; a newer stream takes the place of the older, which is closed. */
import type { Facts, NodeId } from '@lichen/core'
import type { LichenError } from '@lichen/core'
import type { EngineLog } from '../engine-log.js'
import type { EngineMetrics } from '../metrics.js'
import type { Session } from './session.js'

export interface Sessions {
  find(node: NodeId): Session | undefined
  list(): Iterable<Session>
  add(session: Session, facts: Facts): void
  /** False when a newer session has taken its place already. */
  remove(session: Session): boolean
  closeAll(reason?: LichenError): void
}

/** No sessions yet. */
export function buildSessions(log: EngineLog, metrics: EngineMetrics): Sessions {
  const byNode = new Map<NodeId, Session>()
  const count = (): void => metrics.sessions.set(byNode.size)
  return {
    find: (node) => byNode.get(node),
    list: () => byNode.values(),
    add(session, facts) {
      const older = byNode.get(session.node)
      byNode.set(session.node, session)
      if (older) {
        log.info({ nodeId: session.node }, 'a node opened a second stream; the first is closed')
        older.close()
      } else log.info({ nodeId: session.node, address: facts.address }, 'a node is connected')
      count()
    },
    remove(session) {
      if (byNode.get(session.node) !== session) return false
      byNode.delete(session.node)
      log.info({ nodeId: session.node }, 'a node is disconnected')
      count()
      return true
    },
    closeAll(reason) {
      for (const session of [...byNode.values()]) session.close(reason)
    },
  }
}
