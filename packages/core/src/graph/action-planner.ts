/**
 * From components to actions and gates: which there are, what each waits for, and the commands in full.
 *
 * Invariants: (1) `after` names actions and gates of the same graph only; (2) apply: a consumer's actions that need a relation wait for the provider's action for that
 * relation, and for the whole provider unless that action is all they need (`prepared`); (3) destroy: every consumer is gone before what it used; (4) check: no arrows, so that one failed check hides no other;
 * (5) gates change what is written down, not what is waited for: a barrier stands for actions that many wait for, and each action that waits for nothing of its
 * component waits for the component's approval by itself, so that no limit of failures lets it through; (6) in an apply nothing begins before the preflights that concern it; (7) what leaves the deployment is planned by departure-planner.ts and comes after a gate that waits for all that stays.
 */
import type { CompiledAction } from '../blueprint/compiled-blueprint.js'
import type { Problem } from '../errors.js'
import type { OperationPart } from '../plan/operation-request.js'
import type { ActionId, NodeId } from '../ids.js'
import type { Binding, ResolvedComponent } from '../plan/resolve-components.js'
import type { Action, ActionMode, Gate, TaskKind } from './action-graph.js'
import { gateIdOf, reservedComponent } from './action-ids.js'
import type { ComponentContext } from './component-context.js'
import { buildContent, type Content } from './content.js'
import { type DeparturePlanner, refuse } from './departure-planner.js'
import { buildPlot, consumerKey, findOwn, findPreflights, isPreflight, type Before, type Bundle, type Instance, type Plot } from './plot.js'
import { renderCommands } from './render-commands.js'
import { describeNodes, describeWave, type Wave } from './waves.js'

/** The agent gets this much longer than the sum of its commands, for the work between them. */
export const betweenCommandsMs = 10_000
/** Most arrows in a graph. Each costs the length of an id in the stored graph, about 40 bytes, so this is 40 MB. Ten components on each of 5,000 nodes make half as many. */
const maxArrows = 1_000_000
/**
 * From so many arrows on, actions that each wait for all of the same others wait for a gate instead: n + m arrows for n × m. Fewer are easier to read as they are, and
 * graphs of a few nodes are read by people.
 */
const maxDirectArrows = 64

/** Something of the graph whose dependencies are not written down yet. */
interface Draft {
  readonly id: ActionId
  readonly after: Iterable<Before | ActionId>
}
interface GateDraft extends Draft, Omit<Gate, 'id' | 'after'> {}
interface ActionDraft extends Draft {
  readonly entry: ResolvedComponent
  readonly instance: Instance
  readonly isDeparture: boolean
}

/** What the planner makes: actions and gates in no order, and the content of each action. */
export interface Planned {
  readonly actions: readonly Action[]
  readonly gates: readonly Gate[]
  readonly contents: ReadonlyMap<ActionId, Content>
}

export interface PlannerInput {
  readonly kind: TaskKind
  /** In dependency order. */
  readonly contexts: ReadonlyMap<string, ComponentContext>
  /** The waves in which a component goes over its nodes; empty: all its nodes at once. */
  readonly wavesOf: (component: ComponentContext) => readonly Wave[]
  /** Of an operation: who takes part. */
  readonly operation?: { readonly name: string; readonly parts: ReadonlyMap<string, OperationPart> } | undefined
  /** Whether the group got the node since the deployment's last apply. */
  readonly isAddition: (group: string, node: NodeId) => boolean
  /** When a node joined. */
  readonly joinedAtOf: (node: NodeId) => number
  readonly departures: DeparturePlanner
  /** Some may fail, and the rest goes on: each node begins by itself, and waits for no look at another one. */
  readonly isTolerant: boolean
  readonly problems: Problem[]
}

/** Gives the actions of one graph; used once. Problems go to the list that is passed in. */
export class ActionPlanner {
  readonly #input: PlannerInput
  readonly #plots = new Map<string, Plot>()
  /** Component → those that use it or come after it. */
  readonly #dependents = new Map<string, string[]>()
  readonly #waiters = new Map<Bundle, number>()
  /** The gate behind the preflights that concern a node, for nodes that have one. */
  readonly #preflightGates = new Map<NodeId, readonly ActionId[]>()
  #arrows = 0

  constructor(input: PlannerInput) {
    this.#input = input
    for (const [name, context] of input.contexts) {
      this.#plots.set(name, buildPlot(input.kind, context, input.wavesOf(context), input.operation && { name: input.operation.name, part: input.operation.parts.get(name) }))
      for (const before of context.entry.dependsOn) this.#dependents.set(before, [...(this.#dependents.get(before) ?? []), name])
    }
  }

  /** Everything. What cannot be rendered is among the problems instead. */
  plan(): Planned {
    const actionDrafts: ActionDraft[] = []
    const gateDrafts: GateDraft[] = []
    if (this.#input.kind === 'apply') gateDrafts.push(...this.#draftPreflightGates())
    for (const plot of this.#plots.values()) this.#draft(plot, actionDrafts, gateDrafts)
    this.#draftDepartures(actionDrafts, gateDrafts)
    for (const { after } of [...actionDrafts, ...gateDrafts]) for (const entry of new Set(after)) if (isBundle(entry)) this.#waiters.set(entry, (this.#waiters.get(entry) ?? 0) + 1)
    const contents = new Map<ActionId, Content>()
    const actions: Action[] = []
    for (const draft of actionDrafts) {
      actions.push(this.#toAction(draft, contents))
      if (this.#arrows > maxArrows) return this.#refuse(draft.entry)
    }
    const barriers = [...this.#waiters].filter(([bundle, waiters]) => isBarrier(bundle, waiters)).map(([bundle]): GateDraft => ({ id: bundle.gate, component: bundle.component, after: bundle.members, approve: false, maxFailures: 0, meaning: bundle.meaning }))
    return { actions, gates: [...gateDrafts, ...barriers].map((draft) => this.#toGate(draft)), contents }
  }

  #refuse(entry: ResolvedComponent): Planned {
    this.#input.problems.push({ code: 'PLAN_TOO_LARGE', path: `components[${entry.index}]`, message: `the action graph has more than ${maxArrows} dependencies at "${entry.component.name}": they grow with its nodes times the components that it comes after; use smaller groups, or let it come after fewer` })
    return { actions: [], gates: [], contents: new Map() }
  }

  /** What leaves goes last, when all that stays is complete; in a destroy before what it used. */
  #draftDepartures(actions: ActionDraft[], gates: GateDraft[]): void {
    const gate = this.#input.kind === 'apply' ? gateIdOf(reservedComponent, 'departures') : undefined
    const drafts = this.#input.departures.draft(gate)
    if (drafts.length === 0) return
    actions.push(...drafts.map(({ instance, entry, after }): ActionDraft => ({ id: instance.id, entry, instance, after, isDeparture: true })))
    if (gate === undefined) return
    const stays = [...this.#plots.values()].map(({ completion }) => completion)
    gates.push({ id: gate, component: reservedComponent, after: stays, approve: false, maxFailures: 0, meaning: 'all that stays, before anything is taken away', isOrderOnly: true })
  }

  /** One for the whole apply, which begins only when all its nodes can be what they are to be; or one for each node. They only order: who has been looked at again has not changed. */
  #draftPreflightGates(): GateDraft[] {
    const preflights = [...this.#plots.values()].flatMap(({ instances }) => instances.filter(isPreflight))
    const draft = (name: string, after: readonly Instance[], meaning: string): GateDraft => ({ id: gateIdOf(reservedComponent, name), component: reservedComponent, after, approve: false, maxFailures: 0, meaning, isOrderOnly: true })
    if (preflights.length === 0) return []
    if (!this.#input.isTolerant) {
      const gate = draft(preflightGate, preflights, 'the look at all nodes, before anything is changed')
      for (const { context } of this.#plots.values()) for (const node of context.nodes) this.#preflightGates.set(node, [gate.id])
      return [gate]
    }
    const byNode = new Map<NodeId, Instance[]>()
    for (const preflight of preflights) byNode.set(preflight.node, [...(byNode.get(preflight.node) ?? []), preflight])
    return [...byNode].map(([node, own]) => {
      const gate = draft(`${preflightGate}-${node}`, own, `the look at ${node}, before anything is changed there`)
      this.#preflightGates.set(node, [gate.id])
      return gate
    })
  }

  #draft(plot: Plot, actions: ActionDraft[], gates: GateDraft[]): void {
    const { component } = plot.context.entry
    const { kind } = this.#input
    const approval = kind === 'apply' && component.approve === true && plot.instances.length > 0 ? gateIdOf(component.name, 'approval') : undefined
    const approved = new Set<Before>()
    for (const instance of plot.instances) {
      const own = kind === 'check' ? [] : findOwn(plot, instance)
      if (isPreflight(instance)) {
        actions.push({ id: instance.id, entry: plot.context.entry, instance, isDeparture: false, after: own })
        continue
      }
      const others = this.#findOthers(plot, instance)
      const isBegin = own.length === 0
      if (approval !== undefined && isBegin) for (const entry of others) approved.add(entry)
      const wave = plot.waveOf(instance)
      const preflights = isBegin && this.#preflightGates.size > 0 ? [...findPreflights(plot, instance), ...(this.#preflightGates.get(instance.node) ?? [])] : []
      const isBehindGate = wave > 1 && !own.some((entry) => plot.waveOf(entry) === wave)
      actions.push({ id: instance.id, entry: plot.context.entry, instance, isDeparture: false, after: [...own, ...(approval !== undefined && isBegin ? [approval] : others), ...(isBehindGate ? [waveGateOf(plot, wave - 1)] : []), ...preflights] })
    }
    if (approval !== undefined) gates.push({ id: approval, component: component.name, after: approved, approve: true, maxFailures: 0, meaning: `the start of ${component.name} (${describeNodes(plot.context.nodes)})` })
    gates.push(...draftWaveGates(plot, approval))
  }

  /** What an action comes after outside of its component. */
  #findOthers(plot: Plot, instance: Instance): readonly Before[] {
    const { kind } = this.#input
    if (kind === 'check' || instance.ofWave !== null) return []
    if (kind === 'destroy') return [...this.#findConsumers(plot, instance), ...this.#input.departures.findUsers(plot.context.entry.component.name)]
    const { bindings, blueprint: { compiled } } = plot.context.entry
    const applied = compiled.actions.filter(({ phase, on }) => phase === 'apply' && on !== 'relation')
    if (instance.action.phase !== 'check' || kind === 'operation' || applied.length === 0) return this.#findProviders(plot, instance, bindings)
    // A check comes after what was applied, which came after the providers that it needed.
    const others = bindings.filter((binding) => !applied.some((action) => isNeeded(action, binding)) && isNeeded(instance.action, binding))
    return others.length === 0 ? [] : this.#findProviders(plot, instance, others)
  }

  /** Apply: what the providers and the components of `after` must have done first. */
  #findProviders(plot: Plot, instance: Instance, bindings: readonly Binding[]): readonly Before[] {
    const { component } = plot.context.entry
    const { prepared } = instance.action
    const needed = bindings.filter((binding) => isNeeded(instance.action, binding))
    const preparersOf = ({ provider, relation }: Binding): readonly Instance[] => this.#plots.get(provider)!.byConsumer.get(consumerKey(component.name, relation)) ?? []
    const whole = needed.filter((binding) => !prepared.includes(binding.relation) || preparersOf(binding).length === 0)
    const preparers = needed.flatMap(preparersOf)
    const before = [...whole.map((binding) => binding.provider), ...(component.after ?? [])]
    return [...preparers, ...(this.#input.kind === 'operation' ? this.#passIdle(before) : before).map((name) => this.#plots.get(name)!.completion)]
  }

  /** Operation: those of the components that take part, and what the others come after in their place. */
  #passIdle(names: readonly string[]): readonly string[] {
    const reached = new Set(names)
    for (const name of reached) if (this.#plots.get(name)!.instances.length === 0) for (const earlier of this.#plots.get(name)!.context.entry.dependsOn) reached.add(earlier)
    return [...reached].filter((name) => this.#plots.get(name)!.instances.length > 0)
  }

  /** Destroy: every consumer is gone before what it used; a per-relation removal waits for its own consumer alone. */
  #findConsumers(plot: Plot, instance: Instance): readonly Before[] {
    const names = instance.consumer === null ? (this.#dependents.get(plot.context.entry.component.name) ?? []) : [instance.consumer.component]
    return names.map((name) => this.#plots.get(name)!.completion)
  }

  #toAction({ id, entry, instance, isDeparture, after }: ActionDraft, contents: Map<ActionId, Content>): Action {
    const { action, node, name } = instance
    const { kind, problems, joinedAtOf, isAddition } = this.#input
    const found: Problem[] = []
    const commands = renderCommands(action, instance.context, { path: `components[${entry.index}]`, component: entry.component.name, action: name, node }, found)
    for (const problem of found) problems.push(isDeparture ? refuse(entry.component.name, problem.message) : problem)
    const mode: ActionMode = kind === 'check' ? 'check' : 'do'
    const content = buildContent(commands, mode, joinedAtOf(node))
    contents.set(id, content)
    return {
      id,
      component: entry.component.name,
      name,
      node,
      group: entry.component.on,
      mode,
      after: this.#write(after),
      commands,
      timeoutMs: action.timeoutMs ?? commands.reduce((sum, command) => sum + command.timeoutMs, betweenCommandsMs),
      limitMs: action.limitMs,
      retry: mode === 'check' ? { attempts: 1, backoffMs: 0 } : action.retry,
      ...(mode === 'do' && action.maxParallel !== null && { maxParallel: action.maxParallel }),
      key: content.key,
      unchanged: null,
      verifies: [],
      ...(mode === 'do' && isPreflight(instance) && { isPreflight: true as const }),
      ...(!isDeparture && isAddition(entry.component.on, node) && { isAddition: true as const }),
      ...(isDeparture && { isDeparture: true as const }),
    }
  }

  #toGate({ id, component, after, ...rest }: GateDraft): Gate {
    return { id, component, after: this.#write(after), ...rest }
  }

  #write(after: Draft['after']): ActionId[] {
    const ids = new Set<ActionId>()
    for (const entry of after) {
      if (typeof entry === 'string') ids.add(entry)
      else if (!isBundle(entry)) ids.add(entry.id)
      else if (isBarrier(entry, this.#waiters.get(entry) ?? 0)) ids.add(entry.gate)
      else for (const member of entry.members) ids.add(member.id)
    }
    this.#arrows += ids.size
    return [...ids].sort()
  }
}

const preflightGate = 'preflight'

/** Whether the gate stands behind preflights. */
export const isPreflightGate = ({ component, id }: Gate): boolean => component === reservedComponent && id.startsWith(gateIdOf(reservedComponent, preflightGate))

const isNeeded = ({ needs, prepared }: CompiledAction, { relation }: Binding): boolean => needs === null || needs.includes(relation) || prepared.includes(relation)

const isBundle = (entry: Before | ActionId): entry is Bundle => typeof entry !== 'string' && 'members' in entry

const isBarrier = ({ members }: Bundle, waiters: number): boolean => waiters > 1 && members.length > 1 && waiters * members.length > maxDirectArrows

const waveGateOf = ({ context }: Plot, wave: number): ActionId => gateIdOf(context.entry.component.name, `wave-${wave}`)

/** One gate between each two waves. It names the one before it and the approval, too: its limit of failures counts actions, and may let those pass that never began. */
function draftWaveGates(plot: Plot, approval: ActionId | undefined): GateDraft[] {
  const component = plot.context.entry.component.name
  const byWave = plot.waves.map((): Instance[] => [])
  if (byWave.length > 0) for (const instance of plot.instances) if (!isPreflight(instance)) byWave[plot.waveOf(instance) - 1]!.push(instance)
  return plot.waves.slice(0, -1).map(({ approve, maxFailures }, index): GateDraft => {
    const earlier = index > 0 ? waveGateOf(plot, index) : approval
    return { id: waveGateOf(plot, index + 1), component, after: [...byWave[index]!, ...(earlier === undefined ? [] : [earlier])], approve, maxFailures, meaning: describeWave(component, plot.waves, index + 1), isOrderOnly: true }
  })
}
