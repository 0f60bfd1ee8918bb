/** What an action that nothing holds back any more comes to: it waits for its turn, or need not run. */
import { canStayUnchanged } from './unchanged.js'
import { moveTo, type TaskIndex, type Vertex } from './task-index.js'

/** Nothing but limits and its node hold the action back from now on; or it is a candidate for being left out. */
export function admit(index: TaskIndex, vertex: Vertex, at: number): void {
  vertex.readySince = at
  moveTo(index, vertex, canStayUnchanged(index, vertex) ? index.candidates : vertex.queue.ready)
}
