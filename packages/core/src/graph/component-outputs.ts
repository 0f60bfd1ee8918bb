/** What people get of the components of a plan: the outputs of their blueprints, evaluated as far as planning can. docs/decisions/0023-outputs.md says why here. */
import type { CompiledOutput } from '../blueprint/compiled-blueprint.js'
import { ValueError } from '../blueprint/compiled-value.js'
import type { Problem } from '../errors.js'
import type { ActionId } from '../ids.js'
import { findReferences, type Reference } from '../secret/reference.js'
import type { Action, GraphOutput } from './action-graph.js'
import { isOfType, type ComponentContext } from './component-context.js'

/** The outputs of all components, in order of component and name. What cannot be evaluated, or is of another type than it says, is among the problems instead. */
export function buildOutputs(contexts: Iterable<ComponentContext>, actions: readonly Action[], problems: Problem[]): GraphOutput[] {
  const giving = [...contexts].filter(({ entry, nodes }) => entry.blueprint.compiled.outputs.length > 0 && nodes.length > 0)
  if (giving.length === 0) return []
  const byId = new Map(actions.map((action) => [action.id, action]))
  const own = new Map(giving.map(({ entry, nodes }) => [entry.component.name, { node: nodes[0]!, ids: [] as ActionId[] }]))
  for (const { id, component, node, name } of actions) {
    const first = own.get(component)
    // What is done for a consumer, and checks of single waves, have a colon in their names.
    if (first?.node === node && !name.includes(':')) first.ids.push(id)
  }
  const built = giving.flatMap((context) => context.entry.blueprint.compiled.outputs.flatMap((output) => buildOutput(context, output, byId, own.get(context.entry.component.name)!.ids, problems)))
  return built.sort((a, b) => (keyOfOutput(a) < keyOfOutput(b) ? -1 : 1))
}

/** `component/name`: unique in a graph, and what outputs are sorted by. */
export const keyOfOutput = ({ component, name }: Pick<GraphOutput, 'component' | 'name'>): string => `${component}/${name}`

function buildOutput(context: ComponentContext, { name, type, value: expression }: CompiledOutput, byId: ReadonlyMap<ActionId, Action>, own: readonly ActionId[], problems: Problem[]): GraphOutput[] {
  const { component, blueprint, index } = context.entry
  const report = (message: string): GraphOutput[] => {
    problems.push({ code: 'PLAN_EXPRESSION', path: `components[${index}]`, message: `${component.name}: ${message}` })
    return []
  }
  let value: unknown
  try {
    value = expression(context.at(context.nodes[0]!))
  } catch (error) {
    if (!(error instanceof ValueError)) throw error
    return report(`${error.path}: ${error.message}`)
  }
  if (!isOfType(value, type)) return report(`outputs.${name}: must be of type ${type}, found ${JSON.stringify(value)}`)
  const references = findReferences(JSON.stringify(value))
  const named = [...new Set(references.flatMap((reference) => (reference.kind === 'output' ? [reference.action as ActionId] : [])))]
  const { description = '', secret = false } = blueprint.document.outputs![name]!
  return [{ component: component.name, name, type, description, isSecret: secret || references.some((reference) => isSecret(reference, byId)), value, needs: (named.length > 0 ? named : [...own]).sort() }]
}

function isSecret(reference: Reference, actions: ReadonlyMap<ActionId, Action>): boolean {
  if (reference.kind === 'secret') return true
  const commands = actions.get(reference.action as ActionId)?.commands ?? []
  return commands.some((command) => command.kind === 'run' && command.spec.outputs?.[reference.name]?.secret === true)
}
