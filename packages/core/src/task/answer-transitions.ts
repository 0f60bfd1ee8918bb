/** What the answers of people do: an unknown outcome is settled or the action runs again; a gate is approved. Called by state.ts alone. */
import { LichenError } from '../errors.js'
import type { AttemptResult } from '../command/result.js'
import { type EventOf, isGoingOn, refuse, setState, settleFailure, settleSuccess, vertexOf } from './action-transitions.js'
import { admit } from './admission.js'
import { announce } from './consequences.js'
import { approveGate } from './gate-transitions.js'
import { moveTo, reachPending, type Vertex } from './task-index.js'
import { describeTime } from './task-limits.js'
import type { TaskDraft } from './tracked-task.js'

/** The action whose outcome is unknown and asked for. */
function questionedOf(task: TaskDraft, event: EventOf<'actionSettled'> | EventOf<'actionRunAgain'>): Vertex {
  const vertex = vertexOf(task, event.action)
  if (!isGoingOn(task)) refuse(task, vertex, event, 'nobody is asked any more')
  if (vertex.heap !== task.index.unknown) refuse(task, vertex, event, 'its outcome is not asked for')
  if (event.attempt !== vertex.view.attempt) refuse(task, vertex, event, `attempt ${event.attempt} is not the newest`)
  return vertex
}

const because = (reason: string): string => (reason === '' ? '' : `: ${reason}`)

/** As if the attempt had ended so. That it may have changed something stays true. */
export function applyActionSettled(task: TaskDraft, event: EventOf<'actionSettled'>, at: number): void {
  const vertex = questionedOf(task, event)
  const reason = `settled as ${event.as} by ${event.by} at ${describeTime(at)}${because(event.reason)}`
  moveTo(task.index, vertex, null)
  setState(task, vertex, event.as)
  Object.assign(vertex.view, { endedAt: at, reason, result: settledResult(vertex, event, reason) })
  if (event.as === 'succeeded') settleSuccess(task, vertex, at)
  else settleFailure(task, vertex, at)
}

function settledResult({ view }: Vertex, event: EventOf<'actionSettled'>, reason: string): AttemptResult | null {
  if (view.result === null) return null
  const { failure, ...rest } = view.result
  if (event.as === 'succeeded') return { ...rest, outcome: 'succeeded', changed: true }
  const before = failure === undefined ? '' : `; what was known: ${failure.message}`
  const command = failure?.command === undefined ? {} : { command: failure.command }
  return { ...rest, outcome: 'failed', failure: { code: 'ACTION_SETTLED', message: `attempt ${event.attempt}, whose outcome was unknown, was ${reason}${before}`, ...command } }
}

/** The action starts over, with all its attempts and its whole time: what a person took to answer is not its own. */
export function applyActionRunAgain(task: TaskDraft, event: EventOf<'actionRunAgain'>, at: number): void {
  const vertex = questionedOf(task, event)
  moveTo(task.index, vertex, null)
  setState(task, vertex, 'pending')
  Object.assign(vertex.view, { attemptsInRun: 0, sentAt: null, begunAt: null, endedAt: null, reason: `${event.by} lets it run again${because(event.reason)}` })
  reachPending(task.index, vertex)
  admit(task.index, vertex, at)
}

/** The gate opens. */
export function applyGateApproved(task: TaskDraft, event: EventOf<'gateApproved'>, at: number): void {
  const gate = task.index.gates.get(event.gate)
  if (gate === undefined) throw new LichenError('TASK_ILLEGAL_EVENT', `event ${task.seq + 1}: no gate ${event.gate} in this task`)
  if (!isGoingOn(task) || gate.view.state !== 'waiting') throw new LichenError('TASK_ILLEGAL_EVENT', `event ${task.seq + 1}, gateApproved of ${event.gate}: it does not wait (gate is ${gate.view.state}; task is ${task.state})`)
  approveGate(task.index, gate, event.by, event.reason, at)
  announce(task, gate, at)
}
