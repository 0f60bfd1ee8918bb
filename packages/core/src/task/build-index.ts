/** Making the index of a graph, and making it again where many actions change at once. Both cost the size of the graph: its vertices and arrows. */
import { LichenError } from '../errors.js'
import type { Action, ActionGraph, Gate } from '../graph/action-graph.js'
import type { ActionId, NodeId } from '../ids.js'
import { admit } from './admission.js'
import { countSettled, openIfSettled } from './gate-transitions.js'
import { OrderedHeap } from './ordered-heap.js'
import { farther, reachAt } from './reach.js'
import { type ActionDraft, type AnyVertex, type Cohort, type GateVertex, type Group, isDone, isVerifying, type Lane, moveTo, type Queue, type Reach, type TaskIndex, type Turn, type Vertex } from './task-index.js'

const byPosition = (left: Vertex, right: Vertex): boolean => left.position < right.position
/** What most has to wait for goes first; the graph says the rest. */
export const byChain = (left: Vertex, right: Vertex): boolean => left.chain > right.chain || (left.chain === right.chain && byPosition(left, right))
const byTime = (timeOf: (vertex: Vertex) => number) => (left: Vertex, right: Vertex): boolean => {
  const [earlier, later] = [timeOf(left), timeOf(right)]
  return earlier < later || (earlier === later && byPosition(left, right))
}
const byDeadline = byTime(({ view }) => view.deadline ?? 0)
const byNotBefore = byTime(({ view }) => view.notBefore ?? 0)
const byReadySince = byTime((vertex) => vertex.readySince)
const byTurn = (left: Turn, right: Turn): boolean => byReadySince(left.vertex, right.vertex)

interface Parts {
  readonly vertices: Vertex[]
  readonly byId: Map<ActionId, Vertex>
  readonly gates: Map<ActionId, GateVertex>
  readonly order: AnyVertex[]
  readonly lanes: Map<NodeId, Lane>
  readonly groups: Map<string, Group>
}

const buildEmptyParts = (): Parts => ({ vertices: [], byId: new Map(), gates: new Map(), order: [], lanes: new Map(), groups: new Map() })

/** The index of a task without a graph. */
export const buildEmptyIndex = (): TaskIndex => assembleIndex(buildEmptyParts())

function assembleIndex(parts: Parts): TaskIndex {
  // The parts last: with them first V8 (of Node.js 20) makes a hidden class for each index, and whatever reads one is slow.
  return {
    busyLanes: new Set(), readyLanes: new Set(), stoppedGroups: new Set(), waitingGates: new Set(),
    turns: new OrderedHeap(byTurn),
    candidates: new OrderedHeap(byPosition), doomed: new OrderedHeap(byPosition), deadlines: new OrderedHeap(byDeadline), retries: new OrderedHeap(byNotBefore),
    unsettled: new OrderedHeap(byPosition), unknown: new OrderedHeap(byPosition),
    pendingFrom: 0, open: 0, failures: 0, firstFailure: null, excused: 0, kept: 0, firstKept: null, ...parts,
  }
}

/**
 * The index of a graph, every action pending; `at`: since when (ms since the epoch).
 * @throws TASK_ILLEGAL_EVENT when an id stands twice, an `after` names nothing, or there is a circle
 */
export function buildIndex(graph: ActionGraph, at: number): TaskIndex {
  const parts = buildEmptyParts()
  for (const action of graph.actions) addAction(parts, action, at)
  for (const gate of graph.gates) addGate(parts, gate, at)
  for (const vertex of parts.vertices) connect(parts, vertex, vertex.action)
  for (const vertex of parts.gates.values()) connect(parts, vertex, vertex.gate)
  parts.order.push(...sortVertices(parts))
  measureChains(parts)
  const index = assembleIndex(parts)
  takeLimits(index, graph)
  findCohorts(index)
  findSlices(index)
  resetIndex(index, at)
  return index
}

function addAction(parts: Parts, action: Action, at: number): void {
  if (parts.byId.has(action.id)) throw new LichenError('TASK_ILLEGAL_EVENT', `the graph has two actions ${action.id}`)
  const lane: Lane = parts.lanes.get(action.node) ?? { node: action.node, queues: [], ready: 0, live: 0 }
  parts.lanes.set(action.node, lane)
  const group: Group = parts.groups.get(action.group) ?? { name: action.group, maxFailures: null, maxParallelNodes: null, vertices: [], pendingFrom: 0, failures: 0, live: new Map() }
  parts.groups.set(action.group, group)
  const turn = { vertex: undefined as Vertex | undefined, slot: -1 }
  const vertex: Vertex = {
    kind: 'action', action, position: parts.vertices.length, chain: 0, view: buildActionDraft(action), queue: findQueue(lane, group, null), lane, group, before: [], dependents: [],
    turn: turn as Turn, slice: null, blockers: 0, cause: null, readySince: at, hasChanged: false, reach: 'none', heap: null, slot: -1,
  }
  turn.vertex = vertex
  group.vertices.push(vertex)
  parts.vertices.push(vertex)
  parts.byId.set(action.id, vertex)
}

function findQueue(lane: Lane, group: Group, cohort: Cohort | null): Queue {
  let queue = lane.queues.find((known) => known.group === group && known.cohort === cohort)
  if (queue === undefined) lane.queues.push((queue = { lane, group, cohort, ready: new OrderedHeap(byChain) }))
  return queue
}

const buildActionDraft = (action: Action): ActionDraft => ({
  id: action.id, node: action.node, state: 'pending', attempt: 0, attemptsInRun: 0, epoch: 0, sentAt: null, begunAt: null, timeoutMs: null, deadline: null, notBefore: null, endedAt: null,
  result: null, reason: '', isUnchanged: false,
})

function addGate(parts: Parts, gate: Gate, at: number): void {
  if (parts.byId.has(gate.id) || parts.gates.has(gate.id)) throw new LichenError('TASK_ILLEGAL_EVENT', `the graph has two vertices ${gate.id}`)
  const view = { id: gate.id, state: 'closed', since: at, approvedBy: null, reason: '' } as const
  parts.gates.set(gate.id, { kind: 'gate', gate, view: { ...view }, before: [], dependents: [], unsettled: 0, failures: new Set(), cause: null, reach: 'none' })
}

function connect({ byId, gates }: Parts, vertex: AnyVertex, { id, after }: Action | Gate): void {
  for (const name of after) {
    const before = byId.get(name) ?? gates.get(name)
    if (before === undefined) throw new LichenError('TASK_ILLEGAL_EVENT', `${id} comes after ${name}, which is not in the graph`)
    vertex.before.push(before)
    before.dependents.push(vertex)
  }
}

/** All vertices, each after everything that it comes after. */
function sortVertices({ vertices, gates }: Parts): AnyVertex[] {
  const waitsFor = new Map<AnyVertex, number>()
  const order: AnyVertex[] = []
  for (const vertex of [...vertices, ...gates.values()]) {
    waitsFor.set(vertex, vertex.before.length)
    if (vertex.before.length === 0) order.push(vertex)
  }
  for (const vertex of order) {
    for (const dependent of vertex.dependents) {
      const left = (waitsFor.get(dependent) as number) - 1
      waitsFor.set(dependent, left)
      if (left === 0) order.push(dependent)
    }
  }
  if (order.length === waitsFor.size) return order
  const inCircle = [...waitsFor].filter(([, left]) => left > 0).map(([vertex]) => vertex.view.id)
  throw new LichenError('TASK_ILLEGAL_EVENT', `the graph has a circle, in or before ${inCircle.slice(0, 3).join(', ')}`)
}

function measureChains({ order }: Parts): void {
  const ahead = new Map<AnyVertex, number>()
  for (const vertex of [...order].reverse()) {
    const chain = vertex.dependents.reduce((longest, each) => Math.max(longest, ahead.get(each)! + (each.kind === 'action' ? 1 : 0)), 0)
    ahead.set(vertex, chain)
    if (vertex.kind === 'action') vertex.chain = chain
  }
}

function takeLimits(index: TaskIndex, { rollout }: ActionGraph): void {
  for (const group of index.groups.values()) {
    const limits = Object.hasOwn(rollout.groups, group.name) ? rollout.groups[group.name] : undefined
    Object.assign(group, { maxFailures: limits?.maxFailures ?? null, maxParallelNodes: limits?.maxParallelNodes ?? null })
  }
}

/** Gives actions of which only so many may be begun at once queues of their own. */
function findCohorts(index: TaskIndex): void {
  const cohorts = new Map<string, Cohort>()
  for (const vertex of index.vertices) {
    const { action, lane, group, queue } = vertex
    if (action.maxParallel === undefined) {
      if (queue.cohort !== null) vertex.queue = findQueue(lane, group, null)
      continue
    }
    const name = action.name.split(':')[0] as string
    const key = `${action.component}/${name}`
    const cohort = cohorts.get(key) ?? { component: action.component, name, most: action.maxParallel, begun: new Set() }
    cohorts.set(key, cohort)
    vertex.queue = findQueue(lane, group, cohort)
  }
}

function findSlices(index: TaskIndex): void {
  for (const vertex of index.vertices) vertex.slice = null
  for (const by of index.vertices) {
    let from = 0
    for (const { action, commands } of by.action.verifies) {
      const verified = index.byId.get(action)
      if (verified !== undefined) verified.slice = { by, from, to: from + commands }
      from += commands
    }
  }
}

/** Takes the actions, gates and limits of a graph that has the same vertices and arrows as the one before; `resetIndex` must follow. */
export function adoptGraph(index: TaskIndex, graph: ActionGraph): void {
  graph.actions.forEach((action, position) => ((index.vertices[position] as Vertex).action = action))
  for (const gate of graph.gates) (index.gates.get(gate.id) as GateVertex).gate = gate
  takeLimits(index, graph)
  findCohorts(index)
  findSlices(index)
}

/** Makes the index match the states of its actions, none of which is live; used where many change at once (a new graph, a retry of the task). */
export function resetIndex(index: TaskIndex, at: number): void {
  clearIndex(index)
  for (const vertex of index.order) {
    vertex.reach = vertex.before.reduce((reach, before) => farther(reach, reachAt(before, vertex)), ownReach(vertex))
    if (vertex.kind === 'gate') resetGate(index, vertex, at)
    else if (vertex.view.state === 'pending') resetPending(index, vertex, at)
    else if (vertex.view.state !== 'succeeded') keep(index, vertex)
  }
}

const ownReach = (vertex: AnyVertex): Reach => (vertex.kind === 'gate' || !vertex.hasChanged ? 'none' : vertex.action.isAddition ? 'near' : 'all')

function clearIndex(index: TaskIndex): void {
  for (const heap of [index.candidates, index.doomed, index.deadlines, index.retries, index.unsettled, index.unknown]) heap.clear()
  index.turns.clear()
  for (const lane of index.lanes.values()) {
    for (const { ready, cohort } of lane.queues) {
      ready.clear()
      cohort?.begun.clear()
    }
    Object.assign(lane, { ready: 0, live: 0 })
  }
  for (const group of index.groups.values()) {
    group.live.clear()
    Object.assign(group, { pendingFrom: 0, failures: 0 })
  }
  for (const set of [index.busyLanes, index.readyLanes, index.stoppedGroups, index.waitingGates]) set.clear()
  for (const vertex of index.vertices) vertex.heap = null
  Object.assign(index, { pendingFrom: 0, open: 0, failures: 0, firstFailure: null, excused: 0, kept: 0, firstKept: null })
}

const isPending = (vertex: AnyVertex): boolean => (vertex.kind === 'gate' ? vertex.view.state === 'closed' || vertex.view.state === 'waiting' : vertex.view.state === 'pending')

function resetPending(index: TaskIndex, vertex: Vertex, at: number): void {
  index.open += 1
  vertex.blockers = vertex.before.filter((before) => isPending(before) || !isDone(before)).length
  vertex.cause = vertex.before.find((before) => !isPending(before) && !isDone(before)) ?? null
  if (vertex.cause !== null) moveTo(index, vertex, index.doomed)
  else if (vertex.blockers === 0) admit(index, vertex, at)
}

function keep(index: TaskIndex, vertex: Vertex): void {
  vertex.blockers = 0
  if (isVerifying(vertex)) {
    index.excused += 1
    return
  }
  index.kept += 1
  if (index.firstKept === null || (index.firstKept.view.state === 'skipped' && vertex.view.state !== 'skipped')) index.firstKept = vertex
}

/** An approval holds as long as nothing of what was approved starts over. */
function resetGate(index: TaskIndex, vertex: GateVertex, at: number): void {
  const { state, since, approvedBy, reason } = vertex.view
  Object.assign(vertex, { unsettled: vertex.before.length, cause: null })
  vertex.failures.clear()
  const settled = vertex.before.filter((before) => !isPending(before))
  Object.assign(vertex.view, { state: 'closed', reason: '', approvedBy: settled.length === vertex.before.length ? approvedBy : null })
  for (const before of settled) countSettled(vertex, before, at)
  openIfSettled(index, vertex, at)
  if (vertex.view.state === state) Object.assign(vertex.view, { since, ...(state === 'open' && approvedBy !== null ? { reason } : {}) })
  else vertex.view.since = at
}
