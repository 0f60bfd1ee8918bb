/** What it means for those that come after a vertex that it is settled: actions may begin or cannot run any more, gates open or fail, and so on through the gates. */
import { admit } from './admission.js'
import { countSettled, openIfSettled } from './gate-transitions.js'
import { farther, reachAt } from './reach.js'
import { type AnyVertex, type GateVertex, isDone, isOpen, moveTo, type Vertex } from './task-index.js'
import type { TaskDraft } from './tracked-task.js'

/** Tells everything that comes after the vertex that it is settled. Costs the number of those; gates that open or fail by it cost theirs. */
export function announce(task: TaskDraft, first: AnyVertex, at: number): void {
  const settled: AnyVertex[] = [first]
  for (const vertex of settled) {
    for (const dependent of vertex.dependents) {
      dependent.reach = farther(dependent.reach, reachAt(vertex, dependent))
      if (dependent.kind === 'action') tellAction(task, dependent, vertex, at)
      else if (tellGate(task, dependent, vertex, at)) settled.push(dependent)
    }
  }
}

function tellAction({ index }: TaskDraft, dependent: Vertex, settled: AnyVertex, at: number): void {
  const { view } = dependent
  if (isDone(settled)) {
    dependent.blockers -= 1
    if (dependent.blockers === 0 && view.state === 'pending') admit(index, dependent, at)
  } else if (view.state === 'pending' && dependent.cause === null) {
    dependent.cause = settled.kind === 'action' ? (settled.cause ?? settled) : settled
    moveTo(index, dependent, index.doomed)
  }
}

/** True when the gate is settled by it. While the task is cancelled gates stay as they are: nothing is to begin, and nobody is to be asked. */
function tellGate({ index, state }: TaskDraft, gate: GateVertex, settled: AnyVertex, at: number): boolean {
  if (state === 'cancelling' || gate.view.state !== 'closed') return false
  countSettled(gate, settled, at)
  openIfSettled(index, gate, at)
  return !isOpen(index, gate)
}

/** Takes back that the vertex was settled as a failure: what was doomed by it may run again, gates that failed or opened by it are closed. */
export function takeBack(task: TaskDraft, first: Vertex): void {
  const { index } = task
  const revived: AnyVertex[] = [first]
  for (const vertex of revived) {
    for (const dependent of vertex.dependents) {
      if (dependent.kind === 'action') {
        if (dependent.cause !== vertex || dependent.view.state !== 'pending') continue
        dependent.cause = null
        moveTo(index, dependent, null)
      } else if (closeAgain(task, dependent, vertex)) revived.push(dependent)
    }
  }
}

function closeAgain({ index }: TaskDraft, gate: GateVertex, vertex: AnyVertex): boolean {
  const { state } = gate.view
  if (vertex.kind === 'action' ? !gate.failures.delete(vertex) : gate.cause !== (vertex.cause ?? vertex)) return false
  gate.unsettled += 1
  if (state === 'open') for (const dependent of gate.dependents) if (dependent.kind === 'action') holdBack(index, dependent)
  index.waitingGates.delete(gate)
  Object.assign(gate, { cause: null })
  Object.assign(gate.view, { state: 'closed', reason: '' })
  return state === 'failed'
}

function holdBack(index: TaskDraft['index'], dependent: Vertex): void {
  dependent.blockers += 1
  if (dependent.view.state === 'pending') moveTo(index, dependent, null)
}
