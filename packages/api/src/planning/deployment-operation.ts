/** What a deployment is, for operations on it: the plan of its newest apply, and the graph of an operation. */
import { buildGraph, buildInheritance, type ActionGraph, LichenError, listSecrets, type OperationRequest, parsePlan, type Plan, resolveComponents, type SecretEntry, type TaskId } from '@lichen/core'
import type { Context } from '../context.js'
import { rejectPlan } from './plan-input.js'

export interface AppliedPlan {
  readonly task: TaskId
  readonly plan: Plan
  /** JSON text. */
  readonly text: string
}

/**
 * The plan that the deployment was last applied with.
 * @throws OPERATION_NO_DEPLOYMENT, OPERATION_DESTROYED
 */
export async function readAppliedPlan({ store }: Pick<Context, 'store'>, project: string, deployment: string): Promise<AppliedPlan> {
  const last = await store.tasks.readLastPlan(project, deployment)
  if (last === undefined) throw new LichenError('OPERATION_NO_DEPLOYMENT', `no apply of a deployment ${project}/${deployment} was planned yet; apply its plan first`)
  if (last.kind === 'destroy') throw new LichenError('OPERATION_DESTROYED', `deployment ${project}/${deployment} was destroyed by task ${last.task}; apply its plan anew first`)
  const parsed = parsePlan(last.plan)
  if (!parsed.ok) throw rejectPlan(parsed.problems)
  return { task: last.task, plan: parsed.value, text: last.plan }
}

/**
 * The graph of the operation as an engine would build it now.
 * @throws OPERATION_*, PLAN_* with every problem
 */
export async function buildOperationGraph({ store, catalog, nodes }: Pick<Context, 'store' | 'catalog' | 'nodes'>, plan: Plan, operation: OperationRequest): Promise<ActionGraph> {
  const [footprint, records] = await Promise.all([store.tasks.readFootprint(plan.metadata.project ?? 'default', plan.metadata.name), nodes.readFresh()])
  const graph = buildGraph({ plan, catalog, nodes: records, placement: footprint?.placement, kind: 'operation', operation, inheritance: buildInheritance(footprint, new Map()) })
  if (!graph.ok) throw rejectPlan(graph.problems)
  return graph.value
}

/**
 * The secrets of the deployment that has this plan.
 * @throws PLAN_* when it does not fit the catalog any more
 */
export async function readSecrets({ store, catalog }: Pick<Context, 'store' | 'catalog'>, plan: Plan): Promise<SecretEntry[]> {
  const { components, problems } = resolveComponents(plan, catalog)
  if (problems.length > 0) throw rejectPlan(problems)
  const footprint = await store.tasks.readFootprint(plan.metadata.project ?? 'default', plan.metadata.name)
  return listSecrets(components, footprint?.secretVersions)
}
