/** Port: tasks, their events and graphs, leases, and the outbox that announces them. */
import type { ActionGraph, ActionId, Footprint, NodeId, RecordedEvent, TaskEvent, TaskId, TaskKind, TaskOutcome } from '@lichen/core'

/** Where in its life a task is: derived from its events, kept on its row for lists. */
export type TaskState = 'accepted' | 'running' | 'paused' | 'cancelling' | 'ended'

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

/** What an action brought about on its node when it last succeeded: why it need not run again while its key is the same. */
export interface AppliedAction {
  readonly action: ActionId
  readonly node: NodeId
  /** Content key of the action (`Action.key`) as it succeeded. */
  readonly key: string
  /** The task in which it ran; secret outputs are kept under its scope. */
  readonly task: TaskId
  /** Plain outputs by name. */
  readonly outputs: Readonly<Record<string, string>>
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
  /** Stored beside `taskPlanned`; or in place of the graph that is there, beside a `retryRequested` with another digest. */
  readonly graph?: ActionGraph
  /** In place of the plan that is there (JSON text), beside a `retryRequested` with new parameters. */
  readonly plan?: string
  /** Recorded for the task's deployment: replaces what is known of the same actions. */
  readonly applied?: readonly AppliedAction[]
  /** No longer known for the task's deployment: what ran on these nodes may be anything now (the action failed, or was taken away). Done before `applied`. */
  readonly unapplied?: readonly ActionId[]
  /** Ring the bell for this task (outbox row), as a new, cancelled or retried task needs. */
  readonly announce?: boolean
}

/** `conflict`: read the events after `expectedSeq` and decide again. `fenced`: another engine holds the lease; stop driving. */
export type AppendAnswer = 'appended' | 'conflict' | 'fenced'

/** An engine process. `name` stays over restarts; `instance` is new for every process, so that two of one name cannot hold one epoch. */
export interface EngineIdentity {
  readonly name: string
  readonly instance: string
}

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

/** A footprint, and whose it is. */
export interface DeploymentFootprint extends Footprint {
  readonly project: string
  readonly deployment: string
}

/** What a deployment was last told to be, or that it is to be gone. */
export interface LastPlan {
  readonly task: TaskId
  readonly kind: 'apply' | 'destroy'
  readonly plan: string
}

export interface TaskStore {
  /**
   * Commits row, plan, first event and outbox row in one transaction. The very same task once more (id, plan, event and time), whose first answer was lost, is not new.
   * @throws REQUEST_IDEMPOTENCY_CONFLICT when the key was used with another digest, STORE_CONFLICT when another task has the id
   */
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
  list(query: { readonly limit: number; readonly before?: TaskId; readonly project?: string; readonly deployment?: string; readonly state?: TaskState; readonly outcome?: TaskOutcome }): Promise<readonly TaskSummary[]>
  /**
   * Takes the lease if it is free, expired, or held under this engine's name; else undefined. The epoch is kept when this very instance has it already;
   * any other taking, also by a new process of the same name, gets a higher one.
   * Undefined too while it is another task's turn (rules/turn.ts): of the tasks of one deployment, other than checks, one at a time is taken until it has ended, the oldest first.
   */
  claim(task: TaskId, engine: EngineIdentity, now: number, ttlMs: number): Promise<Lease | undefined>
  /** Extends the leases this instance still holds and gives back each of them with the highest seq of its task. What is missing in the answer was lost. `release` gives up. */
  renew(engine: EngineIdentity, tasks: readonly TaskId[], now: number, ttlMs: number): Promise<ReadonlyMap<TaskId, number>>
  release(task: TaskId, engine: EngineIdentity): Promise<void>
  /** Names of the engines that hold the leases of these tasks; a task without a lease is missing. An expired lease that nobody took counts. */
  readOwners(tasks: readonly TaskId[]): Promise<ReadonlyMap<TaskId, string>>
  /** What is known to be applied of this deployment, in no order. */
  readApplied(project: string, deployment: string): Promise<readonly AppliedAction[]>
  /** What the newest planned apply task of this deployment left to know: nodes chosen once stay chosen, and what a new plan does not have leaves. Undefined when there is none. */
  readFootprint(project: string, deployment: string): Promise<Footprint | undefined>
  /** What `readFootprint` gives of each other deployment that was not destroyed. Reads the plans of all of them. */
  readOtherFootprints(project: string, deployment: string): Promise<readonly DeploymentFootprint[]>
  /** The newest apply or destroy of this deployment that was planned, with its plan as JSON text: what the deployment is. Undefined when there is none. */
  readLastPlan(project: string, deployment: string): Promise<LastPlan | undefined>
  /** The task of this deployment whose turn it is: the one that was taken and has not ended, or the oldest that waits. Checks have no turn. Undefined when there is none. */
  readFront(project: string, deployment: string): Promise<TaskId | undefined>
  /** Tasks that have not ended, whose turn it is and whose lease is free or expired: what a starting engine and the sweeper look for. */
  listUnowned(now: number, limit: number): Promise<readonly TaskId[]>
}

/** The outbox: written by TaskStore in the same transaction, emptied by the announcer. */
export interface OutboxStore {
  /** Oldest first. */
  readOutbox(limit: number): Promise<readonly OutboxRow[]>
  /** After the broker confirmed. */
  deleteOutbox(ids: readonly number[]): Promise<void>
}
