/**
 * The planner: plan + catalog + nodes → action graph. Pure and deterministic: whatever comes in another order (nodes, components, keys) gives
 * the same bytes. Leaves execution nothing to choose but time.
 */
import { ValueError } from '../blueprint/compiled-value.js'
import type { Catalog } from '../blueprint/blueprint-schema.js'
import type { Problem } from '../errors.js'
import type { NodeId } from '../ids.js'
import type { NodeRecord } from '../node/node.js'
import type { Parsed } from '../parsed.js'
import { examinePlan } from '../plan/check-plan.js'
import type { Placement } from '../plan/choose-nodes.js'
import { describeNode } from '../plan/describe-node.js'
import type { Plan } from '../plan/plan-schema.js'
import type { ResolvedComponent } from '../plan/resolve-components.js'
import { limitProblems } from '../plan/shape-problems.js'
import type { SecretRequirement } from '../secret/reference.js'
import type { ActionGraph, TaskKind } from './action-graph.js'
import { ActionPlanner, type Planned } from './action-planner.js'
import { buildComponentContext, type ComponentContext } from './component-context.js'
import { buildOutputs } from './component-outputs.js'
import { digestOfGraph } from './digest.js'
import { buildLimits, buildRollout } from './rollout.js'
import { sortGraph } from './sort-graph.js'
import { markGates, markUnchanged, type Applied } from './unchanged.js'
import { divideIntoWaves } from './waves.js'

export interface GraphInput {
  readonly plan: Plan
  readonly catalog: Catalog
  readonly nodes: readonly NodeRecord[]
  /** Nodes chosen by the deployment's last apply; undefined for its first. */
  readonly placement?: Placement | undefined
  readonly kind: TaskKind
  /** What is known to be applied of the deployment. Counts for an apply only; undefined: nothing is known, everything runs. */
  readonly applied?: Applied | undefined
}

/** The graph, or every problem (the first hundred and their number). */
export function buildGraph({ plan, catalog, nodes, placement: previous, kind, applied }: GraphInput): Parsed<ActionGraph> {
  const { components, placement, problems } = examinePlan(plan, catalog, { nodes, placement: previous, kind })
  if (problems.length > 0) return { ok: false, problems: limitProblems(problems) }
  const collected: Problem[] = []
  const secrets = new Map<string, SecretRequirement>()
  const deployment = { name: plan.metadata.name, project: plan.metadata.project ?? 'default' }
  const contexts = new Map<string, ComponentContext>()
  const describedNodes = new Map(nodes.map((node) => [node.id, describeNode(node)]))
  const copies = new WeakMap<object, unknown>()
  for (const entry of components) {
    try {
      contexts.set(entry.component.name, buildComponentContext({ deployment, describedNodes, copies, secrets, problems: collected }, entry, placement[entry.component.on]!, contexts))
    } catch (error) {
      if (!(error instanceof ValueError)) throw error
      // Those after it may depend on it, so their problems would be its echo.
      return { ok: false, problems: limitProblems([...collected, toProblem(entry, error)]) }
    }
  }
  const groups = new Map(plan.nodes.map((group) => [group.name, group]))
  const records = new Map(nodes.map((node) => [node.id, node]))
  const wavesOf = (group: string) => divideIntoWaves(plan, groups.get(group), placement[group]!, (node) => records.get(node)!.labels)
  const earlier = new Map(kind === 'apply' && previous !== undefined ? Object.entries(previous).map(([group, chosen]) => [group, new Set(chosen)]) : [])
  const isAddition = (group: string, node: NodeId) => earlier.get(group)?.has(node) === false
  const planned = new ActionPlanner({ kind, contexts, wavesOf, isAddition, joinedAtOf: (node) => records.get(node)!.joinedAt, problems: collected }).plan()
  const outputs = kind === 'apply' ? buildOutputs(contexts.values(), planned.actions, collected) : []
  if (collected.length > 0) return { ok: false, problems: limitProblems(collected) }
  const graph = {
    kind,
    project: deployment.project,
    deployment: deployment.name,
    ...order(planned, kind === 'apply' ? applied : undefined, plan.rollout?.trustUnchanged ?? false),
    secrets: [...secrets.values()].sort((a, b) => (a.name < b.name ? -1 : 1)),
    ...(outputs.length > 0 && { outputs }),
    placement,
    rollout: buildRollout(plan),
    limits: buildLimits(plan),
  }
  return { ok: true, value: { ...graph, digest: digestOfGraph(graph) } }
}

function order({ actions, gates, contents }: Planned, applied: Applied | undefined, isTrusting: boolean): Pick<ActionGraph, 'actions' | 'gates'> {
  const sorted = sortGraph(actions, gates)
  if (applied === undefined || applied.size === 0) return sorted
  const marked = markUnchanged(sorted.actions, contents, applied, isTrusting)
  return sortGraph(marked, markGates(gates, marked))
}

const toProblem = (entry: ResolvedComponent, error: ValueError): Problem => ({
  code: error.where === 'template' ? 'PLAN_TEMPLATE' : 'PLAN_EXPRESSION',
  path: `components[${entry.index}]`,
  message: `${entry.component.name}: ${error.path}: ${error.message}`,
})
