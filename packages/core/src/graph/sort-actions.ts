import type { Action } from './action-graph.js'

/** The actions in an order in which each stands after those it depends on: by the length of the longest way to it, then by id. */
export function sortActions(actions: readonly Action[]): Action[] {
  const byId = new Map(actions.map((action) => [action.id as string, action]))
  const levels = new Map<string, number>()
  for (const root of byId.keys()) {
    const stack = [root]
    while (stack.length > 0) {
      const action = byId.get(stack.at(-1)!)!
      const open = action.after.filter((id) => !levels.has(id))
      if (open.length > 0) stack.push(...open)
      else {
        levels.set(action.id, Math.max(-1, ...action.after.map((id) => levels.get(id)!)) + 1)
        stack.pop()
      }
    }
  }
  return [...actions].sort((a, b) => levels.get(a.id)! - levels.get(b.id)! || (a.id < b.id ? -1 : 1))
}
