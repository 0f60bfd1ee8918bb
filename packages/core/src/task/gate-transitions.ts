/**
 * What becomes of a gate. It counts what it comes after: an action that failed once, however many were skipped because of it, so that "so many may fail" never lets
 * pass what nobody did. It fails as soon as more failed than may, and opens, or waits for a person, when everything is settled. Nobody is asked to approve nothing.
 */
import { type AnyVertex, type GateVertex, isDone, type TaskIndex, type Vertex } from './task-index.js'
import type { GateState } from './task-view.js'
import { hasNothingToApprove } from './unchanged.js'

/** Takes note that something the gate comes after is settled. The gate may fail by it; it does not open yet. */
export function countSettled(gate: GateVertex, settled: AnyVertex, at: number): void {
  gate.unsettled -= 1
  if (gate.view.state !== 'closed' || isDone(settled)) return
  if (settled.kind === 'gate') return failAfter(gate, settled, at)
  if (settled.view.state !== 'skipped') return countFailed(gate, settled, at)
  const { cause } = settled
  if (cause === null || (cause.kind === 'action' && cause.view.state === 'skipped')) return setGate(gate, 'failed', `${settled.view.id} was skipped`, at)
  if (cause.kind === 'gate') return failAfter(gate, cause, at)
  countFailed(gate, cause, at)
}

function failAfter(gate: GateVertex, earlier: GateVertex, at: number): void {
  const root = earlier.cause ?? earlier
  gate.cause = root
  setGate(gate, 'failed', `it comes after ${root.gate.meaning}: ${root.view.reason}`, at)
}

function countFailed(gate: GateVertex, action: Vertex, at: number): void {
  gate.failures.add(action)
  const { maxFailures } = gate.gate
  if (gate.failures.size <= maxFailures) return
  const names = [...gate.failures].slice(0, 3).map(({ view }) => view.id)
  const more = gate.failures.size > names.length ? ', …' : ''
  setGate(gate, 'failed', `${gate.failures.size} ${gate.failures.size === 1 ? 'action' : 'actions'} failed (${names.join(', ')}${more}), and ${maxFailures} may`, at)
}

/** Opens the gate, or lets it wait for its approval, when everything before it is settled and not too much of it failed. */
export function openIfSettled(index: TaskIndex, gate: GateVertex, at: number): void {
  if (gate.view.state !== 'closed' || gate.unsettled > 0) return
  if (!gate.gate.approve || gate.view.approvedBy !== null) return setGate(gate, 'open', '', at)
  if (hasNothingToApprove(index, gate)) return setGate(gate, 'open', 'nothing that comes after it changes', at)
  setGate(gate, 'waiting', 'waits for approval', at)
  index.waitingGates.add(gate)
}

function setGate(gate: GateVertex, state: GateState, reason: string, at: number): void {
  Object.assign(gate.view, { state, reason, since: at })
}

/** A person approved. */
export function approveGate(index: TaskIndex, gate: GateVertex, by: string, reason: string, at: number): void {
  index.waitingGates.delete(gate)
  gate.view.approvedBy = by
  setGate(gate, 'open', `approved by ${by}${reason === '' ? '' : `: ${reason}`}`, at)
}

/** Nobody is asked any more: the run is at its end, or is being cancelled. */
export function withdrawQuestions(index: TaskIndex, at: number): void {
  for (const gate of index.waitingGates) setGate(gate, 'closed', 'nobody approved it before the end', at)
  index.waitingGates.clear()
}
