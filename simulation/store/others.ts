/** Nodes, engines, logs and sealed values in memory, with the semantics of the real adapters. Every call is atomic and durable when it returns. */
import { isDeepStrictEqual } from 'node:util'
import { type ActionId, LichenError, type NodeId, type TaskId } from '@lichen/core'
import type { EngineIdentity, EngineRecord, JoinTokenRecord, LogChunkRecord, LogStore, NewLogChunk, NodeChanges, NodeStore, SealedSecret, SecretStore, StoredNode } from '@lichen/store'
import { decideAdmission } from '../../packages/store/dist/rules/admission-rules.js'
import { rowLifeMs } from '../../packages/store/dist/rules/engine-rules.js'
import { attemptKey, buildEnds, type LogAnswer, placeChunks, type PlacedChunk } from '../../packages/store/dist/rules/log-rules.js'
import { mergeChanges, type NodeChange, unknownFacts } from '../../packages/store/dist/rules/node-rules.js'

/** Nodes and join tokens. */
export class NodeTables {
  readonly #nodes = new Map<NodeId, StoredNode>()
  /** When more than `lastSeenAt` of a node changed last. */
  readonly #revisions = new Map<NodeId, number>()
  #revision = 0
  readonly #tokens = new Map<string, JoinTokenRecord>()

  putJoinToken(token: JoinTokenRecord): void {
    this.#tokens.set(token.id, token)
  }

  listJoinTokens(): JoinTokenRecord[] {
    return [...this.#tokens.values()].sort((left, right) => left.createdAt - right.createdAt || (left.id < right.id ? -1 : 1))
  }

  deleteJoinToken(id: string): boolean {
    return this.#tokens.delete(id)
  }

  admitNode(input: Parameters<NodeStore['admitNode']>[0]): { readonly labels: Readonly<Record<string, string>> } | LichenError {
    const token = this.#tokens.get(input.tokenId)
    const taken = this.#nodes.get(input.node)
    const decided = decideAdmission(input, token && { ...token, labels: JSON.stringify(token.labels) }, taken && { keyDigest: taken.keyDigest, labels: JSON.stringify(taken.labels) })
    if (decided instanceof LichenError) return decided
    if (!decided.isNew) return { labels: decided.labels }
    if (token && token.usesLeft !== null) this.#tokens.set(token.id, { ...token, usesLeft: token.usesLeft - 1 })
    const { node, agentVersion, keyDigest, now } = input
    this.#put({ id: node, labels: decided.labels, facts: unknownFacts(node), state: 'lost', cordoned: false, agentVersion, keyDigest, joinedAt: now, lastSeenAt: now, engine: null })
    return { labels: decided.labels }
  }

  updateNodes(changes: readonly NodeChange[]): void {
    const engines = new Map(changes.map(({ node }) => [node as string, this.#nodes.get(node)?.engine ?? null]))
    for (const { node, seenAt, ...change } of mergeChanges(changes, engines)) {
      const known = this.#nodes.get(node)
      if (known) this.#put({ ...known, ...change, lastSeenAt: Math.max(known.lastSeenAt, seenAt) })
    }
  }

  setNode(node: NodeId, change: { labels?: Readonly<Record<string, string>>; cordoned?: boolean }): boolean {
    const known = this.#nodes.get(node)
    if (known) this.#put({ ...known, ...change })
    return known !== undefined
  }

  listNodes(): StoredNode[] {
    return [...this.#nodes.values()].sort((left, right) => (left.id < right.id ? -1 : 1))
  }

  readNodeChanges(since: number, engine: string): NodeChanges {
    const nodes = this.listNodes()
    const isChanged = ({ id }: StoredNode): boolean => this.#revisions.get(id)! > since
    const seen = nodes.filter((node) => !isChanged(node) && node.state === 'ready' && node.engine !== engine).map(({ id, lastSeenAt }) => ({ id, lastSeenAt }))
    return { cursor: this.#revision, changed: nodes.filter(isChanged), seen, count: nodes.length }
  }

  deleteNode(node: NodeId): boolean {
    return this.#nodes.delete(node)
  }

  #put(node: StoredNode): void {
    const before = this.#nodes.get(node.id)
    this.#nodes.set(node.id, node)
    if (!isDeepStrictEqual({ ...before, lastSeenAt: 0 }, { ...node, lastSeenAt: 0 })) this.#revisions.set(node.id, ++this.#revision)
  }
}

/** Engines that run. */
export class EngineTables {
  readonly #engines = new Map<string, EngineRecord>()

  registerEngine(engine: EngineRecord, now: number, isSuccessor: boolean): 'registered' | 'taken' {
    const known = this.#engines.get(engine.name)
    if (known !== undefined && known.instance !== engine.instance && known.until > now && !isSuccessor) return 'taken'
    this.#engines.set(engine.name, engine)
    return 'registered'
  }

  renewEngine({ name, instance }: EngineIdentity, until: number): boolean {
    const known = this.#engines.get(name)
    if (known?.instance !== instance) return false
    this.#engines.set(name, { ...known, until: Math.max(known.until, until) })
    return true
  }

  removeEngine({ name, instance }: EngineIdentity): void {
    if (this.#engines.get(name)?.instance === instance) this.#engines.delete(name)
  }

  listEngines(now: number): EngineRecord[] {
    for (const { name, until } of this.#engines.values()) if (until < now - rowLifeMs) this.#engines.delete(name)
    return [...this.#engines.values()].sort((left, right) => (left.name < right.name ? -1 : 1))
  }
}

/** Task logs. */
export class LogTables {
  readonly #chunks = new Map<string, LogChunkRecord[]>()
  readonly #ends = new Map<string, number>()
  readonly #next = new Map<string, number>()
  readonly #stored: (placed: PlacedChunk) => void

  /** `stored` is told of all that is stored, in order. */
  constructor(stored: (placed: PlacedChunk) => void) {
    this.#stored = stored
  }

  appendLog(chunks: readonly NewLogChunk[]): LogAnswer[] {
    const ends = buildEnds(chunks)
    for (const [key, end] of ends.attempts) end.next = this.#next.get(key) ?? 0
    for (const { task } of chunks) ends.tasks.set(task, this.#ends.get(task) ?? 0)
    const { answers, placed } = placeChunks([chunks], ends)
    for (const one of placed) this.#place(one)
    return answers[0] ?? []
  }

  readLog(task: TaskId, offset: number, maxBytes: number, filter: NonNullable<Parameters<LogStore['readLog']>[3]> = {}): LogChunkRecord[] {
    const isWanted = (chunk: LogChunkRecord): boolean =>
      chunk.offset + chunk.data.byteLength > offset && (filter.node === undefined || chunk.node === filter.node) && (filter.action === undefined || chunk.action === filter.action)
    const isFiltered = filter.node !== undefined || filter.action !== undefined
    const page: LogChunkRecord[] = []
    let bytes = 0
    for (const chunk of this.#chunks.get(task) ?? []) {
      if (!isWanted(chunk)) continue
      if (isFiltered ? bytes >= maxBytes : chunk.offset >= offset + Math.max(1, maxBytes)) break
      bytes += chunk.data.byteLength
      page.push(chunk)
    }
    return page
  }

  logEnd(task: TaskId): number {
    return this.#ends.get(task) ?? 0
  }

  /** Bytes stored of the attempt. */
  attemptEnd(task: TaskId, action: ActionId, attempt: number): number {
    return this.#next.get(attemptKey(task, action, attempt)) ?? 0
  }

  #place(placed: PlacedChunk): void {
    const { chunk, offset, position, data } = placed
    const ofTask = this.#chunks.get(chunk.task) ?? []
    this.#chunks.set(chunk.task, ofTask)
    const { task, action, attempt, node, command, stream, at } = chunk
    ofTask.push({ task, action, attempt, node, position, command, stream, at, data: Buffer.from(data), offset })
    this.#ends.set(chunk.task, offset + data.byteLength)
    this.#next.set(attemptKey(chunk.task, chunk.action, chunk.attempt), position + data.byteLength)
    this.#stored(placed)
  }
}

type ApiToken = Parameters<SecretStore['putApiToken']>[0]

/** Sealed values, API tokens and the audit trail. */
export class SecretTables {
  readonly #secrets = new Map<string, Map<string, SealedSecret>>()
  readonly #tokens = new Map<string, ApiToken>()
  readonly #audit: Parameters<SecretStore['appendAudit']>[0][] = []

  putSecretsIfAbsent(secrets: readonly SealedSecret[]): void {
    for (const secret of secrets) if (!this.#scope(secret.scope).has(secret.name)) this.putSecret(secret)
  }

  putSecret({ scope, name, sealed }: SealedSecret): void {
    this.#scope(scope).set(name, { scope, name, sealed: Buffer.from(sealed) })
  }

  readSecrets(scope: string): SealedSecret[] {
    return [...this.#scope(scope).values()].sort((left, right) => (left.name < right.name ? -1 : 1))
  }

  putApiToken(token: ApiToken): void {
    this.#tokens.set(token.id, token)
  }

  findApiToken(digest: string): { readonly id: string; readonly name: string; readonly expiresAt: number | null } | undefined {
    const found = [...this.#tokens.values()].find((token) => token.digest === digest)
    return found && { id: found.id, name: found.name, expiresAt: found.expiresAt }
  }

  appendAudit(entry: Parameters<SecretStore['appendAudit']>[0]): void {
    this.#audit.push(entry)
  }

  #scope(scope: string): Map<string, SealedSecret> {
    const known = this.#secrets.get(scope) ?? new Map<string, SealedSecret>()
    this.#secrets.set(scope, known)
    return known
  }
}
