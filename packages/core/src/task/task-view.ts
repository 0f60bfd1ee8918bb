/**
 * The state of a task: the fold of its events. Produced by state.ts, read by decide.ts, the engine and the API.
 */
import type { ActionId, NodeId } from '../ids.js'
import type { AttemptResult, Failure, Outcome } from '../command/result.js'
import type { ActionGraph, TaskKind } from '../graph/action-graph.js'
import type { TaskOutcome } from './events.js'
import type { Problem } from '../errors.js'
import type { OperationRequest } from '../plan/operation-request.js'
import type { RotationRequest } from '../secret/versions.js'

/** `pending`: not begun. `sent`: an attempt is live. `waitingRetry`: the last attempt failed, another is planned. Else how it ended. */
export type ActionState = 'pending' | 'sent' | 'waitingRetry' | 'skipped' | Outcome

export interface ActionView {
  readonly id: ActionId
  readonly node: NodeId
  readonly state: ActionState
  /** Number of the newest attempt, from 1; 0 before the first. Goes on counting over retries of the task. */
  readonly attempt: number
  /** Attempts since the last `retryRequested`: what the retry limit counts. */
  readonly attemptsInRun: number
  readonly epoch: number
  readonly sentAt: number | null
  /** When the first attempt of this run was sent. */
  readonly begunAt: number | null
  /** Limit of the live attempt on its node. */
  readonly timeoutMs: number | null
  /** Of the live attempt: when the engine stops waiting. */
  readonly deadline: number | null
  readonly notBefore: number | null
  readonly endedAt: number | null
  readonly result: AttemptResult | null
  /** Why it was skipped or is retried; who settled it; since which task it is unchanged. */
  readonly reason: string
  /** True when it counts as succeeded without having run: see `actionUnchanged`. */
  readonly isUnchanged: boolean
}

/** `closed`: what it comes after is not settled. `waiting`: for a person's approval. `failed`: too much of what it comes after failed, it will not open in this run. */
export type GateState = 'closed' | 'waiting' | 'open' | 'failed'

export interface GateView {
  readonly id: ActionId
  readonly state: GateState
  /** When it came into this state. */
  readonly since: number
  /** Who approved it, when somebody did. */
  readonly approvedBy: string | null
  readonly reason: string
}

export interface TaskView {
  readonly kind: TaskKind
  readonly state: 'accepted' | 'running' | 'paused' | 'cancelling' | 'ended'
  readonly outcome: TaskOutcome | null
  readonly reason: string
  readonly failure: Failure | null
  readonly problems: readonly Problem[]
  readonly graph: ActionGraph | null
  readonly actions: ReadonlyMap<ActionId, ActionView>
  readonly gates: ReadonlyMap<ActionId, GateView>
  readonly counts: Readonly<Record<ActionState, number>>
  /** Actions that count as succeeded because nothing about them changed. */
  readonly unchanged: number
  readonly previewDigest: string | null
  /** Of the kind `operation`: which one, and on what; else null. */
  readonly operation: OperationRequest | null
  /** Of an apply that rotates secrets: which ones; else null. */
  readonly rotation: RotationRequest | null
  readonly seq: number
  readonly epoch: number
  readonly acceptedAt: number
  /** When this run began: at acceptance, or at the last retry. */
  readonly runSince: number
  readonly endedAt: number | null
}

/** Why something waits, in words an operator understands at three in the morning. */
export interface Waiting {
  readonly reason: string
  readonly since: number
  /** Deadline of the wait, ms since the epoch; null when only a person can end it. */
  readonly until: number | null
  /** Who can help: `engine`, `node <id>`, `task <id>`, `operator`. */
  readonly owner: string
}

// Functions over this view (written in state.ts, decide.ts, waiting.ts):
//   buildTaskView(events, graph) → TaskView            fold from nothing
//   applyEvent(view, recorded, graph?) → TaskView      one step; @throws TASK_ILLEGAL_EVENT
//   decide(view, world, now, limits) → Decision[]
//   waitingFor(view, action, surroundings) → Waiting | null
