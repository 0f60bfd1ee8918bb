/**
 * The actions of one component before their commands are rendered: which there are, what each comes after within the component, and in which wave each is.
 *
 * Waves: an action is in the wave of its node, or in a later one when something of the component that it comes after is. So what waits for all nodes is in the last
 * wave, and no action waits for one of a later wave: there is no circle. A preflight is in the first wave wherever it is made: nothing begins before it.
 */
import type { CompiledAction } from '../blueprint/compiled-blueprint.js'
import type { EvaluationContext } from '../blueprint/expression.js'
import type { ActionId, NodeId } from '../ids.js'
import type { TaskKind } from './action-graph.js'
import { actionIdOf, gateIdOf, relationActionIdOf } from './action-ids.js'
import type { OperationPart } from '../plan/operation-request.js'
import type { ComponentContext } from './component-context.js'
import { describeNodes, type Wave } from './waves.js'

/** One action on one node. */
export interface Instance {
  readonly id: ActionId
  readonly name: string
  readonly node: NodeId
  readonly action: CompiledAction
  readonly context: EvaluationContext
  /** Of a per-relation action: whom it serves. */
  readonly consumer: { readonly component: string; readonly relation: string } | null
  /** Of a check that is made after a wave too: which, from 1. */
  readonly ofWave: number | null
}

/** Instances that others wait for together: where many do, a gate stands for them. */
export interface Bundle {
  readonly gate: ActionId
  readonly component: string
  readonly meaning: string
  readonly members: readonly Instance[]
}

/** What something comes after. */
export type Before = Instance | Bundle

export interface Plot {
  readonly context: ComponentContext
  readonly instances: readonly Instance[]
  /** Those of one action on all its nodes, by its name in the blueprint. */
  readonly byAction: ReadonlyMap<string, Bundle>
  /** The one of an action on a node. */
  readonly byNode: ReadonlyMap<string, Instance>
  /** Per-relation ones, by whom they serve. */
  readonly byConsumer: ReadonlyMap<string, readonly Instance[]>
  /** Apply: what stands for the component being complete: its checks, or the apply actions that no other waits for. Destroy: all of it. */
  readonly completion: Bundle
  /** Empty where all nodes go at once. */
  readonly waves: readonly Wave[]
  /** Number of an instance's wave, from 1; of a bundle: of the last of its members. 1 where there are no waves. */
  waveOf(entry: Before): number
  /** The members that are in this wave. */
  membersIn(bundle: Bundle, wave: number): readonly Instance[]
}

const placeKey = (action: string, node: NodeId): string => `${action}@${node}`
/** The key of one consumer's relation in `byConsumer`. */
export const consumerKey = (component: string, relation: string): string => `${component}.${relation}`

/** The actions of a component. `waves`: in which its nodes are gone over, as far as it has actions for each node. */
export function buildPlot(kind: TaskKind, context: ComponentContext, waves: readonly Wave[], operation?: OperationPlot): Plot {
  const own = kind === 'operation' ? instantiateOperation(context, operation!) : instantiate(kind, context)
  const hasWaves = own.some(({ action }) => isDoing(action) && action.on === 'each') && (kind === 'apply' || kind === 'operation')
  const plain = buildPlainPlot(kind, context, own, hasWaves ? waves : [])
  if (plain.waves.length === 0) return plain
  const again = instantiateWaveChecks(plain)
  return { ...plain, instances: [...plain.instances, ...again] }
}

/** Those of a component's nodes that an action is made on. */
export const nodesOf = ({ on, isOnEveryNode }: CompiledAction, nodes: readonly NodeId[]): readonly NodeId[] => (on === 'each' || isOnEveryNode ? nodes : nodes.slice(0, 1))

function instantiate(kind: TaskKind, context: ComponentContext): Instance[] {
  const component = context.entry.component.name
  const phases = kind === 'destroy' ? ['remove'] : ['preflight', 'apply', 'check']
  return context.entry.blueprint.compiled.actions.filter((action) => phases.includes(action.phase)).flatMap((action) => {
    if (action.on === 'relation') return instantiateForConsumers(context, action)
    return nodesOf(action, context.nodes).map((node): Instance => ({ id: actionIdOf(component, action.name, node), name: action.name, node, action, context: context.at(node), consumer: null, ofWave: null }))
  })
}

/** Whether the action changes nodes in a task that goes forward: checks look at what it did, and waves count by it. */
const isDoing = ({ phase }: CompiledAction): boolean => phase === 'apply' || phase === 'operation'

/** Whether it looks at its node before the task changes anything. */
export const isPreflight = ({ action }: Instance): boolean => action.phase === 'preflight'

/** What is to be made of the component by an operation: nothing where `part` is undefined. */
export interface OperationPlot {
  readonly name: string
  readonly part: OperationPart | undefined
}

/** Its actions and the checks, on the nodes that take part; what checks the first node speaks for all, so it runs wherever that one is. */
function instantiateOperation(context: ComponentContext, { name: operation, part }: OperationPlot): Instance[] {
  if (part === undefined) return []
  const variables = { operation: { name: operation, params: part.parameters } }
  return context.entry.blueprint.compiled.actions
    .filter((action) => action.operation === operation || action.phase === 'check')
    .flatMap((action) => {
      const nodes = nodesOf(action, context.nodes).filter((node) => part.nodes.has(node) || (action.phase === 'check' && action.on === 'first'))
      const variablesAt = (node: NodeId) => (action.phase === 'check' ? context.at(node) : context.at(node).with(variables))
      return nodes.map((node): Instance => ({ id: actionIdOf(context.entry.component.name, action.name, node), name: action.name, node, action, context: variablesAt(node), consumer: null, ofWave: null }))
    })
}

function instantiateForConsumers(context: ComponentContext, action: CompiledAction): Instance[] {
  return context.consumers
    .filter(({ binding }) => binding.compiled.action === action.name || binding.compiled.removeAction === action.name)
    .flatMap(({ binding, name: component, relation }) => {
      const name = `${action.name}:${component}.${binding.relation}`
      const consumer = { component, relation: binding.relation }
      return nodesOf(action, context.nodes).map((node): Instance => ({ id: relationActionIdOf(context.entry.component.name, action.name, consumer, node), name, node, action, context: context.at(node).with({ relation }), consumer, ofWave: null }))
    })
}

function buildPlainPlot(kind: TaskKind, context: ComponentContext, instances: readonly Instance[], waves: readonly Wave[]): Plot {
  const component = context.entry.component.name
  const lists = new Map<string, Instance[]>()
  const byNode = new Map<string, Instance>()
  const byConsumer = new Map<string, Instance[]>()
  for (const instance of instances) {
    append(lists, instance.action.name, instance)
    if (instance.consumer) append(byConsumer, consumerKey(instance.consumer.component, instance.consumer.relation), instance)
    else byNode.set(placeKey(instance.action.name, instance.node), instance)
  }
  const byAction = new Map([...lists].map(([name, members]): [string, Bundle] => [name, { gate: gateIdOf(component, `all-${name}`), component, meaning: `${name} of ${component} on ${describeNodes(context.nodes)}`, members }]))
  const completion: Bundle = { gate: gateIdOf(component, 'complete'), component, meaning: `${kind === 'destroy' ? 'the removal of ' : ''}all of ${component}`, members: kind === 'destroy' ? instances : findLast(instances) }
  const plot: Plot = { context, instances, byAction, byNode, byConsumer, completion, waves, waveOf: (entry) => findWave(entry), membersIn: buildMembersFinder((entry) => findWave(entry)) }
  const findWave = buildWaveFinder(plot)
  return plot
}

function append<K, T>(map: Map<K, T[]>, key: K, entry: T): void {
  const list = map.get(key)
  if (list) list.push(entry)
  else map.set(key, [entry])
}

function findLast(instances: readonly Instance[]): readonly Instance[] {
  const own = instances.filter((instance) => instance.consumer === null)
  const checks = own.filter((instance) => instance.action.phase === 'check')
  const waitedFor = new Set(own.flatMap((instance) => instance.action.after))
  return checks.length > 0 ? checks : own.filter((instance) => !isPreflight(instance) && !waitedFor.has(instance.action.name))
}

function buildWaveFinder(plot: Plot): (entry: Before) => number {
  if (plot.waves.length === 0) return () => 1
  const ofNode = new Map(plot.waves.flatMap(({ nodes }, index) => nodes.map((node): [NodeId, number] => [node, index + 1])))
  const known = new Map<Before, number>()
  const find = (entry: Before): number => {
    const found = known.get(entry)
    if (found !== undefined) return found
    let wave = 'members' in entry ? 1 : (entry.ofWave ?? (isPreflight(entry) ? 1 : (ofNode.get(entry.node) ?? 1)))
    for (const before of 'members' in entry ? entry.members : findOwn(plot, entry)) wave = Math.max(wave, find(before))
    known.set(entry, wave)
    return wave
  }
  return find
}

/** Each bundle is divided once: a rollout node by node asks for as many waves as there are nodes. */
function buildMembersFinder(waveOf: (entry: Before) => number): Plot['membersIn'] {
  const divided = new Map<Bundle, Map<number, Instance[]>>()
  return (bundle, wave) => {
    let byWave = divided.get(bundle)
    if (byWave === undefined) {
      divided.set(bundle, (byWave = new Map()))
      for (const member of bundle.members) append(byWave, waveOf(member), member)
    }
    return byWave.get(wave) ?? []
  }
}

/** What an action of an apply, an operation or a destroy comes after within its component. */
export function findOwn(plot: Plot, instance: Instance): readonly Before[] {
  if (instance.ofWave !== null) return findOwnOfWave(plot, instance, instance.ofWave)
  return instance.action.phase === 'check' ? [...findChecked(plot, instance), ...findEarlier(plot, instance)] : findEarlier(plot, instance)
}

/** The preflights of the component on the node of the instance: they make what its other actions stand on. */
export const findPreflights = (plot: Plot, { node }: Instance): readonly Instance[] =>
  plot.context.entry.blueprint.compiled.actions.filter(({ phase }) => phase === 'preflight').flatMap(({ name }) => plot.byNode.get(placeKey(name, node)) ?? [])

/** The actions of `after`, node by node where both run on each node. */
const findEarlier = (plot: Plot, instance: Instance): readonly Before[] => instance.action.after.flatMap((name) => findOf(plot, name, instance))

/** What a check looks at: all that was applied on its node and on the first; a check on the first node alone speaks for the whole component. */
function findChecked(plot: Plot, instance: Instance): readonly Before[] {
  const applied = plot.context.entry.blueprint.compiled.actions.filter((action) => isDoing(action) && action.on !== 'relation')
  return applied.flatMap((action) => findOf(plot, action.name, instance))
}

function findOf(plot: Plot, name: string, instance: Instance): readonly Before[] {
  const all = plot.byAction.get(name)
  if (all === undefined) return []
  if (instance.action.on !== 'each' || all.members[0]!.action.on !== 'each') return all.members.length === 1 ? all.members : [all]
  const here = plot.byNode.get(placeKey(name, instance.node))
  return here ? [here] : []
}

/** A check of a wave looks at what it looks at otherwise, as far as that is in this wave; what was in earlier ones is behind their gates. */
function findOwnOfWave(plot: Plot, instance: Instance, wave: number): readonly Instance[] {
  return [...findChecked(plot, instance), ...findEarlier(plot, instance)].flatMap((entry) => ('members' in entry ? plot.membersIn(entry, wave) : plot.waveOf(entry) === wave ? [entry] : []))
}

/** The checks with `gate: true` once more for each wave that they would come too late for, on the nodes of the wave or on the first. */
function instantiateWaveChecks(plot: Plot): Instance[] {
  const { context, waves } = plot
  const gates = context.entry.blueprint.compiled.actions.filter((action) => action.phase === 'check' && action.isGate)
  return gates.flatMap((action) =>
    waves.flatMap(({ nodes }, index) =>
      (action.on === 'first' ? context.nodes.slice(0, 1) : nodes)
        .filter((node) => plot.byNode.has(placeKey(action.name, node)) && plot.waveOf(plot.byNode.get(placeKey(action.name, node))!) > index + 1)
        .map((node): Instance => {
          const name = `${action.name}:wave-${index + 1}`
          return { id: actionIdOf(context.entry.component.name, name, node), name, node, action, context: context.at(node), consumer: null, ofWave: index + 1 }
        }),
    ),
  )
}
