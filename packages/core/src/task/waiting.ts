/** Why an action, a gate, or a task, is not further: in words, with a deadline and with who can help. */
import type { ActionId, NodeId, TaskId } from '../ids.js'
import type { NodeRecord } from '../node/node.js'
import { describeQuestions } from './conclusion.js'
import { isAccepted } from './send-decisions.js'
import { waitingSince } from './settle-decisions.js'
import { describeCause } from './skip-decisions.js'
import { type AnyVertex, type Cohort, type GateVertex, isOpen, type Vertex } from './task-index.js'
import { defaultTaskLimits, describeTime, type TaskLimits, taskEndOf } from './task-limits.js'
import type { Waiting } from './task-view.js'
import type { TrackedTask } from './tracked-task.js'

// A lease ends 3 s after its engine and another one looks twice a second, then reads and plans: what an engine has to do is done within this, or something is wrong.
const engineMs = 15_000

/** What a task waits in. */
export interface WaitingSurroundings {
  /** The nodes as registered, by id. */
  readonly nodes: ReadonlyMap<NodeId, NodeRecord>
  /** Ms since the epoch. */
  readonly now: number
  /** Those of the engine; its defaults when left out. */
  readonly limits?: TaskLimits
  /** The task of the same deployment whose turn it is, when it is not this one's. */
  readonly behind?: TaskId | undefined
}

interface Context extends WaitingSurroundings {
  readonly task: TrackedTask
  readonly limits: TaskLimits
}

/**
 * Why the action, or the gate, of this id waits; for `null`, why the task as a whole does. Null when it waits for nothing: it has ended.
 */
export function waitingFor(task: TrackedTask, id: ActionId | null, surroundings: WaitingSurroundings): Waiting | null {
  if (task.state === 'ended') return null
  const context = { limits: defaultTaskLimits, ...surroundings, task }
  if (id === null) return waitOfTask(context)
  const vertex = task.index.byId.get(id) ?? task.index.gates.get(id)
  return vertex === undefined ? null : waitOfVertex(context, vertex)
}

const byEngine = (reason: string, since: number): Waiting => ({ reason, since, until: since + engineMs, owner: 'engine' })

/** A wait that only a person ends, or the limit of the task. */
const byOperator = ({ task }: Context, reason: string, since: number): Waiting => ({ reason, since, until: taskEndOf(task), owner: 'operator' })

function waitOfTask(context: Context): Waiting {
  const { task } = context
  const { deadlines, retries, readyLanes, waitingGates, unknown } = task.index
  if (task.state === 'paused') return waitForResume(context)
  const turn = waitForOtherTask(context)
  if (turn !== undefined) return turn
  if (task.graph === null) return byEngine(task.state === 'cancelling' ? task.reason : task.epoch === 0 ? 'no engine has taken the task yet' : 'the engine plans the task', task.runSince)
  const live = deadlines.peek() ?? retries.peek()
  const next = live ?? [...readyLanes].slice(0, 1).flatMap(({ queues }) => queues.flatMap(({ ready }) => ready.first(1)))[0]
  const questions = describeQuestions(task)
  if (next !== undefined) {
    const waiting = waitOfAction(context, next) ?? byEngine(task.reason, task.runSince)
    return { ...waiting, reason: [waiting.reason, ...questions].join('; ') }
  }
  const question = [...waitingGates, ...unknown.first(1)][0]
  const waiting = question && waitOfVertex(context, question)
  if (waiting) return waitingGates.size + unknown.size === 1 ? waiting : { ...waiting, reason: `${questions.join('; ')}; first: ${waiting.reason}` }
  return byEngine('the engine settles what ended', task.runSince)
}

/** Undefined when it is this task's turn: nothing of it begins before, also not what is left of it after a retry. */
function waitForOtherTask({ task, behind }: Context): Waiting | undefined {
  if (behind === undefined || task.state === 'cancelling') return undefined
  return { reason: `task ${behind} of the same deployment comes first, and has not ended`, since: task.runSince, until: null, owner: `task ${behind}` }
}

function waitForResume(context: Context): Waiting {
  const { task } = context
  const { counts, index } = task
  const rest = task.graph === null ? [] : index.open === 0 ? ['every action is settled, and the task ends when it is resumed'] : [...(counts.sent === 0 ? [] : [`${counts.sent} still running`]), ...describeQuestions(task)]
  return byOperator(context, [task.reason, ...rest, 'go on with `lichen resume`'].join('; '), task.pausedAt ?? task.runSince)
}

function waitOfVertex(context: Context, vertex: AnyVertex): Waiting | null {
  return vertex.kind === 'gate' ? waitOfGate(context, vertex) : waitOfAction(context, vertex)
}

function waitOfGate(context: Context, gate: GateVertex): Waiting | null {
  const { state, since } = gate.view
  if (state === 'waiting') return byOperator(context, `waits for approval of ${gate.gate.meaning}: answer with \`lichen approve\` (gate ${gate.gate.id})`, since)
  return state === 'closed' && context.task.state !== 'cancelling' ? waitForEarlier(context, gate, since) : null
}

function waitOfAction(context: Context, vertex: Vertex): Waiting | null {
  const { task, now } = context
  const { index } = task
  const { view } = vertex
  if (view.state === 'sent') return waitForAnswer(context, vertex)
  if (view.state === 'waitingRetry' && task.state === 'paused') return waitForResume(context)
  if (view.state === 'waitingRetry' && (view.notBefore ?? 0) > now) return { reason: view.reason, since: view.endedAt ?? task.runSince, until: view.notBefore, owner: 'engine' }
  if (view.state === 'waitingRetry') return waitForTurn(context, vertex)
  if (vertex.heap === index.unknown) return waitForPerson(context, vertex)
  if (vertex.heap === index.unsettled) return byEngine(view.reason, view.endedAt ?? task.runSince)
  if (view.state !== 'pending') return null
  if (vertex.blockers > 0 && vertex.cause === null) return waitForEarlier(context, vertex, vertex.readySince)
  if (task.state === 'paused') return waitForResume(context)
  if (vertex.cause !== null) return byEngine(`cannot run: ${describeBlame(vertex.cause)}`, blamedSince(vertex.cause) ?? task.runSince)
  return vertex.heap === index.candidates ? byEngine('nothing about it changed: the engine leaves it out', vertex.readySince) : waitForTurn(context, vertex)
}

const describeBlame = (cause: AnyVertex): string => (cause.kind === 'gate' ? describeCause(cause) : `it comes after ${cause.action.id}, which did not succeed`)
const blamedSince = (cause: AnyVertex): number | null => (cause.kind === 'gate' ? cause.view.since : cause.view.endedAt)

function waitForAnswer({ task, nodes, limits }: Context, { action, view }: Vertex): Waiting {
  const { node } = action
  const record = nodes.get(node)
  const cancelledAt = task.cancelRequestedAt
  const silent = record === undefined ? ', which is not registered any more' : record.state === 'lost' ? `, which is out of reach since ${describeTime(record.lastSeenAt)}` : ''
  const reason = cancelledAt === null ? `attempt ${view.attempt} is with node ${node}${silent}` : `node ${node}${silent} was asked to cancel attempt ${view.attempt}`
  const until = cancelledAt === null ? view.deadline : Math.min(view.deadline ?? Number.POSITIVE_INFINITY, cancelledAt + limits.cancelWaitMs)
  return { reason, since: cancelledAt ?? view.sentAt ?? task.runSince, until, owner: `node ${node}` }
}

function waitForPerson(context: Context, { action, view }: Vertex): Waiting {
  const answers = `answer with \`lichen settle\`: ${action.id} succeeded, failed, or is to run again`
  return byOperator(context, `whether attempt ${view.attempt} on node ${action.node} had its effect is unknown (${view.reason}); look there, and ${answers}`, view.endedAt ?? context.task.runSince)
}

/** Follows the first open vertex before it down to what really waits: its deadline and owner are those of the whole chain. */
function waitForEarlier(context: Context, vertex: AnyVertex, since: number): Waiting {
  const { index } = context.task
  const earlier = vertex.before.filter((before) => isOpen(index, before))
  const names = earlier.slice(0, 3).map(nameOf)
  const more = earlier.length > names.length ? ` and ${earlier.length - names.length} more` : ''
  const leaf = findLeaf(context, earlier[0])
  const below = leaf === undefined ? null : waitOfVertex(context, leaf)
  return {
    reason: `comes after ${names.join(', ')}${more}${below === null ? '' : `; ${leaf === earlier[0] ? '' : `${nameOf(leaf as AnyVertex)}: `}${below.reason}`}`,
    since,
    until: below === null ? null : below.until,
    owner: below?.owner ?? 'engine',
  }
}

const nameOf = (vertex: AnyVertex): string => (vertex.kind === 'gate' ? vertex.gate.meaning : vertex.action.id)

function findLeaf({ task: { index } }: Context, first: AnyVertex | undefined): AnyVertex | undefined {
  let leaf = first
  for (let next = first; next !== undefined; next = isBlocked(next) ? next.before.find((before) => isOpen(index, before)) : undefined) leaf = next
  return leaf
}

const isBlocked = (vertex: AnyVertex): boolean => (vertex.kind === 'gate' ? vertex.view.state === 'closed' : vertex.view.state === 'pending' && vertex.blockers > 0 && vertex.cause === null)

function waitForTurn(context: Context, vertex: Vertex): Waiting {
  const { task, nodes, limits } = context
  const { node } = vertex.action
  const since = waitingSince(task, vertex)
  const queuedMs = task.graph?.limits.queuedMs ?? null
  const until = queuedMs === null ? null : since + queuedMs
  if (task.state === 'paused') return waitForResume(context)
  const turn = waitForOtherTask(context)
  if (turn !== undefined) return turn
  const record = nodes.get(node)
  if (record === undefined) return { reason: `node ${node} is not registered any more`, since, until: until ?? since + limits.nodeWaitMs, owner: 'operator' }
  if (record.state === 'lost') {
    const from = Math.max(since, record.lastSeenAt)
    return { reason: `node ${node} is out of reach since ${describeTime(record.lastSeenAt)}`, since: from, until: until ?? from + limits.nodeWaitMs, owner: `node ${node}` }
  }
  if (record.cordoned && !isAccepted(vertex.action, 'cordoned')) return { reason: `node ${node} is cordoned: it accepts no new actions until an operator lifts that`, since, until, owner: 'operator' }
  const full = describeFull(context, vertex)
  return full === undefined ? byEngine(`about to be sent to node ${node}`, since) : { since, until: until ?? task.index.deadlines.peek()?.view.deadline ?? null, ...full }
}

interface Full {
  readonly reason: string
  readonly owner: string
}

/** Which limit of the action, the engine or the rollout is used up. */
function describeFull({ task, limits }: Context, vertex: Vertex): Full | undefined {
  const { lane, group, queue: { cohort } } = vertex
  if (cohort !== null && !cohort.begun.has(vertex) && cohort.begun.size >= cohort.most) return describeFullCohort(task, cohort)
  if (lane.live >= limits.actionsPerNode) return { reason: `node ${lane.node} has ${lane.live} ${lane.live === 1 ? 'action' : 'actions'} of this task, and takes no more at once`, owner: `node ${lane.node}` }
  const parallel = task.graph?.rollout.maxParallelNodes ?? 1
  if (lane.live === 0 && task.index.busyLanes.size >= parallel) return { reason: `${nodesBusy(parallel)}, and rollout.maxParallelNodes allows no more`, owner: 'engine' }
  const most = group.maxParallelNodes
  if (most !== null && !group.live.has(lane) && group.live.size >= most) return { reason: `${nodesBusy(most)} in group ${group.name}, and its rollout.maxParallelNodes allows no more`, owner: 'engine' }
  return undefined
}

/** Whoever holds a place of an unknown outcome keeps it until a person answers. */
function describeFullCohort({ index }: TrackedTask, { component, name, most, begun }: Cohort): Full {
  const held = [...begun].sort((left, right) => left.position - right.position)
  const names = held.slice(0, 3).map((vertex) => `${vertex.action.node}${vertex.heap === index.unknown ? ' with an unknown outcome' : ''}`)
  const more = held.length > names.length ? ` and ${held.length - names.length} more` : ''
  const working = held.find((vertex) => vertex.heap !== index.unknown)
  const owner = working === undefined ? 'operator' : `node ${working.action.node}`
  return { reason: `waits for its turn: ${name} of ${component} runs on ${most} ${most === 1 ? 'node' : 'nodes'} at a time (now: ${[...new Set(names)].join(', ')}${more})`, owner }
}

const nodesBusy = (count: number): string => `${count} ${count === 1 ? 'node is' : 'nodes are'} busy`
