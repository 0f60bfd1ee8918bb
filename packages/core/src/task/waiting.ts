/** Why an action, or a task, is not further: in words, with a deadline and with who can help. */
import type { ActionId, NodeId } from '../ids.js'
import type { NodeRecord } from '../node/node.js'
import type { Vertex } from './task-index.js'
import { defaultTaskLimits, type TaskLimits } from './task-limits.js'
import type { Waiting } from './task-view.js'
import type { TrackedTask } from './tracked-task.js'

// A lease ends 15 s after its engine and the sweeper of another one looks every few seconds: what the engine has to do is done within this, or something is wrong.
const engineMs = 30_000

/**
 * Why the action waits; for `null`, why the task as a whole does. Null when it waits for nothing: it has ended.
 * `nodes`: the nodes as registered, by id. `limits`: those of the engine.
 */
export function waitingFor(task: TrackedTask, action: ActionId | null, nodes: ReadonlyMap<NodeId, NodeRecord>, now: number, limits: TaskLimits = defaultTaskLimits): Waiting | null {
  if (task.state === 'ended') return null
  if (action === null) return waitOfTask(task, nodes, now, limits)
  const vertex = task.index.byId.get(action)
  return vertex === undefined ? null : waitOfAction(task, vertex, nodes, now, limits)
}

const byEngine = (reason: string, since: number): Waiting => ({ reason, since, until: since + engineMs, owner: 'engine' })

function waitOfTask(task: TrackedTask, nodes: ReadonlyMap<NodeId, NodeRecord>, now: number, limits: TaskLimits): Waiting {
  if (task.graph === null) return byEngine(task.epoch === 0 ? 'no engine has taken the task yet' : 'the engine plans the task', task.acceptedAt)
  const { deadlines, retries, readyLanes } = task.index
  const live = deadlines.peek() ?? retries.peek()
  if (live) return waitOfAction(task, live, nodes, now, limits) ?? byEngine(task.reason, task.acceptedAt)
  for (const lane of readyLanes) {
    const [first] = lane.ready.first(1)
    const waiting = first && waitOfAction(task, first, nodes, now, limits)
    if (waiting) return waiting
  }
  return byEngine('the engine settles what ended', task.acceptedAt)
}

function waitOfAction(task: TrackedTask, vertex: Vertex, nodes: ReadonlyMap<NodeId, NodeRecord>, now: number, limits: TaskLimits): Waiting | null {
  const { view } = vertex
  if (view.state === 'sent') return waitForAnswer(task, vertex, nodes, limits)
  if (view.state === 'waitingRetry' && (view.notBefore ?? 0) > now) return { reason: view.reason, since: view.endedAt ?? task.acceptedAt, until: view.notBefore, owner: 'engine' }
  if (view.state === 'waitingRetry') return waitForTurn(task, vertex, view.notBefore ?? task.acceptedAt, nodes, limits)
  if (vertex.heap === task.index.unsettled) return byEngine(view.reason, view.endedAt ?? task.acceptedAt)
  if (view.state !== 'pending') return null
  if (vertex.cause !== null) return byEngine(`cannot run: it comes after ${vertex.cause.action.id}, which did not succeed`, vertex.cause.view.endedAt ?? task.acceptedAt)
  return vertex.blockers > 0 ? waitForDependencies(task, vertex, nodes, now, limits) : waitForTurn(task, vertex, vertex.readySince, nodes, limits)
}

function waitForAnswer(task: TrackedTask, { action, view }: Vertex, nodes: ReadonlyMap<NodeId, NodeRecord>, limits: TaskLimits): Waiting {
  const { node } = action
  const record = nodes.get(node)
  const cancelledAt = task.cancelRequestedAt
  const silent = record === undefined ? ', which is not registered any more' : record.state === 'lost' ? `, which is out of reach since ${new Date(record.lastSeenAt).toISOString()}` : ''
  const reason = cancelledAt === null ? `attempt ${view.attempt} is with node ${node}${silent}` : `node ${node}${silent} was asked to cancel attempt ${view.attempt}`
  const until = cancelledAt === null ? view.deadline : Math.min(view.deadline ?? Number.POSITIVE_INFINITY, cancelledAt + limits.cancelWaitMs)
  return { reason, since: cancelledAt ?? view.sentAt ?? task.acceptedAt, until, owner: `node ${node}` }
}

/** Follows the first unfinished dependency down to what really waits: its deadline and owner are those of the whole chain. */
function waitForDependencies(task: TrackedTask, vertex: Vertex, nodes: ReadonlyMap<NodeId, NodeRecord>, now: number, limits: TaskLimits): Waiting {
  const unfinished = listUnfinished(task, vertex)
  const names = unfinished.slice(0, 3).map((dependency) => dependency.action.id)
  const more = unfinished.length > names.length ? ` and ${unfinished.length - names.length} more` : ''
  let leaf = vertex
  for (let next = unfinished[0]; next !== undefined; next = next.blockers > 0 && next.cause === null ? listUnfinished(task, next)[0] : undefined) leaf = next
  const below = leaf === vertex ? null : waitOfAction(task, leaf, nodes, now, limits)
  return {
    reason: `comes after ${names.join(', ')}${more}${below === null ? '' : `; ${leaf === unfinished[0] ? '' : `${leaf.action.id}: `}${below.reason}`}`,
    since: vertex.readySince,
    until: below === null ? null : below.until,
    owner: below?.owner ?? 'engine',
  }
}

function listUnfinished(task: TrackedTask, vertex: Vertex): Vertex[] {
  return vertex.action.after.flatMap((id) => {
    const dependency = task.index.byId.get(id)
    return dependency === undefined || dependency.view.state === 'succeeded' ? [] : [dependency]
  })
}

function waitForTurn(task: TrackedTask, { action, lane }: Vertex, since: number, nodes: ReadonlyMap<NodeId, NodeRecord>, limits: TaskLimits): Waiting {
  const { node } = action
  const record = nodes.get(node)
  if (record === undefined) return { reason: `node ${node} is not registered any more`, since, until: since + limits.nodeWaitMs, owner: 'operator' }
  if (record.state === 'lost') {
    const from = Math.max(since, record.lastSeenAt)
    return { reason: `node ${node} is out of reach since ${new Date(record.lastSeenAt).toISOString()}`, since: from, until: from + limits.nodeWaitMs, owner: `node ${node}` }
  }
  if (record.cordoned) return { reason: `node ${node} is cordoned: it accepts no new actions until an operator lifts that`, since, until: null, owner: 'operator' }
  const parallel = task.graph?.rollout.maxParallelNodes ?? 1
  const until = task.index.deadlines.peek()?.view.deadline ?? null
  if (lane.live >= limits.actionsPerNode) return { reason: `node ${node} has ${lane.live} ${lane.live === 1 ? 'action' : 'actions'} of this task, and takes no more at once`, since, until, owner: `node ${node}` }
  if (lane.live === 0 && task.index.busyLanes.size >= parallel) return { reason: `${parallel} ${parallel === 1 ? 'node is' : 'nodes are'} busy, and rollout.maxParallelNodes allows no more`, since, until, owner: 'engine' }
  return byEngine(`about to be sent to node ${node}`, since)
}
