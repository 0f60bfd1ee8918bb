/** The meaning of a plan against a catalog and nodes. */
import type { Catalog } from '../blueprint/blueprint-schema.js'
import type { Problem } from '../errors.js'
import type { NodeRecord } from '../node/node.js'
import { chooseNodes } from './choose-nodes.js'
import type { Plan } from './plan-schema.js'
import { resolveComponents } from './resolve-components.js'
import { suggest } from './shape-problems.js'
import { checkRules } from './check-rules.js'

/** Every problem of the plan, empty when there is none. Without `nodes` nothing is said about placement, nor by rules that speak of nodes. */
export function checkPlan(plan: Plan, catalog: Catalog, nodes?: readonly NodeRecord[]): Problem[] {
  const { components, problems } = resolveComponents(plan, catalog)
  const chosen = nodes === undefined ? undefined : chooseNodes(plan, nodes, undefined)
  const all = [...checkGroups(plan), ...findReserved(plan, ''), ...problems, ...(chosen?.problems ?? [])]
  return all.length > 0 ? all : checkRules(plan, components, nodes, chosen?.placement)
}

function checkGroups(plan: Plan): Problem[] {
  const problems: Problem[] = []
  const positions = new Map<string, number>()
  plan.nodes.forEach((group, index) => {
    const first = positions.get(group.name)
    if (first === undefined) positions.set(group.name, index)
    else problems.push({ code: 'PLAN_DUPLICATE_NAME', path: `nodes[${index}].name`, message: `"${group.name}" is the name of nodes[${first}] too` })
  })
  plan.components.forEach((component, index) => {
    if (!positions.has(component.on)) problems.push({ code: 'PLAN_UNKNOWN_GROUP', path: `components[${index}].on`, message: `no node group "${component.on}" in this plan${suggest(component.on, [...positions.keys()])}` })
  })
  return problems
}

/** The brackets of references (secret/reference.ts) may not come from users: a plan must not be able to name another's secret. */
function findReserved(value: unknown, path: string): Problem[] {
  if (typeof value === 'string') return /[⟦⟧]/u.test(value) ? [{ code: 'PLAN_SHAPE', path, message: 'the characters ⟦ and ⟧ are reserved' }] : []
  if (Array.isArray(value)) return value.flatMap((entry, index) => findReserved(entry, `${path}[${index}]`))
  if (value === null || typeof value !== 'object') return []
  return Object.entries(value).flatMap(([key, entry]) => [...findReserved(key, path), ...findReserved(entry, path === '' ? key : `${path}.${key}`)])
}
