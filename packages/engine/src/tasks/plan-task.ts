/** From an accepted plan to its action graph, or to the end of the task when the plan does not fit any more. */
import { type ActionGraph, type ActionId, buildGraph, buildInheritance, type Catalog, type Departure, findForgotten, type Footprint, type FormerPlan, type NodeRecord, type Parsed, parsePlan, type Problem, type TaskEvent, type TaskView } from '@lichen/core'
import { type AppliedAction, readNeighbours, type Store, type TaskSummary } from '@lichen/store'
import type { EngineLog } from '../engine-log.js'

/** What planning reads. */
export interface PlanningParts {
  readonly store: Pick<Store, 'tasks'>
  /** The registered nodes as they are now. */
  readonly readNodes: () => Promise<readonly NodeRecord[]>
  readonly catalog: Catalog
  /** How long a node may have been silent and still counted as ready when the plan was accepted. */
  readonly lostAfterMs: number
  readonly log: EngineLog
}

/** `unapplied`: actions whose last success counts no more from here on, because they are about to run or to be taken away. */
export type Planned = { readonly event: TaskEvent; readonly graph: ActionGraph | null; readonly unapplied?: readonly ActionId[] }

/**
 * The event that follows: `taskPlanned` with its graph, or `taskEnded` when the plan was right at its acceptance and no longer is (other catalog, fewer
 * nodes), or when the graph is not the one that was previewed. `plan`: JSON text as stored. A node that was lost since the acceptance counts as it did then: its actions
 * wait for it, as they would had they been planned at once.
 * @throws STORE_UNAVAILABLE
 */
export async function planTask({ store, readNodes, catalog, lostAfterMs, log }: PlanningParts, summary: TaskSummary, plan: string, { previewDigest, operation, rotation }: Pick<TaskView, 'previewDigest' | 'operation' | 'rotation'>): Promise<Planned> {
  const { kind, project, deployment } = summary
  const [registered, footprint, known] = await Promise.all([readNodes(), store.tasks.readFootprint(project, deployment), kind === 'check' ? [] : store.tasks.readApplied(project, deployment)])
  const base = operation?.base ?? rotation?.base
  if (base !== undefined) {
    const what = operation === null ? 'the rotation of secrets' : `operation ${operation.name}`
    const last = await store.tasks.readLastPlan(project, deployment)
    if (last?.task !== base) return reject([{ code: 'TASK_PLAN_REJECTED', path: operation === null ? 'rotation' : 'operation', message: `${what} was accepted for what task ${base} applied; meanwhile task ${last?.task ?? '(none)'} ${last?.kind === 'destroy' ? 'destroyed the deployment' : `has applied another plan: ${operation === null ? 'ask for it' : 'run the operation'} again`}` }])
  }
  const nodes = registered.map((node) => (node.lastSeenAt >= summary.createdAt - lostAfterMs ? { ...node, state: 'ready' as const } : node))
  const applied = new Map(known.map((entry) => [entry.action, entry]))
  const parsed = parsePlan(plan)
  const neighbours = parsed.ok ? await readNeighbours(store.tasks, { plan: parsed.value, catalog, kind, project, deployment }) : []
  let built: Parsed<ActionGraph>
  try {
    built = parsed.ok ? buildGraph({ plan: parsed.value, kind, catalog, nodes, placement: footprint?.placement, applied, inheritance: buildInheritance(footprint, applied), neighbours, ...(operation !== null && { operation }), ...(rotation !== null && { rotation }) }) : parsed
  } catch (error) {
    // The same plan would fail the same way each time: better an end that says so than a task that stands still.
    log.error({ err: error, taskId: summary.id }, 'planning failed because of a defect')
    return { event: { type: 'taskEnded', outcome: 'failed', reason: 'planning failed because of a defect in Lichen; the log of the engine has the details', failure: { code: 'INTERNAL', message: 'planning failed' } }, graph: null }
  }
  if (!built.ok) return reject(built.problems)
  const graph = built.value
  if (previewDigest !== null && graph.digest !== previewDigest) {
    const reason = 'the inputs of the preview have moved since it was made: plan, catalog, nodes or what is applied already differ'
    return { event: { type: 'taskEnded', outcome: 'rejected', reason, failure: { code: 'PREVIEW_MOVED', message: reason }, problems: [{ code: 'PREVIEW_MOVED', path: 'previewDigest', message: `the preview had the digest ${previewDigest}, the graph has ${graph.digest}` }] }, graph: null }
  }
  return { event: { type: 'taskPlanned', graphDigest: graph.digest, actionCount: graph.actions.length }, graph, unapplied: listUnapplied(graph, applied, footprint) }
}

function reject(problems: readonly Problem[]): Planned {
  const reason = `the plan no longer fits: ${problems[0]?.message ?? ''}${problems.length > 1 ? ` (and ${problems.length - 1} more)` : ''}`
  return { event: { type: 'taskEnded', outcome: 'rejected', reason, failure: { code: 'TASK_PLAN_REJECTED', message: reason }, problems }, graph: null }
}

/**
 * Recorded successes that the task is about to make untrue: all of them when it destroys, none of them when it is an operation, else those of actions that run and of what leaves. What took something away earlier
 * counts as long as something of that departure is left to do.
 */
function listUnapplied(graph: ActionGraph, applied: ReadonlyMap<ActionId, AppliedAction>, footprint: Footprint | undefined): readonly ActionId[] {
  if (graph.kind === 'operation') return []
  const done = new Set(listDepartures(graph.departures).flatMap((departure) => departure.done))
  if (graph.kind === 'destroy') return [...applied.keys()].filter((id) => !done.has(id))
  const over = listDepartures(footprint?.departures).flatMap(({ actions }) => actions.filter((id) => applied.has(id) && !done.has(id)))
  const running = graph.actions.filter((action) => action.unchanged === null && applied.has(action.id)).map((action) => action.id)
  return [...new Set([...running, ...over, ...findForgotten(graph, applied.values()).map(({ action }) => action)])]
}

const listDepartures = (formers: readonly FormerPlan[] = []): readonly Departure[] => formers.flatMap(({ departures }) => departures)
