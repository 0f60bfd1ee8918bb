/**
 * The state of a task as the fold of its events. `applyEvent` changes the view it is given and gives the same object back: a task may have
 * 100,000 actions and events come in hundreds, so nobody copies it. Who needs an older state folds the events again.
 *
 * Owns the view, its counts and its index (task-index.ts). Invariants:
 * 1. total: an event either fits and is applied whole, or throws TASK_ILLEGAL_EVENT and changes nothing;
 * 2. deterministic: the same events and graph give the same view, whoever folds them;
 * 3. an event costs the number of the action's dependents; only a new graph and a retry of the task cost the number of actions;
 * 4. `seq` grows by one with each event: a missing or doubled event is refused.
 */
import { LichenError } from '../errors.js'
import type { ActionGraph } from '../graph/action-graph.js'
import { applyActionEnded, applyActionSent, applyActionSkipped, applyRetryPlanned, restartActions, settleFailure } from './action-transitions.js'
import type { RecordedEvent, TaskEvent } from './events.js'
import { buildEmptyIndex, buildIndex, resetIndex } from './task-index.js'
import type { TaskDraft, TrackedTask } from './tracked-task.js'

/**
 * The view after these events, which begin with the first. `graph`: the stored one; null is fine as long as no event says that the task is planned.
 * @throws TASK_ILLEGAL_EVENT
 */
export function buildTaskView(events: readonly RecordedEvent[], graph: ActionGraph | null): TrackedTask {
  const [first, ...rest] = events
  if (first === undefined) throw new LichenError('TASK_ILLEGAL_EVENT', 'a task has at least one event')
  const view = beginTask(first)
  for (const recorded of rest) applyEvent(view, recorded, graph)
  return view
}

/** A task that nobody has looked at yet. @throws TASK_ILLEGAL_EVENT unless the event is `taskAccepted` with seq 1 */
function beginTask({ seq, at, event }: RecordedEvent): TaskDraft {
  if (event.type !== 'taskAccepted' || seq !== 1) throw new LichenError('TASK_ILLEGAL_EVENT', `the first event is ${event.type} with seq ${seq}, not taskAccepted with seq 1`)
  return {
    kind: event.kind, state: 'accepted', outcome: null, reason: 'accepted; no engine has taken it yet', failure: null, problems: [], graph: null, actions: new Map(),
    counts: { pending: 0, sent: 0, waitingRetry: 0, skipped: 0, succeeded: 0, failed: 0, timedOut: 0, cancelled: 0, unknown: 0 },
    previewDigest: event.previewDigest ?? null, seq, epoch: 0, acceptedAt: at, endedAt: null, index: buildEmptyIndex(), cancelRequestedAt: null,
  }
}

/**
 * The view after one more event: the same object, changed. `graph` is needed for `taskPlanned` alone.
 * @throws TASK_ILLEGAL_EVENT when the event does not fit; the view is as it was
 */
export function applyEvent(view: TrackedTask, recorded: RecordedEvent, graph: ActionGraph | null = null): TrackedTask {
  const task = view as TaskDraft
  if (recorded.seq !== task.seq + 1) throw new LichenError('TASK_ILLEGAL_EVENT', `event ${recorded.seq} does not follow event ${task.seq}`)
  applyToTask(task, recorded.event, recorded.at, graph)
  task.seq = recorded.seq
  return view
}

function applyToTask(task: TaskDraft, event: TaskEvent, at: number, graph: ActionGraph | null): void {
  if (task.state === 'ended' && event.type !== 'retryRequested') refuse(task, event, 'the task has ended')
  switch (event.type) {
    case 'taskAccepted':
      return refuse(task, event, 'only the first event is this')
    case 'taskClaimed':
      if (event.epoch < task.epoch) refuse(task, event, `epoch ${event.epoch} is below ${task.epoch}`)
      task.epoch = event.epoch
      if (task.state === 'accepted') task.reason = `taken by engine ${event.engine}`
      return
    case 'taskPlanned':
      return applyPlanned(task, event, at, graph)
    case 'actionSent':
      return applyActionSent(task, event, at)
    case 'actionEnded':
      return applyActionEnded(task, event, at)
    case 'actionRetryPlanned':
      return applyRetryPlanned(task, event)
    case 'actionSkipped':
      return applyActionSkipped(task, event, at)
    case 'cancelRequested':
      return applyCancel(task, event, at)
    case 'retryRequested':
      return applyRetry(task, event, at)
    case 'taskEnded':
      return applyTaskEnded(task, event, at)
  }
}

function refuse(task: TaskDraft, event: TaskEvent, why: string): never {
  throw new LichenError('TASK_ILLEGAL_EVENT', `event ${task.seq + 1}, ${event.type}: ${why} (task is ${task.state})`)
}

function applyPlanned(task: TaskDraft, event: Extract<TaskEvent, { type: 'taskPlanned' }>, at: number, graph: ActionGraph | null): void {
  if (task.graph !== null) refuse(task, event, 'the task has a graph already')
  if (graph === null || graph.digest !== event.graphDigest || graph.actions.length !== event.actionCount) {
    return refuse(task, event, `the graph beside it is ${graph === null ? 'missing' : `${graph.digest} with ${graph.actions.length} actions`}, not ${event.graphDigest} with ${event.actionCount}`)
  }
  const index = buildIndex(graph, at)
  task.graph = graph
  task.index = index
  task.actions = new Map(index.vertices.map((vertex) => [vertex.action.id, vertex.view]))
  task.counts.pending = index.vertices.length
  if (task.state !== 'accepted') return
  task.state = 'running'
  task.reason = ''
}

function applyCancel(task: TaskDraft, event: Extract<TaskEvent, { type: 'cancelRequested' }>, at: number): void {
  if (task.state === 'cancelling') return
  task.state = 'cancelling'
  task.cancelRequestedAt = at
  task.reason = `cancel requested by ${event.by}${event.reason === '' ? '' : `: ${event.reason}`}`
  for (const vertex of [...task.index.unsettled.values()]) settleFailure(task, vertex)
}

function applyRetry(task: TaskDraft, event: TaskEvent, at: number): void {
  if (task.state !== 'ended') refuse(task, event, 'only an ended task is tried again')
  Object.assign(task, { state: task.graph === null ? 'accepted' : 'running', outcome: null, failure: null, problems: [], endedAt: null, cancelRequestedAt: null, reason: 'tried again' })
  restartActions(task)
  resetIndex(task.index, at)
}

function applyTaskEnded(task: TaskDraft, event: Extract<TaskEvent, { type: 'taskEnded' }>, at: number): void {
  if (task.index.open > 0) refuse(task, event, `${task.index.open} actions are not settled`)
  Object.assign(task, { state: 'ended', outcome: event.outcome, reason: event.reason, failure: event.failure ?? null, problems: event.problems ?? [], endedAt: at })
}
