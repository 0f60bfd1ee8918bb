/**
 * What a follower knows of a task: the fold of its events, for showing. Owns nothing but the picture; the truth is the server's.
 *
 * 1. Every event changes the picture once; the sequence number says which ones are in it.
 */
import type { ActionState, AttemptResult, Failure, TaskEvent, TaskOutcome, TaskState } from '../api/tasks.js'
import type { Problem } from '../failure.js'

export interface ActionProgress {
  readonly id: string
  readonly component: string
  readonly name: string
  readonly node: string
  state: ActionState
  attempt: number
  startedAt: number | undefined
  endedAt: number | undefined
  reason: string
  result: AttemptResult | undefined
  /** Counts as succeeded without having run: nothing about it changed. */
  isUnchanged: boolean
  /** A person said how it ended. */
  isSettled: boolean
}

export interface Progress {
  readonly actions: Map<string, ActionProgress>
  state: TaskState
  outcome: TaskOutcome | undefined
  reason: string
  failure: Failure | undefined
  problems: readonly Problem[]
  seq: number
  /** Of the newest run: a retried task starts its clock again. */
  startedAt: number
  endedAt: number | undefined
}

/** The picture before the first event. `startedAt` in ms since the epoch. */
export const buildProgress = (startedAt: number): Progress => ({ actions: new Map(), state: 'accepted', outcome: undefined, reason: '', failure: undefined, problems: [], seq: 0, startedAt, endedAt: undefined })

/** Names the actions of the graph, once it is known. What events have said of them stays. */
export function addActions(progress: Progress, actions: readonly { readonly id: string; readonly component: string; readonly name: string; readonly node: string }[]): void {
  for (const { id, component, name, node } of actions) {
    if (!progress.actions.has(id)) progress.actions.set(id, { id, component, name, node, state: 'pending', attempt: 0, startedAt: undefined, endedAt: undefined, reason: '', result: undefined, isUnchanged: false, isSettled: false })
  }
}

/** Changes the picture by one event and gives back the action it was about, if it was about one. An event that is in it already changes nothing. */
export function applyEvent(progress: Progress, recorded: TaskEvent): ActionProgress | undefined {
  if (recorded.seq <= progress.seq) return undefined
  progress.seq = recorded.seq
  const { event, at } = recorded
  switch (event.type) {
    case 'taskClaimed':
      if (progress.state === 'accepted') progress.state = 'running'
      return undefined
    case 'pauseRequested':
      progress.state = 'paused'
      return undefined
    case 'resumeRequested':
      progress.state = progress.actions.size === 0 ? 'accepted' : 'running'
      return undefined
    case 'cancelRequested':
    case 'taskLimitReached':
      progress.state = 'cancelling'
      return undefined
    case 'retryRequested':
      restart(progress, at, event['nodes'] as readonly string[] | undefined)
      return undefined
    case 'taskEnded':
      Object.assign(progress, { state: 'ended', outcome: event['outcome'], reason: event['reason'] ?? '', failure: event['failure'], problems: event['problems'] ?? [], endedAt: at })
      return undefined
    default:
      return typeof event['action'] === 'string' ? applyActionEvent(findAction(progress, event['action']), recorded) : undefined
  }
}

function applyActionEvent(action: ActionProgress, { at, event }: TaskEvent): ActionProgress {
  if (event.type === 'actionSent') Object.assign(action, { state: 'sent', attempt: event['attempt'], startedAt: at, endedAt: undefined, reason: '', isSettled: false })
  else if (event.type === 'actionEnded') {
    const result = event['result'] as AttemptResult
    Object.assign(action, { state: result.outcome, attempt: event['attempt'], endedAt: at, result, reason: result.failure?.message ?? '' })
  } else if (event.type === 'actionRetryPlanned') Object.assign(action, { state: 'waitingRetry', reason: event['reason'] })
  else if (event.type === 'actionSkipped') Object.assign(action, { state: 'skipped', endedAt: at, reason: event['reason'] })
  else if (event.type === 'actionUnchanged') Object.assign(action, { state: 'succeeded', endedAt: at, isUnchanged: true, reason: event['reason'] })
  else if (event.type === 'actionSettled') Object.assign(action, { state: event['as'], endedAt: at, isSettled: true, reason: `${String(event['by'])}: ${String(event['reason'])}` })
  else if (event.type === 'actionRunAgain') Object.assign(action, { state: 'pending', endedAt: undefined, reason: `${String(event['by'])}: ${String(event['reason'])}` })
  return action
}

// As the server does: what did not succeed starts over, on these nodes or on all.
function restart(progress: Progress, at: number, nodes: readonly string[] | undefined): void {
  Object.assign(progress, { state: 'running', outcome: undefined, reason: '', failure: undefined, endedAt: undefined, startedAt: at })
  for (const action of progress.actions.values()) {
    const isWanted = action.state !== 'succeeded' && (nodes === undefined || nodes.includes(action.node))
    if (isWanted) Object.assign(action, { state: 'pending', startedAt: undefined, endedAt: undefined, reason: '', result: undefined, isSettled: false })
  }
}

// `component/name@node` is how ids are built; an action that is not listed yet is named from its id.
function findAction(progress: Progress, id: string): ActionProgress {
  const [, component, name, node] = /^([^/]*)\/(.*)@([^@]*)$/.exec(id) ?? ['', id, id, '']
  addActions(progress, [{ id, component: component!, name: name!, node: node! }])
  return progress.actions.get(id)!
}

// The component of actions that look after unchanged ones (docs/decisions/0015). The plan has none of them, so they are only counted when they are trouble.
const verifyingComponent = 'lichen'

/** Numbers of the actions of the plan by what became of them. `changed` and `unchanged` have succeeded, `notRun` of the unchanged without having run; `stopped` were cancelled or skipped. */
export function countActions(progress: Progress): { readonly total: number; readonly changed: number; readonly unchanged: number; readonly notRun: number; readonly failed: number; readonly unknown: number; readonly stopped: number; readonly running: number; readonly waiting: number } {
  const counts = { total: 0, changed: 0, unchanged: 0, notRun: 0, failed: 0, unknown: 0, stopped: 0, running: 0, waiting: 0 }
  for (const { component, state, result, isUnchanged, isSettled } of progress.actions.values()) {
    if (component === verifyingComponent && !['failed', 'timedOut', 'unknown'].includes(state)) continue
    counts.total++
    if (isUnchanged) counts.notRun++
    // What a person settled was begun: it is not known that nothing changed.
    if (state === 'succeeded') counts[result?.changed || isSettled ? 'changed' : 'unchanged']++
    else if (state === 'failed' || state === 'timedOut') counts.failed++
    else if (state === 'unknown') counts.unknown++
    else if (state === 'cancelled' || state === 'skipped') counts.stopped++
    else if (state === 'sent') counts.running++
    else counts.waiting++
  }
  return counts
}
