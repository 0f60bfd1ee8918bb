/**
 * The actions with which one component leaves nodes, and their order within the component: on each node those of `leave`, then those of `remove`. What goes altogether
 * goes as in a destroy; else what is done once for the whole component (`on: first`, `on: relation`) stays as it is.
 */
import type { CompiledAction } from '../blueprint/compiled-blueprint.js'
import type { ActionId, NodeId } from '../ids.js'
import type { ResolvedComponent } from '../plan/resolve-components.js'
import { actionIdOf, gateIdOf, relationActionIdOf } from './action-ids.js'
import type { ComponentContext } from './component-context.js'
import type { Leaving } from './departures.js'
import { nodesOf, type Before, type Bundle, type Instance } from './plot.js'
import { describeNodes } from './waves.js'

export interface DeparturePlotInput {
  readonly leaving: Leaving
  readonly context: ComponentContext
  /** The component as it is in the new plan, when it has other nodes that stay. */
  readonly staying: ComponentContext | undefined
  /** Distinguishes what leaves of older plans. */
  readonly suffix: string
  readonly isRegistered: (node: NodeId) => boolean
}

/** One component that leaves nodes; actions of providers that stay are not among its instances. */
export class DeparturePlot {
  readonly component: string
  readonly instances: readonly Instance[]
  readonly onNode: ReadonlyMap<NodeId, Bundle>
  readonly #byAction: ReadonlyMap<string, Bundle>
  readonly #actions: ReadonlyMap<string, CompiledAction>
  /** Node → the one that must have been left before. */
  readonly #previous = new Map<NodeId, Bundle>()

  constructor({ leaving, context, staying, suffix, isRegistered }: DeparturePlotInput) {
    const isPart = staying !== undefined
    this.component = leaving.component
    const nodes = leaving.nodes.filter(isRegistered)
    const phases = isPart ? ['leave', 'remove'] : ['remove']
    const actions = context.entry.blueprint.compiled.actions.filter(({ phase, on }) => phases.includes(phase) && (leaving.isWhole || on === 'each'))
    const done = new Set(leaving.done)
    this.#actions = new Map(context.entry.blueprint.compiled.actions.map((action) => [action.name, action]))
    this.instances = actions.flatMap((action) => instantiate(context, action, nodes, action.phase === 'leave' ? staying : undefined)).filter(({ id }) => !done.has(id))
    const bundle = (name: string, meaning: string, members: readonly Instance[]): Bundle => ({ gate: gateIdOf(this.component, `${name}${suffix}`), component: this.component, meaning, members })
    this.#byAction = new Map([...groupBy(this.instances, ({ action }) => action.name)].map(([name, members]) => [name, bundle(`leaving-${name}`, `${name} of ${this.component} on ${describeNodes(nodes)}`, members)]))
    this.onNode = new Map([...groupBy(this.instances.filter(({ consumer }) => consumer === null), ({ node }) => node)].map(([node, members]) => [node, bundle(`gone-from-${node}`, `${this.component} gone from ${node}`, members)]))
    if (isPart && actions.some(({ isSerial }) => isSerial)) this.#chain(nodes)
  }

  /** What must be done on the same node, or for the whole of the component, before; empty: it is the first. */
  findOwn(instance: Instance): readonly Before[] {
    const own = [...new Set(instance.action.after.flatMap((name) => this.#resolve(name, instance)))]
    if (own.length > 0 || instance.action.phase === 'leave') return own
    return this.onNode.get(instance.node)?.members.filter(({ action }) => action.phase === 'leave') ?? []
  }

  /** Where the nodes are left one after the other: the one before this one. */
  findPrevious(node: NodeId): readonly Bundle[] {
    const previous = this.#previous.get(node)
    return previous === undefined ? [] : [previous]
  }

  #chain(nodes: readonly NodeId[]): void {
    const left = nodes.filter((node) => this.onNode.has(node))
    for (const [index, node] of left.entries()) if (index > 0) this.#previous.set(node, this.onNode.get(left[index - 1]!)!)
  }

  /** An action that is left out, or done already, hands on what it comes after. */
  #resolve(name: string, instance: Instance): readonly Before[] {
    const all = this.#byAction.get(name)
    if (all === undefined) return this.#actions.get(name)?.after.flatMap((before) => this.#resolve(before, instance)) ?? []
    if (instance.action.on !== 'each' || all.members[0]!.action.on !== 'each') return all.members.length === 1 ? all.members : [all]
    return all.members.filter(({ node }) => node === instance.node)
  }
}

/**
 * What says goodbye speaks to those that stay, who are as the plan of now says: a limit or a consent that a person has just put there counts. What takes away takes away what was applied.
 */
function paramsFor(context: ComponentContext, staying: ComponentContext | undefined): Readonly<Record<string, unknown>> {
  return staying?.entry.blueprint === context.entry.blueprint ? { params: staying.entry.parameters } : {}
}

function instantiate(context: ComponentContext, action: CompiledAction, nodes: readonly NodeId[], staying: ComponentContext | undefined): Instance[] {
  const component = context.entry.component.name
  if (action.on !== 'relation') {
    return nodesOf(action, nodes).map((node): Instance => ({ id: actionIdOf(component, action.name, node), name: action.name, node, action, context: context.at(node).with(paramsFor(context, staying)), consumer: null, ofWave: null }))
  }
  return context.consumers.filter(({ binding }) => binding.compiled.removeAction === action.name).flatMap(({ binding, name, relation }) => {
    const consumer = { component: name, relation: binding.relation }
    return nodesOf(action, nodes).map((node): Instance => ({ id: relationActionIdOf(component, action.name, consumer, node), name: `${action.name}:${name}.${binding.relation}`, node, action, context: context.at(node).with({ relation }), consumer, ofWave: null }))
  })
}

/**
 * The actions with which providers that stay forget the nodes that their consumer leaves, each where the provider as it is now makes it. While the consumer has other
 * nodes, only those that say they are per node: others would take away what these still use, such as their database.
 */
export function instantiateForProviders({ leaving, context, suffix }: DeparturePlotInput, relations: readonly RelationOfProvider[]): { readonly instance: Instance; readonly entry: ResolvedComponent }[] {
  const done: ReadonlySet<ActionId> = new Set(leaving.done)
  return relations.flatMap(({ name: relation, variables, provider }) => {
    const wanted = context.entry.blueprint.compiled.requires.get(relation)!.interface
    const provision = [...provider.entry.blueprint.compiled.provides].sort(([a], [b]) => (a < b ? -1 : 1)).find(([, entry]) => entry.interface === wanted)?.[1]
    const action = provider.entry.blueprint.compiled.actions.find(({ name }) => name === provision?.removeAction)
    if (action === undefined || !(leaving.isWhole || action.isPerNode)) return []
    const name = `${action.name}:${leaving.component}.${relation}${suffix}`
    return nodesOf(action, provider.nodes).flatMap((node) => {
      const id = actionIdOf(provider.entry.component.name, name, node)
      const instance: Instance = { id, name, node, action, context: provider.at(node).with({ relation: variables }), consumer: { component: leaving.component, relation }, ofWave: null }
      return done.has(id) ? [] : [{ instance, entry: provider.entry }]
    })
  })
}

/** A relation of what leaves to a provider that stays. */
export interface RelationOfProvider {
  readonly name: string
  /** `relation`, as the provider sees it. */
  readonly variables: Readonly<Record<string, unknown>>
  /** As it is in the new plan. */
  readonly provider: ComponentContext
}

function groupBy<Key, Entry>(list: readonly Entry[], keyOf: (entry: Entry) => Key): Map<Key, Entry[]> {
  const groups = new Map<Key, Entry[]>()
  for (const entry of list) {
    const group = groups.get(keyOf(entry))
    if (group) group.push(entry)
    else groups.set(keyOf(entry), [entry])
  }
  return groups
}
