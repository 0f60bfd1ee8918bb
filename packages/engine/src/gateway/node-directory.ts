/**
 * The registered nodes as this engine knows them. Owns a copy of the store's node list, of which each read brings what has changed, and writes back what sessions tell: facts, heartbeats,
 * `ready` and `lost`. Invariants: (1) the copy is at most `nodesRefreshMs` old while the store answers, but for `lastSeenAt` of nodes with a session here, which is the newest there is; (2) one read is under way at most, and whoever
 * misses a node waits for a read that began after it asked; (3) heartbeats are written together, once a second at most; (4) a node without a session
 * here is recorded as lost only when no engine had heard of it for the limit when the list was read; (5) whoever has the session of a node says so until the store agrees: another
 * engine's word, held up while the store was away, may come after it and be older.
 */
import type { Clock, Facts, NodeId, NodeReach } from '@lichen/core'
import type { NodeChanges, NodeStore, StoredNode } from '@lichen/store'
import type { NodeIdentity } from '../authority/authority.js'
import type { EngineLimits } from '../engine-limits.js'
import type { EngineLog } from '../engine-log.js'
import { heartbeatIntervalOf } from './heartbeat-pace.js'

/** A node of the copy. Hundreds of heartbeats a second do not make it anew: who holds it sees them. */
type KnownNode = Omit<StoredNode, 'lastSeenAt'> & { lastSeenAt: number }

export interface NodeDirectory {
  find(node: NodeId): StoredNode | undefined
  list(): Iterable<StoredNode>
  /** How often each node has to say that it is alive, ms: by how many are registered now. */
  heartbeatIntervalMs(): number
  /** How long a node may be silent before it is lost, ms. */
  lostAfterMs(): number
  /** True when the store has this very registration of the node, as of a second ago at most; reads again before it says no. */
  isRegistered(identity: Pick<NodeIdentity, 'node' | 'registration'>): Promise<boolean>
  /** The list, as read after this call; by id. */
  refresh(): Promise<readonly StoredNode[]>
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
  /** By id, in their order. */
  let known = new Map<NodeId, KnownNode>()
  const heartbeatIntervalMs = (): number => heartbeatIntervalOf(known.size, limits)
  const lostAfterMs = (): number => heartbeatIntervalMs() * limits.lostAfterHeartbeats
  let cursor = 0
  let readAt = Number.NEGATIVE_INFINITY
  let reading: Promise<readonly StoredNode[]> | undefined
  let next: Promise<readonly StoredNode[]> | undefined
  let signs = new Map<NodeId, Sign & { readonly seenAt: number }>()
  let writing: Promise<void> = Promise.resolve()

  async function read(): Promise<readonly StoredNode[]> {
    const begunAt = clock.elapsed()
    const isFirst = cursor === 0
    let changes = await nodes.readNodeChanges(cursor, engine)
    let isChanged = false
    if (known.size + countNew(changes) !== changes.count) {
      // Some were deleted.
      changes = await nodes.readNodeChanges(0, engine)
      const there = new Set(changes.changed.map(({ id }) => id))
      for (const id of known.keys()) if (!there.has(id)) known.delete(id)
      isChanged = true
    }
    readAt = begunAt
    cursor = changes.cursor
    const hasNew = countNew(changes) > 0
    for (const node of changes.changed) if (learn(node)) isChanged = true
    if (hasNew) known = new Map([...known].sort(([left], [right]) => (left < right ? -1 : 1)))
    for (const { id, lastSeenAt } of changes.seen) {
      const node = known.get(id)
      if (node === undefined) continue
      node.lastSeenAt = Math.max(node.lastSeenAt, lastSeenAt)
      if (hasSession(id)) claim(node)
    }
    if (isChanged && !isFirst) changed()
    return [...known.values()]
  }

  const countNew = ({ changed }: NodeChanges): number => changed.reduce((sum, { id }) => sum + (known.has(id) ? 0 : 1), 0)

  /** True when others have to know: it is new, has another key, is cordoned or is so no longer. */
  function learn(node: StoredNode): boolean {
    const before = known.get(node.id)
    const isSame = before?.keyDigest === node.keyDigest
    // Here it may have been heard of since it was written.
    known.set(node.id, isSame ? { ...node, lastSeenAt: Math.max(node.lastSeenAt, before.lastSeenAt) } : { ...node })
    if (hasSession(node.id)) claim(node)
    return !isSame || before.cordoned !== node.cordoned
  }

  /** The node has a session here: the store has to say so. */
  function claim(node: StoredNode): void {
    if (node.engine !== engine || node.state !== 'ready') signs.set(node.id, { seenAt: node.lastSeenAt, ...signs.get(node.id), engine, state: 'ready' })
  }

  /** A read that begins now or later: one that runs already may have missed what the caller looks for. */
  function refresh(): Promise<readonly StoredNode[]> {
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
    // What came after the read had begun is not in it, however long it took.
    const oldest = clock.now() - (clock.elapsed() - readAt) - lostAfterMs()
    const lost = [...known.values()].filter((node) => node.state === 'ready' && !hasSession(node.id) && node.lastSeenAt < oldest && startedAt < oldest)
    if (lost.length === 0) return
    await nodes.updateNodes(lost.map((node) => ({ node: node.id, state: 'lost' as const, seenAt: node.lastSeenAt })))
    for (const node of lost) {
      known.set(node.id, { ...node, state: 'lost' })
      log.warn({ nodeId: node.id, lastSeenAt: node.lastSeenAt }, 'a node is lost: it has been silent for longer than the limit')
    }
  }

  const refreshTimer = clock.every(Math.min(limits.nodesRefreshMs, limits.heartbeatIntervalMs * limits.lostAfterHeartbeats), () => {
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
    heartbeatIntervalMs,
    lostAfterMs,
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
      const record = known.get(node)
      const isNews = facts !== undefined || record?.state !== 'ready'
      sign(node, isNews ? { ...(facts === undefined ? {} : { facts }), state: 'ready' } : {})
      if (record === undefined) return
      if (isNews) known.set(node, { ...record, ...(facts === undefined ? {} : { facts }), state: 'ready', lastSeenAt: clock.now() })
      else record.lastSeenAt = clock.now()
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
