/** What a retry with new parameters may change of a graph: the commands of actions that have not succeeded, and nothing about which actions there are. */
import type { Action, ActionGraph, Gate } from '../graph/action-graph.js'
import { isPreflightGate } from '../graph/action-planner.js'
import { digestOfGraph, encodeCanonical } from '../graph/digest.js'
import type { ActionId } from '../ids.js'
import type { TrackedTask } from './tracked-task.js'

/**
 * True when both have the same actions on the same nodes, the same gates, and the same arrows, all in the same order, and for each the same rules by which events are
 * read: old events are folded over the new graph.
 */
export function hasSameShape(before: ActionGraph, after: ActionGraph): boolean {
  if (before.actions.length !== after.actions.length || before.gates.length !== after.gates.length) return false
  return before.actions.every((action, index) => isSamePlace(action, after.actions[index] as Action)) && before.gates.every((gate, index) => isSameGate(gate, after.gates[index] as Gate))
}

const isSameList = (left: readonly string[], right: readonly string[]): boolean => left.length === right.length && left.every((entry, index) => entry === right[index])

const isSamePlace = (left: Action, right: Action): boolean =>
  left.id === right.id && left.node === right.node && left.group === right.group && isSameList(left.after, right.after) && hasSameRules(left, right)

const hasSameRules = (left: Action, right: Action): boolean =>
  left.mode === right.mode && left.limitMs === right.limitMs && left.retry.attempts === right.retry.attempts && left.retry.backoffMs === right.retry.backoffMs &&
  left.verifies.length === right.verifies.length && left.verifies.every(({ action, commands }, index) => action === right.verifies[index]?.action && commands === right.verifies[index].commands)

const isSameGate = (left: Gate, right: Gate): boolean => left.id === right.id && left.approve === right.approve && left.maxFailures === right.maxFailures && isSameList(left.after, right.after)

/**
 * What keeps the new graph from taking the place of the task's: the ids of actions and gates that are new, gone, elsewhere in the graph, or that succeeded and would
 * do something else now. Empty when it may.
 */
export function findMoved(task: TrackedTask, before: ActionGraph, after: ActionGraph): ActionId[] {
  const moved = new Set<ActionId>([...findReplaced(before.actions, after.actions, isSamePlace), ...findReplaced(before.gates, after.gates, isSameGate)])
  const next = new Map(after.actions.map((action) => [action.id, action]))
  for (const { action, view } of task.index.vertices) {
    const now = next.get(action.id)
    if (view.state === 'succeeded' && now !== undefined && (now.key !== action.key || (view.isUnchanged && !hasSameOutputs(action, now)))) moved.add(action.id)
  }
  if (moved.size === 0 && !hasSameShape(before, after)) for (const [index, { id }] of before.actions.entries()) if (after.actions[index]?.id !== id) moved.add(id)
  return [...moved]
}

function findReplaced<Entry extends Action | Gate>(before: readonly Entry[], after: readonly Entry[], isSame: (left: Entry, right: Entry) => boolean): ActionId[] {
  const known = new Map(before.map((entry) => [entry.id, entry]))
  const found: ActionId[] = []
  for (const entry of after) {
    const earlier = known.get(entry.id)
    known.delete(entry.id)
    if (earlier === undefined || !isSame(earlier, entry)) found.push(entry.id)
  }
  return [...found, ...known.keys()]
}

const hasSameOutputs = (left: Action, right: Action): boolean => encodeCanonical(left.unchanged?.outputs ?? null) === encodeCanonical(right.unchanged?.outputs ?? null)

/**
 * The graph that is to take the place of `before` in a retry: `fresh`, the graph of the plan with new parameters, with what `before` knew of unchanged actions. Planning
 * anew knows something else of them (what this task did meanwhile, what its new parameters change), and so has other verifying actions, which are no change of the plan.
 * `fresh` itself when it differs by more than those: `answerRequest` says then what moved.
 */
export function rebaseGraph(before: ActionGraph, fresh: ActionGraph): ActionGraph {
  const verifying = new Set([...before.actions, ...fresh.actions].filter((action) => action.verifies.length > 0).map((action) => action.id))
  const plain = (list: readonly ActionId[]): ActionId[] => list.filter((id) => !verifying.has(id))
  const freshActions = new Map(fresh.actions.map((action) => [action.id, action]))
  const freshGates = new Map(fresh.gates.map((gate) => [gate.id, gate]))
  const isKnown = ({ id, after }: Action): boolean => verifying.has(id) || isSameList(plain(after), plain(freshActions.get(id)?.after ?? [id]))
  const countPlain = ({ actions }: ActionGraph): number => actions.filter(({ id }) => !verifying.has(id)).length
  if (countPlain(fresh) !== countPlain(before) || !before.actions.every(isKnown)) return fresh
  if (fresh.gates.length !== before.gates.length || !before.gates.every(({ id }) => freshGates.has(id))) return fresh
  const actions = before.actions.map((action) => (verifying.has(action.id) ? action : rebaseAction(action, freshActions.get(action.id) as Action)))
  const gates = before.gates.map((gate) => rebaseGate(gate, freshGates.get(gate.id) as Gate))
  const { digest: _digest, ...rest } = { ...fresh, actions, gates }
  return { ...rest, digest: digestOfGraph(rest) }
}

/** Which preflights are unchanged by now is no change of the plan either. */
const rebaseGate = (before: Gate, fresh: Gate): Gate => (isPreflightGate(before) ? { ...fresh, after: before.after } : fresh)

/** Retries and limits are no parameters; those of before stay, whatever the catalog says by now. Nor is which nodes were new, which a planning on the nodes of the task does not see. */
const rebaseAction = (before: Action, fresh: Action): Action => ({
  ...fresh, after: before.after, retry: before.retry, limitMs: before.limitMs, unchanged: fresh.key === before.key ? before.unchanged : null, ...(before.isAddition && { isAddition: before.isAddition }),
})
