import type { ActionId } from '../ids.js'
import type { Action, Gate } from './action-graph.js'

/** Actions and gates, each list in an order in which each stands after those it depends on: by the length of the longest way to it, then by id. */
export function sortGraph(actions: readonly Action[], gates: readonly Gate[]): { readonly actions: Action[]; readonly gates: Gate[] } {
  const byId = new Map<ActionId, Action | Gate>()
  for (const vertex of actions) byId.set(vertex.id, vertex)
  for (const vertex of gates) byId.set(vertex.id, vertex)
  const levels = new Map<ActionId, number>()
  for (const root of byId.keys()) {
    if (levels.has(root)) continue
    const stack = [root]
    while (stack.length > 0) {
      const id = stack.at(-1)!
      let level = 0
      let isReady = true
      for (const before of byId.get(id)!.after) {
        const known = levels.get(before)
        if (known === undefined) {
          stack.push(before)
          isReady = false
        } else if (known >= level) level = known + 1
      }
      if (!isReady) continue
      levels.set(id, level)
      stack.pop()
    }
  }
  const byLevel = (a: Action | Gate, b: Action | Gate): number => levels.get(a.id)! - levels.get(b.id)! || (a.id < b.id ? -1 : 1)
  return { actions: [...actions].sort(byLevel), gates: [...gates].sort(byLevel) }
}
