/**
 * What people ask of a task, answered by its state: the event that records the request, or why it cannot be. Pure; the API records the event and asks again
 * when somebody else was first.
 */
import type { ErrorCode, Problem } from '../errors.js'
import type { ActionGraph } from '../graph/action-graph.js'
import type { ActionId, NodeId } from '../ids.js'
import { suggest } from '../plan/shape-problems.js'
import type { TaskEvent } from './events.js'
import { findMoved } from './graph-change.js'
import { isVerifying, type Vertex } from './task-index.js'
import { describeTime } from './task-limits.js'
import type { TrackedTask } from './tracked-task.js'

export type TaskRequest =
  | { readonly type: 'cancel'; readonly by: string; readonly reason: string }
  | { readonly type: 'pause'; readonly by: string; readonly reason: string }
  | { readonly type: 'resume'; readonly by: string }
  /** Without `gate`: the only one that waits. */
  | { readonly type: 'approve'; readonly by: string; readonly gate?: ActionId; readonly reason: string }
  | { readonly type: 'settle'; readonly by: string; readonly action: ActionId; readonly answer: 'succeeded' | 'failed' | 'runAgain'; readonly reason: string }
  /** `graph`: of the plan with new parameters, as `rebaseGraph` gives it. */
  | { readonly type: 'retry'; readonly by: string; readonly nodes?: readonly NodeId[]; readonly graph?: ActionGraph }

/** `event: null`: what is asked for is so already. */
export type RequestAnswer = { readonly ok: true; readonly event: TaskEvent | null } | { readonly ok: false; readonly problems: readonly Problem[] }

type RequestOf<Type extends TaskRequest['type']> = Extract<TaskRequest, { type: Type }>

/**
 * The event that records the request. Refused with TASK_ENDED, TASK_NOT_ENDED, TASK_NOT_PAUSED, TASK_UNKNOWN_GATE, TASK_GATE_NOT_WAITING, TASK_UNKNOWN_ACTION, TASK_NOT_UNKNOWN,
 * TASK_UNKNOWN_NODE, TASK_NOTHING_TO_RETRY or TASK_INPUTS_MOVED.
 */
export function answerRequest(task: TrackedTask, request: TaskRequest): RequestAnswer {
  if (request.type === 'retry') return answerRetry(task, request)
  if (task.state === 'ended') return refuse('TASK_ENDED', '', `the task has ended (${task.outcome}: ${task.reason})`)
  if (request.type === 'cancel') return accept(task.state === 'cancelling' ? null : { type: 'cancelRequested', by: request.by, reason: request.reason })
  if (task.state === 'cancelling') return refuse('TASK_ENDED', '', `the task is coming to its end (${task.reason}): nothing new is begun in it, and it waits for no answer any more`)
  switch (request.type) {
    case 'pause':
      return accept(task.state === 'paused' ? null : { type: 'pauseRequested', by: request.by, reason: request.reason })
    case 'resume':
      return task.state === 'paused' ? accept({ type: 'resumeRequested', by: request.by }) : refuse('TASK_NOT_PAUSED', '', `the task is not paused: it is ${task.state}`)
    case 'approve':
      return answerApproval(task, request)
    case 'settle':
      return answerSettle(task, request)
  }
}

const accept = (event: TaskEvent | null): RequestAnswer => ({ ok: true, event })
const refuse = (code: ErrorCode, path: string, message: string): RequestAnswer => ({ ok: false, problems: [{ code, path, message }] })

function answerApproval(task: TrackedTask, { by, reason, gate: id }: RequestOf<'approve'>): RequestAnswer {
  const waiting = [...task.index.waitingGates].map(({ gate }) => gate.id)
  const named = id ?? (waiting.length === 1 ? waiting[0] : undefined)
  if (named === undefined) return refuse('TASK_UNKNOWN_GATE', 'gate', waiting.length === 0 ? `no gate waits for an approval now${describeNext(task)}` : `${waiting.length} gates wait for an approval: name one of ${listSome(waiting)}`)
  const vertex = task.index.gates.get(named)
  if (vertex === undefined) return refuse('TASK_UNKNOWN_GATE', 'gate', `no gate "${named}" in this task${suggest(named, listApprovals(task))}${waiting.length === 0 ? '' : `; ${listSome(waiting)} ${waiting.length === 1 ? 'waits' : 'wait'} for an approval`}`)
  const { gate, view } = vertex
  if (view.state === 'waiting') return accept({ type: 'gateApproved', gate: gate.id, by, reason })
  const found = {
    open: view.approvedBy === null ? `it is open since ${describeTime(view.since)}, and needs no approval` : `${view.approvedBy} approved it at ${describeTime(view.since)}`,
    failed: `it has failed, and will not open in this run: ${view.reason}`,
    closed: `${vertex.unsettled} of the ${vertex.before.length} that it comes after are not complete${gate.approve ? '' : ', and it needs no approval'}`,
  }[view.state]
  return refuse('TASK_GATE_NOT_WAITING', 'gate', `${gate.meaning} (${gate.id}): ${found}`)
}

const listApprovals = ({ index }: TrackedTask): ActionId[] => [...index.gates.values()].flatMap(({ gate }) => (gate.approve ? [gate.id] : []))

function describeNext(task: TrackedTask): string {
  const next = [...task.index.gates.values()].find(({ gate, view }) => gate.approve && view.state === 'closed')
  return next === undefined ? '' : `; the next that will is ${next.gate.id}, after ${next.unsettled} more that it comes after are complete`
}

function listSome(ids: readonly ActionId[]): string {
  return `${ids.slice(0, 3).join(', ')}${ids.length > 3 ? ` and ${ids.length - 3} more` : ''}`
}

function answerSettle(task: TrackedTask, { by, reason, action: id, answer }: RequestOf<'settle'>): RequestAnswer {
  const vertex = task.index.byId.get(id)
  if (vertex === undefined) return refuse('TASK_UNKNOWN_ACTION', 'action', task.graph === null ? 'the task is not planned yet, and has no actions' : `no action "${id}" in this task${suggest(id, listNear(task, id))}`)
  if (vertex.heap !== task.index.unknown) return refuse('TASK_NOT_UNKNOWN', 'action', `${id}: ${describeState(vertex)}`)
  const { attempt } = vertex.view
  return accept(answer === 'runAgain' ? { type: 'actionRunAgain', action: id, attempt, by, reason } : { type: 'actionSettled', action: id, attempt, as: answer, by, reason })
}

// Of a large task only those with the same node, or of the same name on another node, are looked at for a likely one.
const nearAmong = 500

function listNear({ index }: TrackedTask, id: ActionId): ActionId[] {
  const ids = [...index.byId.keys()]
  if (ids.length <= nearAmong) return ids
  const at = id.lastIndexOf('@')
  return ids.filter((known) => known.endsWith(id.slice(at)) || known.startsWith(id.slice(0, at + 1)))
}

function describeState({ view }: Vertex): string {
  const since = view.endedAt === null ? '' : ` since ${describeTime(view.endedAt)}`
  if (view.state === 'unknown') return `its outcome is unknown${since}, from a run that has ended: it starts over with a retry of the task that names its node, or none`
  if (view.state === 'sent') return `attempt ${view.attempt} is running`
  return `its outcome is not unknown: it is ${view.state}${since}${view.reason === '' ? '' : ` (${view.reason})`}`
}

function answerRetry(task: TrackedTask, { by, nodes, graph }: RequestOf<'retry'>): RequestAnswer {
  if (task.state !== 'ended') return refuse('TASK_NOT_ENDED', '', `the task has not ended: it is ${task.state}`)
  const unknown = (nodes ?? []).flatMap((node, at): Problem[] => (task.index.lanes.has(node) ? [] : [{ code: 'TASK_UNKNOWN_NODE', path: `nodes[${at}]`, message: `no action on a node "${node}" in this task${suggest(node, [...task.index.lanes.keys()])}` }]))
  if (unknown.length > 0) return { ok: false, problems: unknown }
  if (task.graph !== null && !hasOpenEnds(task, nodes)) return refuse('TASK_NOTHING_TO_RETRY', nodes === undefined ? '' : 'nodes', nodes === undefined ? 'every action of the task has succeeded; apply the plan again to look and repair' : `every action on ${nodes.join(', ')} has succeeded`)
  const moved = graph === undefined ? undefined : describeMoved(task, graph)
  if (moved !== undefined) return refuse('TASK_INPUTS_MOVED', 'parameters', moved)
  return accept({ type: 'retryRequested', by, ...(nodes === undefined ? {} : { nodes }), ...(graph === undefined ? {} : { graphDigest: graph.digest }) })
}

function hasOpenEnds({ index }: TrackedTask, nodes: readonly NodeId[] | undefined): boolean {
  const wanted = nodes === undefined ? undefined : new Set(nodes)
  return index.vertices.some((vertex) => vertex.view.state !== 'succeeded' && !isVerifying(vertex) && wanted?.has(vertex.action.node) !== false)
}

function describeMoved(task: TrackedTask, graph: ActionGraph): string | undefined {
  if (task.graph === null) return 'the task was never planned, so there is nothing that the new parameters could be compared with'
  const moved = findMoved(task, task.graph, graph)
  return moved.length === 0 ? undefined : `the new parameters change ${moved.length === 1 ? 'an action' : `${moved.length} actions`} that ${moved.length === 1 ? 'has' : 'have'} succeeded, or which actions there are: ${listSome(moved)}; apply the plan anew instead`
}
