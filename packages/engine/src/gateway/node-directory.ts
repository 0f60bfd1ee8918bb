/**
 * The registered nodes as this engine knows them. Owns a copy of the store's node list, and writes back what sessions tell: facts, heartbeats, `ready`
 * and `lost`. Invariants: (1) the copy is at most `nodesRefreshMs` old while the store answers; (2) one read is under way at most, and whoever
 * misses a node waits for a read that began after it asked; (3) heartbeats are written together, once a second at most; (4) a node without a session
 * here is recorded as lost only when no engine has heard of it for the limit; (5) whoever has the session of a node says so until the store agrees: another
 * engine's word, held up while the store was away, may come after it and be older.
 */
import type { Clock, Facts, NodeId, NodeReach, NodeRecord } from '@lichen/core'
import type { NodeStore } from '@lichen/store'
import type { NodeIdentity } from '../authority/authority.js'
import type { EngineLimits } from '../engine-limits.js'
import type { EngineLog } from '../engine-log.js'

export type RegisteredNode = NodeRecord & { readonly keyDigest: string; readonly engine: string | null }

export interface NodeDirectory {
  find(node: NodeId): RegisteredNode | undefined
  list(): Iterable<RegisteredNode>
  /** True when the store has this very registration of the node, as of a second ago at most; reads again before it says no. */
  isRegistered(identity: Pick<NodeIdentity, 'node' | 'registration'>): Promise<boolean>
  /** Reads the list anew, and gives it back. */
  refresh(): Promise<readonly RegisteredNode[]>
  /** A node said hello: recorded as ready at once. */
  recordHello(node: NodeId, facts: Facts, agentVersion: string): void
  /** The node's last stream here is closed. */
  recordGone(node: NodeId): void
  /** A node was heard of, perhaps with new facts. */
  recordSign(node: NodeId, facts?: Facts): void
  /** Whether an order would reach the node now. `isOpen`: it has a session here. */
  reachOf(node: NodeId, isOpen: boolean): NodeReach
  stop(): Promise<void>
}

interface Sign {
  readonly facts?: Facts
  readonly state?: 'ready' | 'lost'
  readonly agentVersion?: string
  readonly engine?: string
}

export interface NodeDirectoryParts {
  readonly nodes: NodeStore
  readonly clock: Clock
  /** Name of this engine: written beside the nodes whose stream ends here. */
  readonly engine: string
  readonly log: EngineLog
  readonly limits: EngineLimits
  /** True while the node has a session in this engine. */
  readonly hasSession: (node: NodeId) => boolean
  /** Called after each refresh that changed something, the first one excepted. */
  readonly changed: () => void
}

// Signs of life are written this often: one statement for all nodes. Faster costs commits, slower blurs `lastSeenAt`.
const writeSignsMs = 1_000
// How old the list may be when a node is let in. When thousands come at once they share a read instead of asking each for itself.
const admissionAgeMs = 1_000

/** A directory that has read the list once. */
export async function startNodeDirectory({ nodes, clock, engine, log, limits, hasSession, changed }: NodeDirectoryParts): Promise<NodeDirectory> {
  const startedAt = clock.now()
  const lostAfterMs = limits.heartbeatIntervalMs * limits.lostAfterHeartbeats
  let known = new Map<NodeId, RegisteredNode>()
  let fingerprint: string | undefined
  let readAt = Number.NEGATIVE_INFINITY
  let reading: Promise<readonly RegisteredNode[]> | undefined
  let next: Promise<readonly RegisteredNode[]> | undefined
  let signs = new Map<NodeId, Sign & { readonly seenAt: number }>()
  let writing: Promise<void> = Promise.resolve()

  async function read(): Promise<readonly RegisteredNode[]> {
    const begunAt = clock.elapsed()
    const list = await nodes.listNodes()
    readAt = begunAt
    known = new Map(list.map((node) => [node.id, node]))
    for (const node of list) if (node.engine !== engine && hasSession(node.id)) signs.set(node.id, { seenAt: node.lastSeenAt, ...signs.get(node.id), engine })
    const seen = list.map((node) => `${node.id} ${node.cordoned} ${node.keyDigest}`).join('\n')
    const isChanged = fingerprint !== undefined && seen !== fingerprint
    fingerprint = seen
    if (isChanged) changed()
    return list
  }

  /** A read that begins now or later: one that runs already may have missed what the caller looks for. */
  function refresh(): Promise<readonly RegisteredNode[]> {
    if (reading === undefined) {
      reading = read().finally(() => (reading = undefined))
      return reading
    }
    next ??= reading.catch(() => undefined).then(() => {
      next = undefined
      return refresh()
    })
    return next
  }

  function sign(node: NodeId, change: Sign): void {
    signs.set(node, { ...signs.get(node), ...change, seenAt: clock.now() })
  }

  function writeSigns(): void {
    if (signs.size === 0) return
    const unwritten = signs
    signs = new Map()
    writing = nodes.updateNodes([...unwritten].map(([node, change]) => ({ node, ...change }))).catch((error: unknown) => {
      log.warn({ err: error, nodes: unwritten.size }, 'signs of life could not be written; they will be with the next ones')
      // Facts and the engine are told once for each stream: what came meanwhile adds to them.
      for (const [node, change] of unwritten) signs.set(node, { ...change, ...signs.get(node) })
    })
  }

  async function recordLost(): Promise<void> {
    const oldest = clock.now() - lostAfterMs
    const lost = [...known.values()].filter((node) => node.state === 'ready' && !hasSession(node.id) && node.lastSeenAt < oldest && startedAt < oldest)
    if (lost.length === 0) return
    await nodes.updateNodes(lost.map((node) => ({ node: node.id, state: 'lost' as const, seenAt: node.lastSeenAt })))
    for (const node of lost) {
      known.set(node.id, { ...node, state: 'lost' })
      log.warn({ nodeId: node.id, lastSeenAt: node.lastSeenAt }, 'a node is lost: it has been silent for longer than the limit')
    }
  }

  const refreshTimer = clock.every(Math.min(limits.nodesRefreshMs, lostAfterMs), () => {
    refresh()
      .then(recordLost)
      .catch((error: unknown) => log.warn({ err: error }, 'the list of nodes could not be read; going on with what is known'))
  })
  const signsTimer = clock.every(Math.min(writeSignsMs, limits.heartbeatIntervalMs), writeSigns)
  try {
    await refresh()
  } catch (error) {
    refreshTimer.cancel()
    signsTimer.cancel()
    throw error
  }

  return {
    find: (node) => known.get(node),
    list: () => known.values(),
    async isRegistered({ node, registration }) {
      if (known.get(node)?.keyDigest !== registration || readAt + admissionAgeMs < clock.elapsed()) await refresh()
      return known.get(node)?.keyDigest === registration
    },
    refresh,
    recordHello(node, facts, agentVersion) {
      sign(node, { facts, agentVersion, state: 'ready', engine })
      const record = known.get(node)
      if (record) known.set(node, { ...record, facts, agentVersion, state: 'ready', lastSeenAt: clock.now() })
      writeSigns()
    },
    recordGone(node) {
      // Not a sign of life: `seenAt` only ever grows, so 0 leaves it.
      nodes.updateNodes([{ node, seenAt: 0, engine: null, ifEngine: engine }]).catch((error: unknown) => log.debug({ err: error, nodeId: node }, 'that a stream is gone could not be written'))
    },
    recordSign(node, facts) {
      sign(node, facts === undefined ? { state: 'ready' } : { facts, state: 'ready' })
      const record = known.get(node)
      if (record) known.set(node, { ...record, ...(facts === undefined ? {} : { facts }), state: 'ready', lastSeenAt: clock.now() })
    },
    reachOf(node, isOpen) {
      const record = known.get(node)
      if (record === undefined) return { state: 'gone', since: 0 }
      if (!isOpen) return { state: 'lost', since: Math.max(record.lastSeenAt, startedAt) }
      return { state: record.cordoned ? 'cordoned' : 'ready', since: 0 }
    },
    async stop() {
      refreshTimer.cancel()
      signsTimer.cancel()
      writeSigns()
      await writing
      await reading?.catch(() => undefined)
    },
  }
}
