/** Where a task needs a person: gates to approve, unknown outcomes to settle, a pause to end. */
import type { Static } from '@sinclair/typebox'
import type { ActionView, Gate, GateState, GateView, TaskView } from '@lichen/core'
import { settleAnswers, type GateSchema, type UnknownActionSchema } from './task-schemas.js'

// What a person looks at; a rollout over a thousand racks has thousands of gates.
const gatesShown = 100
const unknownShown = 20

type GateAnswer = Static<typeof GateSchema>

/** The gates of the task in the order of its graph, at most a hundred: those that wait or failed first, then the next to open, then those that are open. */
export function listGates(view: TaskView): GateAnswer[] {
  const gates = view.graph?.gates ?? []
  const shown = gates.length <= gatesShown ? gates : chooseGates(view, gates)
  return shown.flatMap((gate) => {
    const now = view.gates.get(gate.id)
    return now === undefined ? [] : [describeGate(gate, now)]
  })
}

function chooseGates(view: TaskView, gates: readonly Gate[]): readonly Gate[] {
  const chosen = new Set<Gate>()
  for (const state of ['waiting', 'failed', 'closed', 'open'] satisfies GateState[]) {
    for (const gate of gates) if (chosen.size < gatesShown && view.gates.get(gate.id)?.state === state) chosen.add(gate)
  }
  return gates.filter((gate) => chosen.has(gate))
}

const describeGate = ({ id, component, meaning, approve }: Gate, { state, since, approvedBy, reason }: GateView): GateAnswer => ({ id, component, meaning, state, approve, since, approvedBy, reason })

/** Number of gates by state; states that no gate is in are left out. */
export function countGates(view: TaskView): Record<string, number> {
  const counts: Record<string, number> = {}
  for (const { state } of view.gates.values()) counts[state] = (counts[state] ?? 0) + 1
  return counts
}

/** Actions whose outcome is unknown, in the order of the graph, at most twenty. */
export function listUnknown(view: TaskView): Static<typeof UnknownActionSchema>[] {
  if (view.counts.unknown === 0) return []
  const found: Static<typeof UnknownActionSchema>[] = []
  for (const action of view.actions.values()) {
    if (action.state !== 'unknown') continue
    found.push({ action: action.id, node: action.node, attempt: action.attempt, since: action.endedAt ?? view.acceptedAt, reason: action.result?.failure?.message ?? action.reason, answers: answersOf(view, action) })
    if (found.length === unknownShown) break
  }
  return found
}

/** What a person can answer about the action now; nothing unless its outcome is unknown and the task goes on. */
export const answersOf = (view: TaskView, action: ActionView): (typeof settleAnswers)[number][] => (action.state === 'unknown' && view.state !== 'ended' && view.state !== 'cancelling' ? [...settleAnswers] : [])

/** Whether the task waits for a person: it is paused, a gate waits for approval, or an outcome is unknown. */
export function needsPerson(view: TaskView): boolean {
  if (view.state === 'ended' || view.state === 'cancelling') return false
  if (view.state === 'paused' || view.counts.unknown > 0) return true
  for (const { state } of view.gates.values()) if (state === 'waiting') return true
  return false
}
