/** Decisions about what can no longer run: it is skipped, with the reason. */
import { type Decision, record, type World } from './decision.js'
import { isAccepted } from './send-decisions.js'
import { type AnyVertex, type Group, isVerifying, type Vertex } from './task-index.js'
import type { TaskLimits } from './task-limits.js'
import type { TrackedTask } from './tracked-task.js'

/** What is to be skipped now, at most `limits.decisionsAtOnce`. */
export function skip(task: TrackedTask, world: World, { decisionsAtOnce: most }: TaskLimits): Decision[] {
  const { index } = task
  const stop = reasonToStop(task)
  // A failure keeps no node from being looked at, as far as nobody has to wait for it.
  const isKept = ({ action, cause }: Vertex): boolean => action.isPreflight === true && cause === null && isAccepted(action, world.reachOf(action.node).state)
  if (stop === undefined) {
    const found = findDoomed(index.doomed.first(most), most)
    for (const group of index.stoppedGroups) for (const vertex of listPending(group.vertices, group.pendingFrom, most - found.size, isKept)) if (!found.has(vertex)) found.set(vertex, reasonOfGroup(group))
    return [...found].map(([vertex, reason]) => skipOf(vertex, reason))
  }
  const decisions: Decision[] = []
  if (task.state === 'cancelling') for (const vertex of index.retries.first(most)) decisions.push(skipOf(vertex, `${stop} while it waited for another attempt; ${vertex.view.reason}`))
  for (const vertex of listPending(index.vertices, index.pendingFrom, most - decisions.length, task.state === 'cancelling' ? () => false : isKept)) decisions.push(skipOf(vertex, vertex.cause === null || wasSkipped(vertex.cause) ? stop : reasonOfDoom(vertex.cause)))
  return decisions
}

/** What comes after something skipped for the same reason says the reason, not that. */
const wasSkipped = (cause: AnyVertex): boolean => cause.view.state === 'skipped'

const skipOf = (vertex: Vertex, reason: string): Decision => record({ type: 'actionSkipped', action: vertex.action.id, reason })

function listPending(vertices: readonly Vertex[], from: number, most: number, isKept: (vertex: Vertex) => boolean): Vertex[] {
  const found: Vertex[] = []
  for (let at = from; at < vertices.length && found.length < most; at++) {
    const vertex = vertices[at] as Vertex
    if (vertex.view.state === 'pending' && !isKept(vertex)) found.push(vertex)
  }
  return found
}

/** Why nothing new may begin; undefined while something may. */
export function reasonToStop(task: TrackedTask): string | undefined {
  if (task.state === 'cancelling') return task.isOverLimit ? 'the time limit of the task was over' : 'cancelled'
  const allowed = task.graph?.rollout.maxFailures ?? null
  const { failures } = task.index
  return allowed !== null && failures > allowed ? `not started: ${countFailed(failures)}, and rollout.maxFailures allows ${allowed}` : undefined
}

const countFailed = (failures: number): string => `${failures} ${failures === 1 ? 'action' : 'actions'} failed`

const reasonOfGroup = ({ name, failures, maxFailures }: Group): string => `not started: ${countFailed(failures)} in group ${name}, and its rollout.maxFailures allows ${maxFailures}`

const reasonOfDoom = (cause: AnyVertex): string => `not started: ${describeCause(cause)}`

/** What is to blame, in words. */
export function describeCause(cause: AnyVertex): string {
  if (cause.kind === 'gate') return `it comes after ${cause.gate.meaning}: ${cause.view.reason}`
  const what = { failed: 'failed', timedOut: 'timed out', cancelled: 'was cancelled', unknown: 'ended with an unknown outcome' }[cause.view.state as string] ?? 'was skipped'
  return `it comes after ${cause.action.id}, which ${what}`
}

/** Pending actions that cannot run, with the reason: those known to the index and all that come after them, as far as the next gate. */
function findDoomed(doomed: readonly Vertex[], most: number): Map<Vertex, string> {
  const found = new Map<Vertex, string>()
  const queue = doomed.map((vertex): [Vertex, AnyVertex] => [vertex, vertex.cause ?? vertex])
  for (const [vertex, cause] of queue) found.set(vertex, reasonOfDoom(cause))
  for (let at = 0; at < queue.length && found.size < most; at++) {
    const [vertex, cause] = queue[at] as [Vertex, AnyVertex]
    if (isVerifying(vertex)) continue
    for (const dependent of vertex.dependents) {
      if (dependent.kind === 'gate' || dependent.view.state !== 'pending' || found.has(dependent)) continue
      found.set(dependent, reasonOfDoom(cause))
      queue.push([dependent, cause])
    }
  }
  return found
}
