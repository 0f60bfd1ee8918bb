import { parseBlueprintReference } from '../blueprint/catalog.js'
import { ValueError } from '../blueprint/compiled-value.js'
import { EvaluationContext } from '../blueprint/expression.js'
import type { Problem } from '../errors.js'
import type { Catalog } from '../blueprint/blueprint-schema.js'
import type { Roles } from '../graph/roles.js'
import type { NodeId } from '../ids.js'
import type { Placement } from './choose-nodes.js'
import type { Plan } from './plan-schema.js'
import type { Binding, ResolvedComponent } from './resolve-components.js'

/** Where components are, as rules see it. */
export interface RuleFleet {
  readonly placement: Placement
  readonly describe: (node: NodeId) => Readonly<Record<string, unknown>>
  readonly rolesOf: (component: string) => Roles
}

type Described = Readonly<Record<string, unknown>>

const speaksOfNodes = /\b(nodes?|before|staying|leaving)\b/
const speaksOfBefore = /\b(before|staying|leaving)\b/

/** Whether a rule of the plan's blueprints speaks of the nodes that components had: then nothing can be said without them. */
export const asksForBefore = (plan: Plan, catalog: Catalog): boolean =>
  plan.components.some(({ blueprint }) => {
    const { name, range } = parseBlueprintReference(blueprint)
    return range !== undefined && catalog.find(name, range)?.document.rules?.some((rule) => speaksOfBefore.test(rule.expression)) === true
  })

/** What the rules of the components' blueprints object to. Rules that speak of nodes are left out when the nodes are not known; of what a component uses they see what is settled with the plan. */
export function checkRules(plan: Plan, components: readonly ResolvedComponent[], fleet: RuleFleet | undefined): Problem[] {
  const copies = new WeakMap<object, unknown>()
  const deployment = { name: plan.metadata.name, project: plan.metadata.project ?? 'default' }
  const byName = new Map(components.map((entry) => [entry.component.name, entry]))
  const nodesOf = (entry: ResolvedComponent) => (fleet?.placement[entry.component.on] ?? []).map((id) => fleet!.describe(id))
  const uses = new Map<ResolvedComponent, Described>()
  // Providers stand before who uses them, so that what an output has of a provider of its own is settled too.
  for (const entry of components) {
    const found: Record<string, unknown> = {}
    for (const binding of entry.bindings) {
      const provider = byName.get(binding.provider)
      found[binding.relation] = provider === undefined ? {} : findSettled(binding, contextOf(provider))
    }
    uses.set(entry, found)
  }
  function contextOf(entry: ResolvedComponent): EvaluationContext {
    const nodes = nodesOf(entry)
    return new EvaluationContext({ params: entry.parameters, ...(fleet && { nodes, node: nodes[0] ?? null }), component: { name: entry.component.name }, deployment, uses: uses.get(entry) ?? {} }, copies)
  }
  return [...components].sort((a, b) => a.index - b.index).flatMap((entry) => {
    const { document, compiled } = entry.blueprint
    const chosen = nodesOf(entry)
    const roles = fleet?.rolesOf(entry.component.name) ?? { before: [], staying: [], leaving: [] }
    const context = new EvaluationContext({ params: entry.parameters, nodes: chosen, ...roles, node: chosen[0] ?? null, component: { name: entry.component.name }, deployment, uses: uses.get(entry)! }, copies)
    return compiled.rules.flatMap((rule, index): Problem[] => {
      if (fleet === undefined && speaksOfNodes.test(document.rules![index]!.expression)) return []
      const path = `components[${entry.index}]${rule.path === '' ? '' : `.with.${rule.path}`}`
      try {
        return rule.expression(context) === true ? [] : [{ code: 'PLAN_RULE_BROKEN', path, message: `${entry.component.name}: ${rule.message}${speaksOfBefore.test(document.rules![index]!.expression) ? describeChange(roles.before, chosen) : ''}` }]
      } catch (error) {
        if (!(error instanceof ValueError)) throw error
        return [{ code: 'PLAN_EXPRESSION', path, message: `rule ${index + 1} of blueprint "${document.name}": ${error.message}` }]
      }
    })
  })
}

/** Which nodes a rule about a change of nodes objects to. */
const describeChange = (before: readonly Described[], now: readonly Described[]): string => ` (nodes: ${listIds(now)}; before: ${listIds(before)})`

const listIds = (nodes: readonly Described[]): string => nodes.map((node) => node['id']).join(', ') || 'none'

/** The outputs of a provider that its parameters and nodes tell; the others are not there. */
function findSettled(binding: Binding, context: EvaluationContext): Record<string, unknown> {
  const settled: Record<string, unknown> = {}
  for (const output of binding.compiled.outputs) {
    try {
      settled[output.name] = output.value(context)
    } catch (error) {
      if (!(error instanceof ValueError)) throw error
    }
  }
  return settled
}
