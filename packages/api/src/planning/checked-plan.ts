/** Whether a plan makes sense on these nodes, and what it comes to. */
import { asksForBefore, asksForNeighbours, buildGraph, buildInheritance, checkPlan, LichenError, type ActionGraph, type Parsed, type Plan, type Problem, type RotationRequest, type TaskKind } from '@lichen/core'
import { readNeighbours } from '@lichen/store'
import type { Context } from '../context.js'

/**
 * Every problem of the plan with this catalog and these nodes. A problem is never reported because of an old list of nodes, nor because a node that the
 * deployment has already is lost just now.
 */
export async function findPlanProblems({ store, catalog, nodes }: Pick<Context, 'store' | 'catalog' | 'nodes'>, plan: Plan, kind: TaskKind): Promise<readonly Problem[]> {
  // The usual case first: sound on the nodes as last read, without a question to the store. A destroy goes to the deployment's own nodes only, and rules may ask for them.
  const isAlone = !asksForNeighbours(plan, catalog, kind)
  if (kind !== 'destroy' && isAlone && !asksForBefore(plan, catalog) && checkPlan(plan, catalog, await nodes.readRecent(), { kind }).length === 0) return []
  const { project, deployment } = nameDeployment(plan)
  const [footprint, records, known, neighbours] = await Promise.all([
    store.tasks.readFootprint(project, deployment), nodes.readFresh(), isAlone ? [] : store.tasks.readApplied(project, deployment), readNeighbours(store.tasks, { plan, catalog, kind, project, deployment }),
  ])
  return checkPlan(plan, catalog, records, { placement: footprint?.placement, kind, inheritance: buildInheritance(footprint, new Set(known.map(({ action }) => action))), neighbours })
}

/** The graph of the plan as an engine would build it now: same nodes as before where the deployment has some, and with what is applied already left out. `rotation`: of an apply that rotates secrets. */
export async function buildGraphNow({ store, catalog, nodes }: Pick<Context, 'store' | 'catalog' | 'nodes'>, plan: Plan, kind: TaskKind, rotation?: RotationRequest): Promise<Parsed<ActionGraph>> {
  const { project, deployment } = nameDeployment(plan)
  const [footprint, records, known, neighbours] = await Promise.all([
    store.tasks.readFootprint(project, deployment), nodes.readFresh(), kind === 'check' ? [] : store.tasks.readApplied(project, deployment),
    readNeighbours(store.tasks, { plan, catalog, kind, project, deployment }),
  ])
  const applied = new Map(known.map((entry) => [entry.action, entry]))
  return buildGraph({ plan, catalog, nodes: records, placement: footprint?.placement, kind, applied, inheritance: buildInheritance(footprint, applied), neighbours, rotation })
}

/** Which deployment the plan belongs to. */
export const nameDeployment = (plan: Plan): { readonly project: string; readonly deployment: string } => ({ project: plan.metadata.project ?? 'default', deployment: plan.metadata.name })

/** @throws PREVIEW_MOVED when the graph of now is not the one that was looked at */
export async function checkPreview(context: Pick<Context, 'store' | 'catalog' | 'nodes'>, plan: Plan, kind: TaskKind, previewDigest: string): Promise<void> {
  const graph = await buildGraphNow(context, plan, kind)
  if (graph.ok && graph.value.digest === previewDigest) return
  const found = graph.ok ? `the same preview now has the digest ${graph.value.digest}` : 'the plan cannot be planned any more'
  throw new LichenError('PREVIEW_MOVED', `previewDigest ${previewDigest}: ${found}; the plan, the catalog, the nodes, their facts or what is applied already have changed`, graph.ok ? {} : { problems: graph.problems })
}
