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
import { resolveOperation, type OperationRequest } from '../plan/operation-request.js'
import type { Neighbour } from '../plan/check-claims.js'
import type { Plan } from '../plan/plan-schema.js'
import type { ResolvedComponent } from '../plan/resolve-components.js'
import { limitProblems } from '../plan/shape-problems.js'
import { SecretRoll, type RotationRequest } from '../secret/versions.js'
import type { ActionGraph, KnownNode, TaskKind } from './action-graph.js'
import { ActionPlanner, type Planned } from './action-planner.js'
import { buildComponentContext, type ComponentContext } from './component-context.js'
import { buildOutputs } from './component-outputs.js'
import { DeparturePlanner } from './departure-planner.js'
import { digestOfGraph } from './digest.js'
import type { Inheritance } from './inheritance.js'
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
  /** Of the kind `operation`: which one, and on what. */
  readonly operation?: OperationRequest | undefined
  /** Of an apply that rotates secrets: which ones. */
  readonly rotation?: RotationRequest | undefined
  /** What is there of the deployment, some of which may leave; undefined: nothing is known of it. */
  readonly inheritance?: Inheritance | undefined
  /** Other deployments; they matter to plans for which `asksForNeighbours` is true. */
  readonly neighbours?: readonly Neighbour[] | undefined
}

/** The graph, or every problem (the first hundred and their number). */
export function buildGraph({ plan, catalog, nodes, placement: previous, kind, applied, operation, rotation, inheritance, neighbours }: GraphInput): Parsed<ActionGraph> {
  const { components, placement, leaving, describe, rolesOf, problems } = examinePlan(plan, catalog, { nodes, placement: previous, kind, inheritance, neighbours })
  if (problems.length > 0) return { ok: false, problems: limitProblems(problems) }
  const resolved = operation && resolveOperation(operation, components, placement)
  if (resolved !== undefined && resolved.problems.length > 0) return { ok: false, problems: limitProblems(resolved.problems) }
  const collected: Problem[] = []
  const secrets = new SecretRoll(inheritance?.secretVersions, rotation)
  const deployment = { name: plan.metadata.name, project: plan.metadata.project ?? 'default' }
  const contexts = new Map<string, ComponentContext>()
  const context = { deployment, describe, rolesOf, copies: new WeakMap<object, unknown>(), secrets }
  for (const entry of components) {
    try {
      contexts.set(entry.component.name, buildComponentContext({ ...context, problems: collected }, entry, placement[entry.component.on]!, contexts))
    } catch (error) {
      if (!(error instanceof ValueError)) throw error
      // Those after it may depend on it, so their problems would be its echo.
      return { ok: false, problems: limitProblems([...collected, toProblem(entry, error)]) }
    }
  }
  collected.push(...secrets.settle())
  const groups = new Map(plan.nodes.map((group) => [group.name, group]))
  const records = new Map(nodes.map((node) => [node.id, node]))
  const wavesOf = ({ entry: { component, blueprint }, nodes: own }: ComponentContext) => {
    const part = resolved?.parts.get(component.name)
    const taking = part === undefined ? own : own.filter((node) => part.nodes.has(node))
    return divideIntoWaves(plan, groups.get(component.on), taking, (node) => records.get(node)!.labels, operation && blueprint.compiled.operations.get(operation.name)?.waves)
  }
  const earlier = new Map(kind === 'apply' && previous !== undefined ? Object.entries(previous).map(([group, chosen]) => [group, new Set(chosen)]) : [])
  const isAddition = (group: string, node: NodeId) => earlier.get(group)?.has(node) === false
  const departures = new DeparturePlanner({ kind, catalog, leaving, contexts, isRegistered: (node) => records.has(node), context, problems: collected })
  const rollout = buildRollout(plan)
  const planned = new ActionPlanner({ kind, contexts, wavesOf, isTolerant: rollout.maxFailures !== 0, operation: operation && { name: operation.name, parts: resolved!.parts }, isAddition, joinedAtOf: (node) => records.get(node)!.joinedAt, departures, problems: collected }).plan()
  const outputs = kind === 'apply' ? buildOutputs(contexts.values(), planned.actions, collected) : []
  if (collected.length > 0) return { ok: false, problems: limitProblems(collected) }
  const graph = {
    kind,
    project: deployment.project,
    deployment: deployment.name,
    ...order(planned, kind === 'apply' ? applied : undefined, plan.rollout?.trustUnchanged ?? false),
    secrets: secrets.requirements(),
    ...(Object.keys(secrets.versions()).length > 0 && { secretVersions: secrets.versions() }),
    ...(outputs.length > 0 && { outputs }),
    placement,
    rollout,
    limits: buildLimits(plan),
    ...(leaving.length > 0 && { departures: departures.describe() }),
    ...(kind === 'apply' && { known: buildKnown([placement, inheritance?.before?.placement ?? {}, ...leaving.map((former) => former.placement)], records, inheritance) }),
  }
  return { ok: true, value: { ...graph, digest: digestOfGraph(graph) } }
}

/** What to remember of the nodes of these placements, and of the apply before. */
function buildKnown(placements: readonly Placement[], records: ReadonlyMap<NodeId, NodeRecord>, inheritance: Inheritance | undefined): NonNullable<ActionGraph['known']> {
  const nodes = new Map<NodeId, KnownNode>()
  for (const id of new Set(placements.flatMap((placement) => Object.values(placement).flat()))) {
    const record = records.get(id)
    const known = inheritance !== undefined && Object.hasOwn(inheritance.nodes, id) ? inheritance.nodes[id] : undefined
    if (record !== undefined) nodes.set(id, { hostname: record.facts.hostname, address: record.facts.address, labels: record.labels })
    else if (known !== undefined) nodes.set(id, known)
  }
  return { nodes: Object.fromEntries([...nodes].sort(([a], [b]) => (a < b ? -1 : 1))), before: inheritance?.before ?? null }
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
