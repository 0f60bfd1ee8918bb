import type { ActionId } from '../ids.js'
import type { ActionGraph } from './action-graph.js'

/** An action graph in numbers. The actions that look after unchanged ones are counted by `verifying` alone. */
export interface GraphCounts {
  /** Actions that run in any case. */
  readonly toRun: number
  /** Actions that are left out, unless a look finds their effect gone or something that they come after changes. */
  readonly unchanged: number
  readonly verifying: number
  /** Gates at which a person is asked in any case: something right after them runs. */
  readonly approvals: number
  /** Of the actions that run: those that come after such a gate. */
  readonly toRunAfterApproval: number
  /** Of the actions that run: those that take away what leaves. */
  readonly departing: number
}

/** What a graph comes to, in numbers. Costs its size. */
export function countGraph({ actions, gates }: Pick<ActionGraph, 'actions' | 'gates'>): GraphCounts {
  const approved = findApproved(actions, gates)
  const toRun = actions.filter((action) => action.unchanged === null && action.verifies.length === 0)
  const begun = new Set(toRun.flatMap((action) => action.after))
  return {
    toRun: toRun.length,
    unchanged: actions.filter((action) => action.unchanged !== null).length,
    verifying: actions.filter((action) => action.verifies.length > 0).length,
    approvals: gates.filter((gate) => gate.approve && begun.has(gate.id)).length,
    toRunAfterApproval: toRun.filter((action) => approved.has(action.id)).length,
    departing: toRun.filter((action) => action.isDeparture === true).length,
  }
}

/** Everything that comes after a gate at which a person is asked. */
function findApproved(actions: ActionGraph['actions'], gates: ActionGraph['gates']): ReadonlySet<ActionId> {
  const dependents = new Map<ActionId, ActionId[]>()
  for (const { id, after } of [...actions, ...gates]) {
    for (const before of after) {
      const list = dependents.get(before)
      if (list) list.push(id)
      else dependents.set(before, [id])
    }
  }
  const found = new Set<ActionId>()
  const queue = gates.filter((gate) => gate.approve).map((gate) => gate.id)
  for (const id of queue) {
    for (const dependent of dependents.get(id) ?? []) {
      if (found.has(dependent)) continue
      found.add(dependent)
      queue.push(dependent)
    }
  }
  return found
}
