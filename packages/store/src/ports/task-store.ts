/** Port: tasks, their events and graphs, leases, and the outbox that announces them. */
import type { ActionGraph, RecordedEvent, TaskEvent, TaskId, TaskKind, TaskOutcome } from '@lichen/core'

/** Where in its life a task is: derived from its events, kept on its row for lists. */
export type TaskState = 'accepted' | 'running' | 'cancelling' | 'ended'

/** The row of a task, for lists. Counts are of actions by state. */
export interface TaskSummary {
  readonly id: TaskId
  readonly kind: TaskKind
  readonly project: string
  readonly deployment: string
  readonly state: TaskState
  readonly outcome: TaskOutcome | null
  /** Last reason in words: of the outcome, or of the wait. */
  readonly reason: string
  readonly counts: Readonly<Record<string, number>>
  /** Highest event. */
  readonly seq: number
  readonly createdAt: number
  readonly updatedAt: number
}

/** What the engine learned that belongs on the row; written in the transaction of the events it follows from. */
export interface SummaryChange {
  readonly state: TaskState
  readonly outcome: TaskOutcome | null
  readonly reason: string
  readonly counts: Readonly<Record<string, number>>
}

export interface NewTask {
  readonly id: TaskId
  readonly kind: TaskKind
  readonly project: string
  readonly deployment: string
  /** The plan as accepted, JSON text. */
  readonly plan: string
  /** Must be `taskAccepted`. */
  readonly event: TaskEvent
  readonly at: number
  /** Same key, same task: a second create with it and the same `requestDigest` answers the first task's id. */
  readonly idempotencyKey?: string
  readonly requestDigest: string
}

/** One task's part of a batch append. */
export interface Append {
  readonly task: TaskId
  /** Highest event the writer has seen; another one in the store means a conflict. */
  readonly expectedSeq: number
  /** Epoch of the writer's lease; null for requests of the API (cancel, retry), which need no lease. */
  readonly epoch: number | null
  readonly events: readonly TaskEvent[]
  readonly at: number
  readonly summary?: SummaryChange
  /** Stored beside `taskPlanned`. */
  readonly graph?: ActionGraph
  /** Ring the bell for this task (outbox row), as a new, cancelled or retried task needs. */
  readonly announce?: boolean
}

/** `conflict`: read the events after `expectedSeq` and decide again. `fenced`: another engine holds the lease; stop driving. */
export type AppendAnswer = 'appended' | 'conflict' | 'fenced'

export interface Lease {
  readonly task: TaskId
  readonly epoch: number
  readonly until: number
}

export interface OutboxRow {
  readonly id: number
  readonly task: TaskId
  /** JSON of the message to publish. */
  readonly message: string
}

export interface TaskStore {
  /** Commits row, plan, first event and outbox row in one transaction. @throws REQUEST_IDEMPOTENCY_CONFLICT when the key was used with another digest. */
  create(task: NewTask): Promise<{ readonly id: TaskId; readonly isNew: boolean }>
  /** One transaction for the whole batch; each part has its own answer and a refused part does not stop the others. Durable when it returns. */
  append(parts: readonly Append[]): Promise<readonly AppendAnswer[]>
  /** Events after `afterSeq`, at most `limit` (default: all). Empty for an unknown task. */
  readEvents(task: TaskId, afterSeq: number, limit?: number): Promise<readonly RecordedEvent[]>
  /** Row, plan (JSON text) and graph (null before planning); undefined for an unknown task. */
  read(task: TaskId): Promise<{ readonly summary: TaskSummary; readonly plan: string; readonly graph: ActionGraph | null } | undefined>
  /** The row alone, without its documents: cheap however large the graph is. Undefined for an unknown task. */
  readSummary(task: TaskId): Promise<TaskSummary | undefined>
  /** The task that was created with this Idempotency-Key and the digest of its request; undefined while the key is unused or forgotten. */
  findIdempotencyKey(key: string): Promise<{ readonly id: TaskId; readonly requestDigest: string } | undefined>
  /** Newest first, after `before` (exclusive id), with filters. */
  list(query: { readonly limit: number; readonly before?: TaskId; readonly project?: string; readonly deployment?: string; readonly state?: TaskState }): Promise<readonly TaskSummary[]>
  /** Takes the lease if it is free, expired or already this engine's (then the same epoch is kept); else undefined. A new owner gets a higher epoch. */
  claim(task: TaskId, engine: string, now: number, ttlMs: number): Promise<Lease | undefined>
  /** Extends the leases this engine still holds and gives back each of them with the highest seq of its task. What is missing in the answer was lost. `release` gives up. */
  renew(engine: string, tasks: readonly TaskId[], now: number, ttlMs: number): Promise<ReadonlyMap<TaskId, number>>
  release(task: TaskId, engine: string): Promise<void>
  /** Placement of the newest planned apply task of this deployment: nodes chosen once stay chosen. Undefined when there is none. */
  readPlacement(project: string, deployment: string): Promise<ActionGraph['placement'] | undefined>
  /** Tasks that have not ended and whose lease is free or expired: what a starting engine and the sweeper look for. */
  listUnowned(now: number, limit: number): Promise<readonly TaskId[]>
}

/** The outbox: written by TaskStore in the same transaction, emptied by the announcer. */
export interface OutboxStore {
  /** Oldest first. */
  readOutbox(limit: number): Promise<readonly OutboxRow[]>
  /** After the broker confirmed. */
  deleteOutbox(ids: readonly number[]): Promise<void>
}
