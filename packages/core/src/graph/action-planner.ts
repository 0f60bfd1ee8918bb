/**
 * From components to actions: which actions there are, what each waits for, and its commands in full.
 *
 * Invariants: (1) an action's `after` names actions of the same graph only; (2) apply: a consumer's actions that need a relation wait for the whole
 * provider and for the provider's action for that relation; (3) destroy: every consumer is gone before what it used; (4) check: no arrows, so that one
 * failed check hides no other.
 */
import type { CompiledAction } from '../blueprint/compiled-blueprint.js'
import type { EvaluationContext } from '../blueprint/expression.js'
import type { Problem } from '../errors.js'
import type { ActionId, NodeId } from '../ids.js'
import type { Action, ActionMode, TaskKind } from './action-graph.js'
import { actionIdOf } from './action-ids.js'
import type { ComponentContext } from './component-context.js'
import { renderCommands } from './render-commands.js'

/** The agent gets this much longer than the sum of its commands, for the work between them. */
const betweenCommandsMs = 10_000
/**
 * Most arrows in a graph. Each costs the length of an id in the stored graph, about 40 bytes, so this is 40 MB. Two groups of a thousand nodes where each
 * node waits for all of the other group make as many.
 */
const maxArrows = 1_000_000

/** One action on one node, before its commands are rendered. */
interface Instance {
  readonly id: ActionId
  readonly name: string
  readonly node: NodeId
  readonly action: CompiledAction
  readonly context: EvaluationContext
  /** Of a per-relation action: whom it serves. */
  readonly consumer: { readonly component: string; readonly relation: string } | null
}

/** The actions of one component. */
interface Plot {
  readonly context: ComponentContext
  readonly instances: readonly Instance[]
  /** Those of one action, by its name in the blueprint. */
  readonly byAction: ReadonlyMap<string, readonly Instance[]>
  /** The same, of one node. */
  readonly byNode: ReadonlyMap<string, readonly Instance[]>
  /** Per-relation ones, by whom they serve. */
  readonly byConsumer: ReadonlyMap<string, readonly Instance[]>
  /** What stands for the component being complete: its checks, or the apply actions that no other waits for. */
  readonly completion: readonly Instance[]
}

const placeKey = (action: string, node: NodeId): string => `${action}@${node}`
const consumerKey = (component: string, relation: string): string => `${component}.${relation}`

function append<T>(map: Map<string, T[]>, key: string, entry: T): void {
  const list = map.get(key)
  if (list) list.push(entry)
  else map.set(key, [entry])
}

/** Gives the actions of one graph, from the contexts of its components in dependency order; used once. Problems go to the list that is passed in. */
export class ActionPlanner {
  readonly #plots = new Map<string, Plot>()
  /** Component → those that use it or come after it. */
  readonly #dependents = new Map<string, string[]>()
  #arrows = 0

  constructor(
    readonly kind: TaskKind,
    readonly contexts: ReadonlyMap<string, ComponentContext>,
    readonly problems: Problem[],
  ) {
    for (const [name, context] of contexts) {
      this.#plots.set(name, toPlot(context, instantiate(kind, context)))
      for (const before of context.entry.dependsOn) append(this.#dependents, before, name)
    }
  }

  /** Every action, in the order of components. What cannot be rendered is among the problems instead. */
  plan(): Action[] {
    const actions: Action[] = []
    for (const plot of this.#plots.values()) {
      for (const instance of plot.instances) actions.push(this.#toAction(plot, instance))
      if (this.#arrows > maxArrows) {
        this.problems.push({ code: 'PLAN_TOO_LARGE', path: `components[${plot.context.entry.index}]`, message: `the action graph has more than ${maxArrows} dependencies: "${plot.context.entry.component.name}" waits on each of its nodes for every node of what it uses; use smaller groups` })
        return []
      }
    }
    return actions
  }

  #toAction(plot: Plot, instance: Instance): Action {
    const { entry } = plot.context
    const { action } = instance
    const commands = renderCommands(action, instance.context, { path: `components[${entry.index}]`, component: entry.component.name, action: instance.name, node: instance.node }, this.problems)
    const mode: ActionMode = this.kind === 'check' ? 'check' : 'do'
    const after = [...new Set(this.#before(plot, instance).map((other) => other.id))].sort()
    this.#arrows += after.length
    return {
      id: instance.id,
      component: entry.component.name,
      name: instance.name,
      node: instance.node,
      mode,
      after,
      commands,
      timeoutMs: action.timeoutMs ?? commands.reduce((sum, command) => sum + command.timeoutMs, betweenCommandsMs),
      retry: mode === 'check' ? { attempts: 1, backoffMs: 0 } : action.retry,
    }
  }

  #before(plot: Plot, instance: Instance): Instance[] {
    if (this.kind === 'check') return []
    if (this.kind === 'destroy') return [...findEarlier(plot, instance), ...this.#consumers(plot, instance)]
    if (instance.action.phase === 'check') return [...findChecked(plot, instance), ...findEarlier(plot, instance), ...(plot.context.entry.blueprint.compiled.actions.some((action) => action.phase === 'apply') ? [] : this.#providers(plot, instance))]
    return [...findEarlier(plot, instance), ...this.#providers(plot, instance)]
  }

  /** Apply: what the providers and the components of `after` must have done first. */
  #providers(plot: Plot, instance: Instance): Instance[] {
    const { component, bindings } = plot.context.entry
    const needed = bindings.filter((binding) => instance.action.needs === null || instance.action.needs.includes(binding.relation))
    const prepared = needed.flatMap((binding) => this.#plots.get(binding.provider)!.byConsumer.get(consumerKey(component.name, binding.relation)) ?? [])
    const complete = [...needed.map((binding) => binding.provider), ...(component.after ?? [])].flatMap((name) => this.#plots.get(name)!.completion)
    return [...prepared, ...complete]
  }

  /** Destroy: every consumer is gone before what it used; a per-relation removal waits for its own consumer alone. */
  #consumers(plot: Plot, instance: Instance): Instance[] {
    const waitFor = instance.consumer === null ? (this.#dependents.get(plot.context.entry.component.name) ?? []) : [instance.consumer.component]
    return waitFor.flatMap((name) => this.#plots.get(name)!.instances)
  }
}

function instantiate(kind: TaskKind, context: ComponentContext): Instance[] {
  const component = context.entry.component.name
  const phases = kind === 'destroy' ? ['remove'] : ['apply', 'check']
  return context.entry.blueprint.compiled.actions.filter((action) => phases.includes(action.phase)).flatMap((action) => {
    if (action.on === 'relation') return instantiateForConsumers(context, action)
    const nodes = action.on === 'first' ? context.nodes.slice(0, 1) : context.nodes
    return nodes.map((node): Instance => ({ id: actionIdOf(component, action.name, node), name: action.name, node, action, context: context.at(node), consumer: null }))
  })
}

function instantiateForConsumers(context: ComponentContext, action: CompiledAction): Instance[] {
  const node = context.nodes[0]!
  return context.consumers
    .filter(({ binding }) => binding.compiled.action === action.name || binding.compiled.removeAction === action.name)
    .map(({ binding, name: consumer, relation }): Instance => {
      const name = `${action.name}:${consumer}.${binding.relation}`
      return { id: actionIdOf(context.entry.component.name, name, node), name, node, action, context: context.at(node).with({ relation }), consumer: { component: consumer, relation: binding.relation } }
    })
}

function toPlot(context: ComponentContext, instances: readonly Instance[]): Plot {
  const byAction = new Map<string, Instance[]>()
  const byNode = new Map<string, Instance[]>()
  const byConsumer = new Map<string, Instance[]>()
  for (const instance of instances) {
    append(byAction, instance.action.name, instance)
    append(byNode, placeKey(instance.action.name, instance.node), instance)
    if (instance.consumer) append(byConsumer, consumerKey(instance.consumer.component, instance.consumer.relation), instance)
  }
  const own = instances.filter((instance) => instance.consumer === null)
  const checks = own.filter((instance) => instance.action.phase === 'check')
  const waitedFor = new Set(own.flatMap((instance) => instance.action.after))
  return { context, instances, byAction, byNode, byConsumer, completion: checks.length > 0 ? checks : own.filter((instance) => !waitedFor.has(instance.action.name)) }
}

/** Within the component: the actions of `after`, node by node where both run on each node. */
function findEarlier(plot: Plot, instance: Instance): readonly Instance[] {
  return instance.action.after.flatMap((name) => {
    const all = plot.byAction.get(name) ?? []
    return instance.action.on === 'each' && all[0]?.action.on === 'each' ? (plot.byNode.get(placeKey(name, instance.node)) ?? []) : all
  })
}

/** What a check looks at: all that was applied on its node and on the first; a check on the first node alone speaks for the whole component. */
function findChecked(plot: Plot, instance: Instance): readonly Instance[] {
  const applied = plot.context.entry.blueprint.compiled.actions.filter((action) => action.phase === 'apply' && action.on !== 'relation')
  return applied.flatMap((action) => ((action.on === 'each' && instance.action.on === 'each' ? plot.byNode.get(placeKey(action.name, instance.node)) : plot.byAction.get(action.name)) ?? []))
}
