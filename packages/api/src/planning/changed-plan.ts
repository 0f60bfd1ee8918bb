/** A task's plan with other parameters, and the graph that has the same actions as before where nothing of theirs changed. */
import { buildGraph, checkPlan, inheritanceOf, LichenError, parsePlan, rebaseGraph, suggest, type ActionGraph, type Applied, type OperationRequest, type Plan, type Problem, type TaskKind } from '@lichen/core'
import type { Context } from '../context.js'
import { findPlanProblems } from './checked-plan.js'
import { rejectPlan } from './plan-input.js'

/** New parameters by component and name; null takes one away. */
export type ParameterChange = Readonly<Record<string, Readonly<Record<string, unknown>>>>

/** What of a task its retry with new parameters begins with. */
export interface PlannedTask {
  readonly kind: TaskKind
  /** JSON text. */
  readonly plan: string
  /** Null when it was never planned. */
  readonly graph: ActionGraph | null
  readonly previewDigest: string | null
  readonly operation: OperationRequest | null
}

/**
 * The plan (JSON text) with the new parameters, checked in full, and its graph on the nodes of the task; no graph where the task has none yet.
 * @throws PLAN_* with every problem, TASK_INPUTS_MOVED when the task is bound to a preview that the new parameters cannot give
 */
export async function buildChangedPlan(context: Pick<Context, 'store' | 'catalog' | 'nodes'>, task: PlannedTask, change: ParameterChange): Promise<{ readonly plan: string; readonly graph: ActionGraph | undefined }> {
  const parsed = parsePlan(changeParameters(JSON.parse(task.plan) as Plan, change))
  if (!parsed.ok) throw rejectPlan(parsed.problems)
  const plan = JSON.stringify(parsed.value)
  if (task.graph !== null) return { plan, graph: await rebuildGraph(context, parsed.value, task.graph, task.operation) }
  if (task.previewDigest !== null) throw new LichenError('TASK_INPUTS_MOVED', `the task may only do what preview ${task.previewDigest} showed, and with new parameters it would do something else; preview and apply the changed plan anew`)
  const problems = await findPlanProblems(context, parsed.value, task.kind)
  if (problems.length > 0) throw rejectPlan(problems)
  return { plan, graph: undefined }
}

function changeParameters(plan: Plan, change: ParameterChange): Plan {
  const names = plan.components.map((component) => component.name)
  const unknown = Object.keys(change).filter((name) => !names.includes(name))
  if (unknown.length > 0) throw rejectPlan(unknown.map((name): Problem => ({ code: 'PLAN_UNKNOWN_COMPONENT', path: `parameters.${name}`, message: `no component "${name}" in the plan of this task${suggest(name, names)}` })))
  return {
    ...plan,
    components: plan.components.map((component) => {
      const values = change[component.name]
      return values === undefined ? component : { ...component, with: Object.fromEntries(Object.entries({ ...component.with, ...values }).filter(([, value]) => value !== null)) }
    }),
  }
}

/**
 * The graph of the plan with all else as it was when `before` was planned: its nodes, what left with it, and what was known to be applied then. What this task itself brought about
 * is not among it, for in `before` it had yet to run.
 */
async function rebuildGraph({ catalog, nodes }: Pick<Context, 'catalog' | 'nodes'>, plan: Plan, before: ActionGraph, operation: OperationRequest | null): Promise<ActionGraph> {
  const { kind, placement } = before
  const inheritance = inheritanceOf(before)
  const records = await nodes.readFresh()
  const problems = checkPlan(plan, catalog, records, { placement, kind, inheritance })
  if (problems.length > 0) throw rejectPlan(problems)
  const graph = buildGraph({ plan, catalog, nodes: records, placement, kind, applied: appliedBefore(before), inheritance, ...(operation !== null && { operation }) })
  if (!graph.ok) throw rejectPlan(graph.problems)
  return rebaseGraph(before, graph.value)
}

const appliedBefore = ({ actions }: ActionGraph): Applied =>
  new Map(actions.flatMap(({ id, key, unchanged }) => (unchanged === null ? [] : [[id, { key, task: unchanged.since, outputs: unchanged.outputs }] as const])))
