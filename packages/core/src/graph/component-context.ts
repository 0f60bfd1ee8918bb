/**
 * What templates and expressions of one component see, and what it offers to its consumers. Built in dependency order: a component's outputs are
 * known before those that use it are looked at.
 */
import { ValueError } from '../blueprint/compiled-value.js'
import { EvaluationContext, type CompiledExpression } from '../blueprint/expression.js'
import type { BlueprintAction } from '../blueprint/blueprint-schema.js'
import type { OutputType } from '../blueprint/compiled-blueprint.js'
import type { ActionId, NodeId } from '../ids.js'
import { encodeReference } from '../secret/reference.js'
import type { SecretDeclaration, SecretRoll } from '../secret/versions.js'
import type { ResolvedComponent, Binding } from '../plan/resolve-components.js'
import type { Problem } from '../errors.js'
import { actionIdOf, relationActionIdOf } from './action-ids.js'
import { scopeOfComponent, scopeOfRelation } from './list-secrets.js'
import type { Roles } from './roles.js'

/** One consumer's use of this component. */
export interface Consumer {
  readonly binding: Binding
  readonly name: string
  readonly relation: Readonly<Record<string, unknown>>
}

export interface ComponentContext {
  readonly entry: ResolvedComponent
  readonly nodes: readonly NodeId[]
  /** Consumers in order of name and relation; filled while the consumers are built. */
  readonly consumers: Consumer[]
  /** Variables for one of its nodes. */
  at(node: NodeId): EvaluationContext
}

export interface ContextInput {
  readonly deployment: { readonly name: string; readonly project: string }
  readonly describe: (node: NodeId) => Readonly<Record<string, unknown>>
  readonly rolesOf: (component: string) => Roles
  readonly copies: WeakMap<object, unknown>
  /** Collects every secret that is named. */
  readonly secrets: SecretRoll
  readonly problems: Problem[]
}

/** The context of a component whose providers are in `providers`; registers it as their consumer. */
export function buildComponentContext(input: ContextInput, entry: ResolvedComponent, nodes: readonly NodeId[], providers: ReadonlyMap<string, ComponentContext>): ComponentContext {
  const name = entry.component.name
  const described = nodes.map((id) => input.describe(id))
  const own = { params: entry.parameters, component: { name }, deployment: input.deployment, nodes: described, ...input.rolesOf(name), secrets: nameSecrets(input, entry.blueprint.compiled.secrets, scopeOfComponent(name)) }
  const base = new EvaluationContext(own, input.copies)
  const uses: Record<string, unknown> = Object.fromEntries([...entry.blueprint.compiled.requires.keys()].map((relation) => [relation, null]))
  for (const binding of entry.bindings) uses[binding.relation] = bind(input, entry, base.with({ uses: { ...uses } }), described, binding, providers.get(binding.provider)!)
  const contexts = new Map<NodeId, EvaluationContext>()
  return {
    entry,
    nodes,
    consumers: [],
    at(node) {
      const known = contexts.get(node)
      if (known) return known
      const context = base.with({ node: input.describe(node), uses, outputs: nameOutputs(entry, node, nodes) })
      contexts.set(node, context)
      return context
    },
  }
}

/** The provider's outputs for this relation. */
function bind(input: ContextInput, entry: ResolvedComponent, base: EvaluationContext, described: readonly unknown[], binding: Binding, provider: ComponentContext): Record<string, unknown> {
  const name = entry.component.name
  const path = `components[${entry.index}].uses.${binding.relation}`
  const requirement = entry.blueprint.compiled.requires.get(binding.relation)!
  const { value: inputs, problems } = binding.compiled.validateInputs(requirement.with(base) as Record<string, unknown>)
  for (const problem of problems) input.problems.push({ code: 'PLAN_BAD_PARAMETER', path, message: `what "${name}" tells "${binding.provider}" does not fit: ${problem.path} ${problem.message}` })
  const secrets = nameSecrets(input, binding.compiled.secrets, scopeOfRelation(binding.provider, name, binding.relation))
  const relation = { name: binding.relation, consumer: name, inputs, nodes: described, secrets, isDeparture: false }
  provider.consumers.push({ binding, name, relation })
  const first = provider.nodes[0]!
  const context = provider.at(first).with({ relation, outputs: { ...nameOutputs(provider.entry, first, provider.nodes), ...nameRelationOutputs(provider, binding, name) } })
  const outputs: Record<string, unknown> = {}
  for (const output of binding.compiled.outputs) {
    const value = evaluateOutput(output.value, context, binding)
    if (!isOfType(value, output.type)) input.problems.push({ code: 'PLAN_EXPRESSION', path, message: `output "${output.name}" of "${binding.provider}" must be of type ${output.type}, found ${JSON.stringify(value)}` })
    outputs[output.name] = value
  }
  return outputs
}

/** The fault lies with the provider, so the message names it. */
function evaluateOutput(output: CompiledExpression, context: EvaluationContext, binding: Binding): unknown {
  try {
    return output(context)
  } catch (error) {
    if (!(error instanceof ValueError)) throw error
    throw new ValueError(error.where, `uses.${binding.relation}: "${binding.provider}": ${error.path}`, error.message, error)
  }
}

/** Whether an output may have this value. For an integer a reference may stand: it is known when its action has run. */
export const isOfType = (value: unknown, type: OutputType): boolean => (type === 'integer' ? Number.isInteger(value) || isReference(value) : type === 'list' ? Array.isArray(value) : typeof value === type)

const isReference = (value: unknown): boolean => typeof value === 'string' && value.startsWith('⟦')

function nameSecrets(input: ContextInput, declarations: readonly SecretDeclaration[], scope: string): Record<string, string> {
  return Object.fromEntries(
    declarations.map((declaration) => [declaration.name, encodeReference({ kind: 'secret', name: input.secrets.name(declaration, scope) })]),
  )
}

/** `outputs.<action>.<name>`: references to what the component's own `run` commands will print. */
function nameOutputs(entry: ResolvedComponent, node: NodeId, nodes: readonly NodeId[]): Record<string, Record<string, string>> {
  const named: Record<string, Record<string, string>> = {}
  for (const [name, action] of Object.entries(entry.blueprint.document.actions)) {
    if (action.on !== 'relation') Object.assign(named, nameOutputsOf(name, action, actionIdOf(entry.component.name, name, action.on === 'first' ? nodes[0]! : node)))
  }
  return named
}

/** The same of the action that prepares the provider for this consumer: what it prints is for this consumer. */
function nameRelationOutputs({ entry, nodes }: ComponentContext, binding: Binding, consumer: string): Record<string, Record<string, string>> {
  const name = binding.compiled.action
  if (name === undefined) return {}
  return nameOutputsOf(name, entry.blueprint.document.actions[name]!, relationActionIdOf(entry.component.name, name, { component: consumer, relation: binding.relation }, nodes[0]!))
}

function nameOutputsOf(name: string, { commands }: BlueprintAction, id: ActionId): Record<string, Record<string, string>> {
  const outputs = commands.flatMap((command) => Object.keys((command['run'] as { outputs?: object } | undefined)?.outputs ?? {}))
  return outputs.length === 0 ? {} : { [name]: Object.fromEntries(outputs.map((output) => [output, encodeReference({ kind: 'output', action: id, name: output })])) }
}
