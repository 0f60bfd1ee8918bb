/**
 * From what leaves to drafts of actions, and what each waits for.
 *
 * Invariants: (1) in an apply nothing is taken away before all that stays is complete: the first actions of each departure come after one gate; (2) on a node, what used a
 * component leaves before it, and where a component goes altogether, all that used it and leaves goes before; what uses it elsewhere leaves before, too;
 * (3) a provider that stays forgets nodes after they have been left; (4) arrows go between departures of the same former plan only, which has no circle.
 */
import { ValueError } from '../blueprint/compiled-value.js'
import type { Catalog } from '../blueprint/blueprint-schema.js'
import type { Problem } from '../errors.js'
import type { ActionId, NodeId } from '../ids.js'
import { resolveComponents, type ResolvedComponent } from '../plan/resolve-components.js'
import type { FormerPlan, TaskKind } from './action-graph.js'
import { gateIdOf } from './action-ids.js'
import { buildComponentContext, type ComponentContext, type ContextInput } from './component-context.js'
import { DeparturePlot, instantiateForProviders, type DeparturePlotInput, type RelationOfProvider } from './departure-plot.js'
import type { Leaving, LeavingPlan } from './departures.js'
import type { Before, Bundle, Instance } from './plot.js'
import { describeNodes } from './waves.js'

export interface DepartureInput {
  readonly kind: TaskKind
  readonly catalog: Catalog
  readonly leaving: readonly LeavingPlan[]
  /** Of the components that stay; in a destroy, of those that it takes away. */
  readonly contexts: ReadonlyMap<string, ComponentContext>
  readonly isRegistered: (node: NodeId) => boolean
  readonly context: Omit<ContextInput, 'problems'>
  readonly problems: Problem[]
}

/** An action that takes something away. `entry`: whose it is. */
export interface DepartureDraft {
  readonly instance: Instance
  readonly entry: ResolvedComponent
  readonly after: readonly (Before | ActionId)[]
}

/** One departing component with all that takes it away. */
interface Departing {
  readonly leaving: Leaving
  readonly context: ComponentContext
  readonly plot: DeparturePlot
  readonly forProviders: readonly { readonly instance: Instance; readonly entry: ResolvedComponent }[]
  /** All of it on its own nodes; what providers forget comes after. */
  readonly left: Bundle
  readonly completion: Bundle
  /** Departing components of its former plan that use it or come after it. */
  readonly dependents: Departing[]
}

/** Plans what leaves; problems go to the list that is passed in, as PLAN_CANNOT_LEAVE. */
export class DeparturePlanner {
  readonly #input: DepartureInput
  readonly #formers: readonly { readonly leaving: LeavingPlan; readonly departing: readonly Departing[] }[]
  readonly #elsewhere = new Map<Departing, Map<Departing, Bundle>>()

  constructor(input: DepartureInput) {
    this.#input = input
    // What a destroy itself takes away has the plain names.
    const shift = input.kind === 'destroy' ? 1 : 0
    this.#formers = input.leaving.map((leaving, index) => ({ leaving, departing: this.#plot(leaving, index + shift === 0 ? '' : `:earlier-${index + shift}`) }))
  }

  /** The actions; `gate`: what the first of them come after. */
  draft(gate: ActionId | undefined): DepartureDraft[] {
    return this.#formers.flatMap(({ departing }) => departing.flatMap((each) => this.#draft(each, gate === undefined ? [] : [gate])))
  }

  /** What leaves with its actions, as the graph keeps it. */
  describe(): FormerPlan[] {
    return this.#formers.map(({ leaving: { plan, placement }, departing }) => ({
      plan, placement,
      departures: departing.map(({ leaving: { component, nodes, isWhole, done }, completion }) => ({ component, nodes, isWhole, actions: [...new Set([...done, ...completion.members.map(({ id }) => id)])].sort(), done: [...done].sort() })),
    }))
  }

  /** Departures of those that used the component. */
  findUsers(component: string): Bundle[] {
    return this.#formers.flatMap(({ departing }) => departing.filter(({ context, completion }) => completion.members.length > 0 && context.entry.dependsOn.includes(component)).map(({ completion }) => completion))
  }

  #plot(former: LeavingPlan, suffix: string): readonly Departing[] {
    const contexts = this.#resolve(former)
    if (contexts === undefined) return []
    const byName = new Map<string, Departing>()
    for (const leaving of former.departures) byName.set(leaving.component, this.#buildDeparting(leaving, contexts, suffix))
    for (const each of byName.values()) for (const provider of each.context.entry.dependsOn) byName.get(provider)?.dependents.push(each)
    return [...byName.values()]
  }

  #buildDeparting(leaving: Leaving, contexts: ReadonlyMap<string, ComponentContext>, suffix: string): Departing {
    const { component } = leaving
    const context = contexts.get(component)!
    const staying = this.#input.kind === 'apply' && !leaving.isWhole ? this.#input.contexts.get(component) : undefined
    const input: DeparturePlotInput = { leaving, context, suffix, staying, isRegistered: this.#input.isRegistered }
    const plot = new DeparturePlot(input)
    const forProviders = instantiateForProviders(input, this.#findRelations(leaving, context, contexts))
    const members = [...plot.instances, ...forProviders.map(({ instance }) => instance)]
    const meaning = `${component} gone from ${describeNodes(leaving.nodes)}`
    const completion: Bundle = { gate: gateIdOf(component, `gone${suffix}`), component, meaning, members }
    const left: Bundle = { gate: gateIdOf(component, `left${suffix}`), component, meaning, members: plot.instances }
    return { leaving, context, plot, forProviders, left, completion, dependents: [] }
  }

  /** Its relations whose providers stay, with the nodes that leave alone. */
  #findRelations(leaving: Leaving, { entry }: ComponentContext, contexts: ReadonlyMap<string, ComponentContext>): RelationOfProvider[] {
    return entry.bindings.flatMap((binding): RelationOfProvider[] => {
      const provider = this.#input.contexts.get(binding.provider)
      if (provider === undefined) return []
      const consumer = contexts.get(binding.provider)!.consumers.find((candidate) => candidate.binding === binding)!
      return [{ name: binding.relation, variables: { ...consumer.relation, nodes: leaving.nodes.map((node) => this.#input.context.describe(node)), isDeparture: this.#input.kind === 'apply' }, provider }]
    })
  }

  /** The components of the former plan in the catalog of now; undefined, and problems, where it does not fit any more. */
  #resolve({ plan, placement, departures }: LeavingPlan): ReadonlyMap<string, ComponentContext> | undefined {
    const { components, problems } = resolveComponents(plan, this.#input.catalog)
    const found = [...problems]
    const contexts = new Map<string, ComponentContext>()
    if (found.length === 0) {
      for (const entry of components) {
        try {
          contexts.set(entry.component.name, buildComponentContext({ ...this.#input.context, problems: found }, entry, placement[entry.component.on]!, contexts))
        } catch (error) {
          if (!(error instanceof ValueError)) throw error
          found.push({ code: 'PLAN_EXPRESSION', path: `components[${entry.index}]`, message: `${entry.component.name}: ${error.path}: ${error.message}` })
          break
        }
      }
    }
    const what = departures.map(({ component, nodes }) => `${component} (${describeNodes(nodes)})`).join(', ')
    this.#input.problems.push(...found.map(({ path, message }) => refuse(departures[0]!.component, `${what} cannot be taken away as it was applied: ${nameIn(plan, path)}${message}`)))
    return found.length === 0 ? contexts : undefined
  }

  #draft(departing: Departing, gate: readonly ActionId[]): DepartureDraft[] {
    const { plot, context, forProviders, left } = departing
    const drafts = plot.instances.map((instance): DepartureDraft => {
      const own = plot.findOwn(instance)
      return { instance, entry: context.entry, after: own.length > 0 ? own : [...gate, ...plot.findPrevious(instance.node), ...this.#findUsersBefore(departing, instance.node, new Set())] }
    })
    const beforeProviders = plot.instances.length > 0 ? [left] : [...gate, ...this.#findUsersBefore(departing, undefined, new Set())]
    return [...drafts, ...forProviders.map(({ instance, entry }): DepartureDraft => ({ instance, entry, after: beforeProviders }))]
  }

  /** What used it and leaves first: on this node and where it stays itself; all of it where it goes altogether. One with nothing to do there hands on what used it. */
  #findUsersBefore(departing: Departing, node: NodeId | undefined, seen: Set<Departing>): Bundle[] {
    return departing.dependents.flatMap((user): Bundle[] => {
      if (seen.has(user)) return []
      seen.add(user)
      const found = departing.leaving.isWhole || node === undefined ? [user.completion] : [...listOnNode(user, node), this.#findElsewhere(departing, user)]
      const real = found.filter(({ members }) => members.length > 0)
      return real.length > 0 ? real : this.#findUsersBefore(user, node, seen)
    })
  }

  /** What takes the user away from nodes that the component itself does not leave. */
  #findElsewhere(departing: Departing, user: Departing): Bundle {
    const ofUser = this.#elsewhere.get(user) ?? new Map<Departing, Bundle>()
    this.#elsewhere.set(user, ofUser)
    const known = ofUser.get(departing)
    if (known !== undefined) return known
    const nodes = new Set(departing.leaving.nodes)
    const { completion } = user
    const bundle: Bundle = { ...completion, gate: `${completion.gate}-beside-${departing.leaving.component}` as ActionId, members: user.plot.instances.filter((instance) => !nodes.has(instance.node)) }
    ofUser.set(departing, bundle)
    return bundle
  }
}

const listOnNode = ({ plot }: Departing, node: NodeId): Bundle[] => {
  const here = plot.onNode.get(node)
  return here === undefined ? [] : [here]
}

const nameIn = ({ components }: LeavingPlan['plan'], path: string): string => {
  const index = /^components\[(\d+)\]/.exec(path)?.[1]
  return index === undefined ? '' : `${components[Number(index)]!.name}: `
}

/** What can be done when something cannot leave. */
export const advice = '; bring back what the catalog had when it was applied, or keep the component and its nodes in the plan'

/** The problem that keeps a component from leaving, with what can be done about it. */
export const refuse = (component: string, why: string): Problem => ({
  code: 'PLAN_CANNOT_LEAVE',
  path: `departures.${component}`,
  message: `${why}${advice}`,
})
