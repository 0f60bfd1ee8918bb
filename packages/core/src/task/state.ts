/**
 * The state of a task as the fold of its events. `applyEvent` changes the view it is given and gives the same object back: a task may have
 * 100,000 actions and events come in hundreds, so nobody copies it. Who needs an older state folds the events again.
 *
 *   accepted ──planned──> running ⇄ paused         cancel, or the task's limit, from each of the three: cancelling
 *   running, cancelling ──every action settled──> ended ──retry──> running
 *
 * Paused: nothing is sent, skipped or left out as unchanged; results are recorded, retries planned, questions answered. Limits of attempts, actions and the task go on;
 * the wait for a turn does not, for it is the pause that lasts. Everything settled, it still waits to be resumed: it ends by a person or by its limit, not by itself.
 * Action: pending → sent → its outcome; failed → waitingRetry → sent; unknown → a person's answer → succeeded, failed or pending; pending → skipped, or succeeded as unchanged.
 * Gate: closed → (waiting →) open, or failed.
 *
 * Owns the view, its counts and its index (task-index.ts). Invariants:
 * 1. total: an event either fits and is applied whole, or throws TASK_ILLEGAL_EVENT and changes nothing;
 * 2. deterministic: the same events and graph give the same view, whoever folds them;
 * 3. an event costs the number of the action's dependents, through the gates that it settles; only a new graph and a retry of the task cost the number of actions;
 * 4. `seq` grows by one with each event: a missing or doubled event is refused;
 * 5. of several graphs only the newest is kept: it is the one for all events, which fit because it has the same vertices and arrows as those before.
 */
import { LichenError } from '../errors.js'
import type { ActionGraph } from '../graph/action-graph.js'
import { applyActionEnded, applyActionSent, applyActionSkipped, applyActionUnchanged, applyRetryPlanned, type EventOf, restartActions, settleFailure } from './action-transitions.js'
import { applyActionRunAgain, applyActionSettled, applyGateApproved } from './answer-transitions.js'
import { adoptGraph, buildEmptyIndex, buildIndex, resetIndex } from './build-index.js'
import type { RecordedEvent, TaskEvent } from './events.js'
import { withdrawQuestions } from './gate-transitions.js'
import { hasSameShape } from './graph-change.js'
import { passPending } from './task-index.js'
import type { TaskDraft, TrackedTask } from './tracked-task.js'

/**
 * The view after these events, which begin with the first. `graph`: the newest stored one; null is fine as long as no event says that the task is planned.
 * @throws TASK_ILLEGAL_EVENT
 */
export function buildTaskView(events: readonly RecordedEvent[], graph: ActionGraph | null): TrackedTask {
  const [first, ...rest] = events
  if (first === undefined) throw new LichenError('TASK_ILLEGAL_EVENT', 'a task has at least one event')
  return applyEvents(beginTask(first), rest, graph)
}

/** A task that nobody has looked at yet. @throws TASK_ILLEGAL_EVENT unless the event is `taskAccepted` with seq 1 */
function beginTask({ seq, at, event }: RecordedEvent): TaskDraft {
  if (event.type !== 'taskAccepted' || seq !== 1) throw new LichenError('TASK_ILLEGAL_EVENT', `the first event is ${event.type} with seq ${seq}, not taskAccepted with seq 1`)
  return {
    kind: event.kind, state: 'accepted', outcome: null, reason: 'accepted; it has not begun', failure: null, problems: [], graph: null, actions: new Map(), gates: new Map(),
    counts: { pending: 0, sent: 0, waitingRetry: 0, skipped: 0, succeeded: 0, failed: 0, timedOut: 0, cancelled: 0, unknown: 0 }, unchanged: 0,
    previewDigest: event.previewDigest ?? null, operation: event.operation ?? null, rotation: event.rotation ?? null, seq, epoch: 0, acceptedAt: at, runSince: at, endedAt: null,
    index: buildEmptyIndex(), cancelRequestedAt: null, isOverLimit: false, pausedAt: null, resumedAt: 0,
  }
}

/**
 * The view after more events: the same object, changed. `graph`: the newest stored one, which may be newer than a graph that an earlier one of these events names.
 * @throws TASK_ILLEGAL_EVENT when one does not fit; the view then has those before it
 */
export function applyEvents(view: TrackedTask, events: readonly RecordedEvent[], graph: ActionGraph | null): TrackedTask {
  let newest: string | undefined
  for (const { event } of events) newest = graphNamedBy(event) ?? newest
  const isReplaced = graph !== null && newest === graph.digest
  for (const recorded of events) applyOne(view as TaskDraft, recorded, graph, isReplaced)
  return view
}

function graphNamedBy(event: TaskEvent): string | undefined {
  return event.type === 'taskPlanned' || event.type === 'retryRequested' ? event.graphDigest : undefined
}

/**
 * The view after one more event: the same object, changed. `graph` is needed for `taskPlanned`, and for `retryRequested` that names a graph.
 * @throws TASK_ILLEGAL_EVENT when the event does not fit; the view is as it was
 */
export function applyEvent(view: TrackedTask, recorded: RecordedEvent, graph: ActionGraph | null = null): TrackedTask {
  applyOne(view as TaskDraft, recorded, graph, false)
  return view
}

/** `isReplaced`: a later event names the graph that is given. */
function applyOne(task: TaskDraft, { seq, at, event }: RecordedEvent, graph: ActionGraph | null, isReplaced: boolean): void {
  if (seq !== task.seq + 1) throw new LichenError('TASK_ILLEGAL_EVENT', `event ${seq} does not follow event ${task.seq}`)
  applyToTask(task, event, at, { graph, isReplaced })
  task.seq = seq
}

interface Given {
  readonly graph: ActionGraph | null
  readonly isReplaced: boolean
}

function applyToTask(task: TaskDraft, event: TaskEvent, at: number, given: Given): void {
  if (task.state === 'ended' && event.type !== 'retryRequested') refuse(task, event, 'the task has ended')
  switch (event.type) {
    case 'taskAccepted':
      return refuse(task, event, 'only the first event is this')
    case 'taskClaimed':
      return applyClaimed(task, event)
    case 'taskPlanned':
      return applyPlanned(task, event, at, given)
    case 'actionSent':
      return applyActionSent(task, event, at)
    case 'actionEnded':
      return applyActionEnded(task, event, at)
    case 'actionRetryPlanned':
      return applyRetryPlanned(task, event)
    case 'actionSkipped':
      return applyActionSkipped(task, event, at)
    case 'actionUnchanged':
      return applyActionUnchanged(task, event, at)
    case 'actionSettled':
      return applyActionSettled(task, event, at)
    case 'actionRunAgain':
      return applyActionRunAgain(task, event, at)
    case 'gateApproved':
      return applyGateApproved(task, event, at)
    case 'pauseRequested':
      return applyPause(task, event, at)
    case 'resumeRequested':
      return applyResume(task, event, at)
    case 'cancelRequested':
      return applyCancel(task, `cancel requested by ${event.by}${event.reason === '' ? '' : `: ${event.reason}`}`, at, false)
    case 'taskLimitReached':
      return applyCancel(task, event.reason, at, true)
    case 'retryRequested':
      return applyRetry(task, event, at, given)
    case 'taskEnded':
      return applyTaskEnded(task, event, at)
  }
}

function refuse(task: TaskDraft, event: TaskEvent, why: string): never {
  throw new LichenError('TASK_ILLEGAL_EVENT', `event ${task.seq + 1}, ${event.type}: ${why} (task is ${task.state})`)
}

function applyClaimed(task: TaskDraft, event: EventOf<'taskClaimed'>): void {
  if (event.epoch < task.epoch) refuse(task, event, `epoch ${event.epoch} is below ${task.epoch}`)
  task.epoch = event.epoch
  if (task.state === 'accepted') task.reason = `taken by engine ${event.engine}`
}

function applyPlanned(task: TaskDraft, event: EventOf<'taskPlanned'>, at: number, { graph, isReplaced }: Given): void {
  if (task.graph !== null) refuse(task, event, 'the task has a graph already')
  if (graph === null || (graph.digest !== event.graphDigest && !isReplaced) || graph.actions.length !== event.actionCount) {
    return refuse(task, event, `the graph beside it is ${graph === null ? 'missing' : `${graph.digest} with ${graph.actions.length} actions`}, not ${event.graphDigest} with ${event.actionCount}`)
  }
  const index = buildIndex(graph, at)
  task.graph = graph
  task.index = index
  task.actions = new Map(index.vertices.map((vertex) => [vertex.action.id, vertex.view]))
  task.gates = new Map([...index.gates.values()].map((vertex) => [vertex.gate.id, vertex.view]))
  task.counts.pending = index.vertices.length
  if (task.state !== 'accepted') return
  task.state = 'running'
  task.reason = ''
}

function applyPause(task: TaskDraft, event: EventOf<'pauseRequested'>, at: number): void {
  if (task.state === 'paused') return
  if (task.state === 'cancelling') refuse(task, event, 'the task is being cancelled')
  Object.assign(task, { state: 'paused', pausedAt: at, reason: `paused by ${event.by}${event.reason === '' ? '' : `: ${event.reason}`}` })
}

function applyResume(task: TaskDraft, event: EventOf<'resumeRequested'>, at: number): void {
  if (task.state !== 'paused') refuse(task, event, 'the task is not paused')
  Object.assign(task, { state: task.graph === null ? 'accepted' : 'running', pausedAt: null, resumedAt: at, reason: `resumed by ${event.by}` })
}

function applyCancel(task: TaskDraft, reason: string, at: number, isOverLimit: boolean): void {
  if (task.state === 'cancelling') return
  Object.assign(task, { state: 'cancelling', cancelRequestedAt: at, pausedAt: null, reason, isOverLimit })
  withdrawQuestions(task.index, at)
  passPending(task.index)
  for (const vertex of [...task.index.unsettled.values(), ...task.index.unknown.values()]) settleFailure(task, vertex, at)
}

function applyRetry(task: TaskDraft, event: EventOf<'retryRequested'>, at: number, given: Given): void {
  if (task.state !== 'ended') refuse(task, event, 'only an ended task is tried again')
  const graph = findNextGraph(task, event, given)
  if (graph !== null && graph !== task.graph) adoptGraph(task.index, graph)
  Object.assign(task, {
    graph, state: graph === null ? 'accepted' : 'running', outcome: null, failure: null, problems: [], endedAt: null, cancelRequestedAt: null, isOverLimit: false, pausedAt: null, resumedAt: 0,
    runSince: at, reason: 'tried again',
  })
  restartActions(task, event.nodes)
  resetIndex(task.index, at)
}

function findNextGraph(task: TaskDraft, event: EventOf<'retryRequested'>, { graph, isReplaced }: Given): ActionGraph | null {
  const { graphDigest } = event
  if (graphDigest === undefined || graphDigest === task.graph?.digest) return task.graph
  if (graph?.digest !== graphDigest) return isReplaced ? task.graph : refuse(task, event, `the graph beside it is ${graph === null ? 'missing' : graph.digest}, not ${graphDigest}`)
  if (task.graph === null || !hasSameShape(task.graph, graph)) refuse(task, event, `graph ${graphDigest} has other actions, gates or arrows than the one before`)
  return graph
}

function applyTaskEnded(task: TaskDraft, event: EventOf<'taskEnded'>, at: number): void {
  // Events of a version with another retry policy: what this one would try again was a failure for good.
  const unsettled = [...task.index.unsettled.values()]
  if (task.index.open > unsettled.length) refuse(task, event, `${task.index.open} actions are not settled`)
  for (const vertex of unsettled) settleFailure(task, vertex, at)
  withdrawQuestions(task.index, at)
  Object.assign(task, { state: 'ended', outcome: event.outcome, reason: event.reason, failure: event.failure ?? null, problems: event.problems ?? [], endedAt: at, pausedAt: null })
}
