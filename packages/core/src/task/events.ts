/**
 * Events of a task: facts, appended and never changed. The state of a task is their fold (state.ts). `seq` counts from 1 without a hole.
 */
import type { ActionId, NodeId, TaskId } from '../ids.js'
import type { AttemptResult, Failure } from '../command/result.js'
import type { TaskKind } from '../graph/action-graph.js'
import type { Problem } from '../errors.js'
import type { OperationRequest } from '../plan/operation-request.js'
import type { RotationRequest } from '../secret/versions.js'

/** How a task ended. `timedOut`: its own time limit was over. */
export type TaskOutcome = 'succeeded' | 'failed' | 'timedOut' | 'cancelled' | 'rejected'

export type TaskEvent =
  /** First event, recorded by the API with the task's row. `previewDigest`: the graph must have this digest, else the task ends `rejected`. */
  | { readonly type: 'taskAccepted'; readonly kind: TaskKind; readonly project: string; readonly deployment: string; readonly planDigest: string; readonly previewDigest?: string; readonly operation?: OperationRequest; readonly rotation?: RotationRequest; readonly by: string }
  /** An engine holds the lease. Repeated at each take-over. */
  | { readonly type: 'taskClaimed'; readonly engine: string; readonly epoch: number }
  /** The graph is stored beside this event. From here on the task is driven. */
  | { readonly type: 'taskPlanned'; readonly graphDigest: string; readonly actionCount: number }
  /** Intent: recorded before the order is sent. `timeoutMs`: limit of the attempt on its node. `deadline`: when the engine stops waiting for an answer (ms since the epoch). */
  | { readonly type: 'actionSent'; readonly action: ActionId; readonly attempt: number; readonly node: NodeId; readonly epoch: number; readonly timeoutMs: number; readonly deadline: number }
  | { readonly type: 'actionEnded'; readonly action: ActionId; readonly attempt: number; readonly result: AttemptResult }
  /** A failed attempt is tried again not before `notBefore` (ms since the epoch). */
  | { readonly type: 'actionRetryPlanned'; readonly action: ActionId; readonly attempt: number; readonly notBefore: number; readonly reason: string }
  | { readonly type: 'actionSkipped'; readonly action: ActionId; readonly reason: string }
  /** The action need not run: it succeeded in task `since` with the same content, and its check still holds. Counts as succeeded, with the outputs of then. */
  | { readonly type: 'actionUnchanged'; readonly action: ActionId; readonly since: TaskId; readonly reason: string }
  /** A person says what became of an attempt whose outcome was unknown. */
  | { readonly type: 'actionSettled'; readonly action: ActionId; readonly attempt: number; readonly as: 'succeeded' | 'failed'; readonly by: string; readonly reason: string }
  /** A person says that an action whose outcome was unknown may run again. */
  | { readonly type: 'actionRunAgain'; readonly action: ActionId; readonly attempt: number; readonly by: string; readonly reason: string }
  | { readonly type: 'gateApproved'; readonly gate: ActionId; readonly by: string; readonly reason: string }
  /** Nothing new is begun until `resumeRequested`; what runs goes on. */
  | { readonly type: 'pauseRequested'; readonly by: string; readonly reason: string }
  | { readonly type: 'resumeRequested'; readonly by: string }
  | { readonly type: 'cancelRequested'; readonly by: string; readonly reason: string }
  /** The time limit of the task is over: from here on as if it were cancelled, but it ends `timedOut`. */
  | { readonly type: 'taskLimitReached'; readonly reason: string }
  /**
   * Actions that did not succeed start over; the task runs again. Recorded by the API on an ended task. `nodes`: only those on these nodes, the others stay as they are.
   * `graphDigest`: the graph stored beside this event takes the place of the one before: same actions and order, other commands of actions that had not succeeded.
   */
  | { readonly type: 'retryRequested'; readonly by: string; readonly nodes?: readonly NodeId[]; readonly graphDigest?: string }
  | { readonly type: 'taskEnded'; readonly outcome: TaskOutcome; readonly reason: string; readonly failure?: Failure; readonly problems?: readonly Problem[] }

export type TaskEventType = TaskEvent['type']

/** An event as the store gives it back. `at`: ms since the epoch, by the clock of the writer. */
export interface RecordedEvent {
  readonly seq: number
  readonly at: number
  readonly event: TaskEvent
}
