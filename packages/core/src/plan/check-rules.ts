import { ValueError } from '../blueprint/compiled-value.js'
import { EvaluationContext } from '../blueprint/expression.js'
import type { Problem } from '../errors.js'
import type { NodeRecord } from '../node/node.js'
import type { Placement } from './choose-nodes.js'
import { describeNode } from './describe-node.js'
import type { Plan } from './plan-schema.js'
import type { ResolvedComponent } from './resolve-components.js'

/** What the rules of the components' blueprints object to. Rules that speak of nodes are left out when the nodes are not known. */
export function checkRules(plan: Plan, components: readonly ResolvedComponent[], nodes: readonly NodeRecord[] | undefined, placement: Placement | undefined): Problem[] {
  const byId = new Map((nodes ?? []).map((node) => [node.id, describeNode(node)]))
  const copies = new WeakMap<object, unknown>()
  const deployment = { name: plan.metadata.name, project: plan.metadata.project ?? 'default' }
  return [...components].sort((a, b) => a.index - b.index).flatMap((entry) => {
    const { document, compiled } = entry.blueprint
    const chosen = (placement?.[entry.component.on] ?? []).map((id) => byId.get(id))
    const context = new EvaluationContext({ params: entry.parameters, nodes: chosen, node: chosen[0] ?? null, component: { name: entry.component.name }, deployment, uses: Object.fromEntries(entry.bindings.map((binding) => [binding.relation, true])) }, copies)
    return compiled.rules.flatMap((rule, index): Problem[] => {
      if (placement === undefined && /\bnodes?\b/.test(document.rules![index]!.expression)) return []
      const path = `components[${entry.index}]${rule.path === '' ? '' : `.with.${rule.path}`}`
      try {
        return rule.expression(context) === true ? [] : [{ code: 'PLAN_RULE_BROKEN', path, message: `${entry.component.name}: ${rule.message}` }]
      } catch (error) {
        if (!(error instanceof ValueError)) throw error
        return [{ code: 'PLAN_EXPRESSION', path, message: `rule ${index + 1} of blueprint "${document.name}": ${error.message}` }]
      }
    })
  })
}
