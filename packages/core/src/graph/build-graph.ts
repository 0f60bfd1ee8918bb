/**
 * The planner: plan + catalog + nodes → action graph. Pure and deterministic: whatever comes in another order (nodes, components, keys) gives
 * the same bytes. Leaves execution nothing to choose but time.
 */
import { ValueError } from '../blueprint/compiled-value.js'
import type { Catalog } from '../blueprint/blueprint-schema.js'
import type { CompiledAction } from '../blueprint/compiled-blueprint.js'
import type { EvaluationContext } from '../blueprint/expression.js'
import type { Problem } from '../errors.js'
import type { ActionId, NodeId } from '../ids.js'
import type { NodeRecord } from '../node/node.js'
import type { Parsed } from '../parsed.js'
import { checkPlan } from '../plan/check-plan.js'
import { checkRules } from '../plan/check-rules.js'
import { chooseNodes, type Placement } from '../plan/choose-nodes.js'
import { describeNode } from '../plan/describe-node.js'
import type { Plan } from '../plan/plan-schema.js'
import { resolveComponents } from '../plan/resolve-components.js'
import type { SecretRequirement } from '../secret/reference.js'
import type { Action, ActionGraph, ActionMode, TaskKind } from './action-graph.js'
import { actionIdOf } from './action-ids.js'
import { buildComponentContext, type ComponentContext, type ContextInput } from './component-context.js'
import { digestOf } from './digest.js'
import { renderCommands } from './render-commands.js'
import { sortActions } from './sort-actions.js'

export interface GraphInput {
  readonly plan: Plan
  readonly catalog: Catalog
  readonly nodes: readonly NodeRecord[]
  /** Nodes chosen by the deployment's last apply; undefined for its first. */
  readonly placement?: Placement | undefined
  readonly kind: TaskKind
}

/** On how many nodes at once, unless the plan says: enough to keep a mirror busy without drowning it. */
const defaultMaxParallelNodes = 50
/** The agent gets this much longer than the sum of its commands, for the work between them. */
const betweenCommandsMs = 10_000

/** The graph, or every problem. */
export function buildGraph(input: GraphInput): Parsed<ActionGraph> {
  const { plan, catalog, nodes } = input
  const problems = checkPlan(plan, catalog)
  const { components } = resolveComponents(plan, catalog)
  if (problems.length > 0) return { ok: false, problems }
  const chosen = chooseNodes(plan, nodes, input.placement)
  if (chosen.problems.length > 0) return { ok: false, problems: chosen.problems }
  const broken = checkRules(plan, components, nodes, chosen.placement)
  if (broken.length > 0) return { ok: false, problems: broken }
  const collected: Problem[] = []
  const secrets = new Map<string, SecretRequirement>()
  const deployment = { name: plan.metadata.name, project: plan.metadata.project ?? 'default' }
  const contextInput: ContextInput = { deployment, describedNodes: new Map(nodes.map((node) => [node.id, describeNode(node)])), copies: new WeakMap(), secrets, problems: collected }
  const contexts = new Map<string, ComponentContext>()
  for (const entry of components) {
    try {
      contexts.set(entry.component.name, buildComponentContext(contextInput, entry, chosen.placement[entry.component.on]!, contexts))
    } catch (error) {
      if (!(error instanceof ValueError)) throw error
      return { ok: false, problems: [{ code: error.where === 'template' ? 'PLAN_TEMPLATE' : 'PLAN_EXPRESSION', path: `components[${entry.index}]`, message: `${entry.component.name}: ${error.path}: ${error.message}` }] }
    }
  }
  const actions = new GraphBuilder(input.kind, contexts, collected).build()
  if (collected.length > 0) return { ok: false, problems: collected }
  const graph = {
    kind: input.kind,
    project: deployment.project,
    deployment: deployment.name,
    actions: sortActions(actions),
    secrets: [...secrets.values()].sort((a, b) => (a.name < b.name ? -1 : 1)),
    placement: chosen.placement,
    rollout: { maxParallelNodes: plan.rollout?.maxParallelNodes ?? defaultMaxParallelNodes, maxFailures: plan.rollout?.maxFailures ?? 0 },
  }
  return { ok: true, value: { ...graph, digest: digestOf(graph) } }
}

/** One instance of an action on a node, before its commands are rendered. */
interface Instance {
  readonly id: ActionId
  readonly name: string
  readonly node: NodeId
  readonly action: CompiledAction
  readonly context: EvaluationContext
  /** `consumer.relation` of a per-relation action. */
  readonly consumer: string | null
}

/**
 * Invariants: (1) an instance's `after` names instances of the same graph only; (2) apply: a consumer's actions that need a relation wait for the whole
 * provider and for the provider's action for that relation; (3) destroy: the same with every arrow turned round; (4) check: no arrows, so
 * that one failed check hides no other.
 */
class GraphBuilder {
  readonly #instances = new Map<string, Instance[]>()
  readonly #dependents = new Map<string, string[]>()

  constructor(
    readonly kind: TaskKind,
    readonly contexts: ReadonlyMap<string, ComponentContext>,
    readonly problems: Problem[],
  ) {
    for (const [name, context] of contexts) {
      this.#instances.set(name, this.#instantiate(context))
      for (const before of context.entry.dependsOn) this.#dependents.set(before, [...(this.#dependents.get(before) ?? []), name])
    }
  }

  build(): Action[] {
    return [...this.contexts.values()].flatMap((context) => this.#instances.get(context.entry.component.name)!.map((instance) => this.#toAction(context, instance)))
  }

  #instantiate(context: ComponentContext): Instance[] {
    const component = context.entry.component.name
    const phases = this.kind === 'destroy' ? ['remove'] : ['apply', 'check']
    return context.entry.blueprint.compiled.actions.filter((action) => phases.includes(action.phase)).flatMap((action) => {
      if (action.on === 'relation') return this.#instantiateForConsumers(context, action)
      const nodes = action.on === 'first' ? context.nodes.slice(0, 1) : context.nodes
      return nodes.map((node): Instance => ({ id: actionIdOf(component, action.name, node), name: action.name, node, action, context: context.at(node), consumer: null }))
    })
  }

  #instantiateForConsumers(context: ComponentContext, action: CompiledAction): Instance[] {
    const node = context.nodes[0]!
    return context.consumers
      .filter(({ binding }) => binding.compiled.action === action.name || binding.compiled.removeAction === action.name)
      .map(({ binding, name: consumer, relation }): Instance => {
        const name = `${action.name}:${consumer}.${binding.relation}`
        return { id: actionIdOf(context.entry.component.name, name, node), name, node, action, context: context.at(node).with({ relation }), consumer: `${consumer}.${binding.relation}` }
      })
  }

  #toAction(context: ComponentContext, instance: Instance): Action {
    const { action } = instance
    const component = context.entry.component.name
    const commands = renderCommands(action, instance.context, { path: `components[${context.entry.index}]`, component, action: instance.name, node: instance.node }, this.problems)
    const mode: ActionMode = this.kind === 'check' ? 'check' : 'do'
    return {
      id: instance.id,
      component,
      name: instance.name,
      node: instance.node,
      mode,
      after: this.kind === 'check' ? [] : [...new Set([...this.#before(context, instance), ...(this.kind === 'apply' ? this.#providers(context, instance) : this.#consumers(context, instance))])].sort(),
      commands,
      timeoutMs: action.timeoutMs ?? commands.reduce((sum, command) => sum + command.timeoutMs, betweenCommandsMs),
      retry: mode === 'check' ? { attempts: 1, backoffMs: 0 } : action.retry,
    }
  }

  /** Within the component: `after`, node by node where both run on each node; a check waits for everything it checks. */
  #before(context: ComponentContext, instance: Instance): ActionId[] {
    const own = this.#instances.get(context.entry.component.name)!
    if (instance.action.phase === 'check') {
      const checks = own.filter((other) => instance.action.after.includes(other.name) && other.node === instance.node)
      return [...own.filter((other) => other.action.phase === 'apply' && other.consumer === null && (other.node === instance.node || other.action.on === 'first')), ...checks].map((other) => other.id)
    }
    return own.filter((other) => instance.action.after.includes(other.action.name) && (other.action.on !== 'each' || instance.action.on !== 'each' || other.node === instance.node)).map((other) => other.id)
  }

  /** Apply: what the providers and the components of `after` must have done first. */
  #providers(context: ComponentContext, instance: Instance): ActionId[] {
    const { component, bindings } = context.entry
    if (instance.action.phase === 'check' && context.entry.blueprint.compiled.actions.some((action) => action.phase === 'apply')) return []
    const needed = bindings.filter((binding) => instance.action.needs === null || instance.action.needs.includes(binding.relation))
    const prepared = needed.flatMap((binding) => this.#instances.get(binding.provider)!.filter((other) => other.consumer === `${component.name}.${binding.relation}`))
    const complete = [...needed.map((binding) => binding.provider), ...(component.after ?? [])].flatMap((name) => this.#completion(name))
    return [...prepared, ...complete].map((other) => other.id)
  }

  /** The last actions of a component: its checks, or the apply actions that no other waits for. */
  #completion(component: string): Instance[] {
    const own = this.#instances.get(component)!.filter((instance) => instance.consumer === null)
    const checks = own.filter((instance) => instance.action.phase === 'check')
    if (checks.length > 0) return checks
    const waitedFor = new Set(own.flatMap((instance) => instance.action.after))
    return own.filter((instance) => !waitedFor.has(instance.action.name))
  }

  /** Destroy: every consumer is gone before what it used; a per-relation removal waits for its own consumer. */
  #consumers(context: ComponentContext, instance: Instance): ActionId[] {
    const waitFor = instance.consumer === null ? (this.#dependents.get(context.entry.component.name) ?? []) : [instance.consumer.slice(0, instance.consumer.lastIndexOf('.'))]
    return waitFor.flatMap((name) => this.#instances.get(name)!).filter((other) => other.id !== instance.id).map((other) => other.id)
  }
}
