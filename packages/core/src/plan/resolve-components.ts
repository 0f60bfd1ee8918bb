/**
 * What the components of a plan mean in a catalog: blueprint and version found, parameters with defaults, relations bound to the provision of
 * another component, and an order in which each stands after those it depends on. Nodes play no part here.
 */
import { parseBlueprintReference } from '../blueprint/catalog.js'
import type { Blueprint, Catalog } from '../blueprint/blueprint-schema.js'
import type { CompiledProvision } from '../blueprint/compiled-blueprint.js'
import type { ErrorCode, Problem } from '../errors.js'
import type { Component, Plan } from './plan-schema.js'
import { suggest } from './shape-problems.js'

export interface Binding {
  readonly relation: string
  readonly provider: string
  /** Name of the provision in the provider's blueprint. */
  readonly provision: string
  readonly compiled: CompiledProvision
}

export interface ResolvedComponent {
  readonly component: Component
  /** Position in the plan, for paths of problems. */
  readonly index: number
  readonly blueprint: Blueprint
  readonly parameters: Readonly<Record<string, unknown>>
  readonly bindings: readonly Binding[]
  /** Names of the components before it: providers and `after`. */
  readonly dependsOn: readonly string[]
}

/** The components in dependency order, and every problem; the components are complete only when there is no problem. */
export function resolveComponents(plan: Plan, catalog: Catalog): { readonly components: readonly ResolvedComponent[]; readonly problems: readonly Problem[] } {
  const problems: Problem[] = []
  const report = (code: ErrorCode, path: string, message: string) => void problems.push({ code, path, message })
  const blueprints = plan.components.map((component, index) => findBlueprint(component, `components[${index}].blueprint`, catalog, report))
  const positions = new Map<string, number>()
  plan.components.forEach((component, index) => {
    const first = positions.get(component.name)
    if (first === undefined) positions.set(component.name, index)
    else report('PLAN_DUPLICATE_NAME', `components[${index}].name`, `"${component.name}" is the name of components[${first}] too`)
  })
  const resolved: ResolvedComponent[] = []
  plan.components.forEach((component, index) => {
    const path = `components[${index}]`
    const after = checkAfter(component, path, positions, report)
    const blueprint = blueprints[index]
    if (blueprint === undefined) return
    const { value, problems: found } = blueprint.compiled.validateParameters(component.with ?? {})
    for (const problem of found) report('PLAN_BAD_PARAMETER', problem.path === '' ? `${path}.with` : `${path}.with.${problem.path}`, problem.message + (problem.message === 'no such parameter' ? suggest(problem.path.split('.').at(-1)!, parameterNames(blueprint)) : ''))
    const bindings = bindRelations(component, blueprint, path, positions, blueprints, report)
    resolved.push({ component, index, blueprint, parameters: value, bindings, dependsOn: [...new Set([...bindings.map((binding) => binding.provider), ...after])].sort() })
  })
  return { components: sortComponents(resolved, report), problems }
}

type Report = (code: ErrorCode, path: string, message: string) => void

const parameterNames = (blueprint: Blueprint): string[] => Object.keys((blueprint.document.parameters?.['properties'] as object | undefined) ?? {})

function findBlueprint(component: Component, path: string, catalog: Catalog, report: Report): Blueprint | undefined {
  const { name, range } = parseBlueprintReference(component.blueprint)
  const versions = catalog.list().filter((blueprint) => blueprint.document.name === name).map((blueprint) => blueprint.document.version)
  const found = range === undefined ? undefined : catalog.find(name, range)
  if (found === undefined) {
    const names = [...new Set(catalog.list().map((blueprint) => blueprint.document.name))]
    report('PLAN_UNKNOWN_BLUEPRINT', path, versions.length === 0 ? `no blueprint "${name}" in the catalog${suggest(name, names)}` : `no version of "${name}" in ${component.blueprint.slice(name.length + 1)}; the catalog has ${versions.join(', ')}`)
  }
  return found
}

function checkAfter(component: Component, path: string, positions: ReadonlyMap<string, number>, report: Report): string[] {
  return (component.after ?? []).filter((name, index) => {
    if (positions.has(name)) return true
    report('PLAN_UNKNOWN_COMPONENT', `${path}.after[${index}]`, `no component "${name}" in this plan${suggest(name, [...positions.keys()])}`)
    return false
  })
}

function bindRelations(component: Component, blueprint: Blueprint, path: string, positions: ReadonlyMap<string, number>, blueprints: readonly (Blueprint | undefined)[], report: Report): Binding[] {
  const { requires } = blueprint.compiled
  const uses = component.uses ?? {}
  for (const name of Object.keys(uses)) if (!requires.has(name)) report('PLAN_UNKNOWN_RELATION', `${path}.uses.${name}`, `blueprint "${blueprint.document.name}" requires no relation "${name}"${suggest(name, [...requires.keys()])}`)
  return [...requires].sort(([a], [b]) => (a < b ? -1 : 1)).flatMap(([relation, requirement]) => {
    const at = `${path}.uses.${relation}`
    const provider = uses[relation]
    if (provider === undefined) {
      if (!requirement.isOptional) report('PLAN_MISSING_RELATION', at, `"${component.name}" needs a component that provides "${requirement.interface}"`)
      return []
    }
    const position = positions.get(provider)
    if (position === undefined) {
      report('PLAN_UNKNOWN_COMPONENT', at, `no component "${provider}" in this plan${suggest(provider, [...positions.keys()])}`)
      return []
    }
    const offered = blueprints[position]
    if (offered === undefined) return []
    const provision = [...offered.compiled.provides].sort(([a], [b]) => (a < b ? -1 : 1)).find(([, entry]) => entry.interface === requirement.interface)
    if (provision === undefined) {
      const interfaces = [...offered.compiled.provides.values()].map((entry) => `"${entry.interface}"`)
      report('PLAN_WRONG_INTERFACE', at, `needs "${requirement.interface}", but "${provider}" (${offered.document.name}) provides ${interfaces.join(', ') || 'nothing'}`)
      return []
    }
    return [{ relation, provider, provision: provision[0], compiled: provision[1] }]
  })
}

/** Depth-first, in the order of names, so that the result depends on the plan's content and not on the order of its components. */
function sortComponents(resolved: readonly ResolvedComponent[], report: Report): ResolvedComponent[] {
  const byName = new Map(resolved.map((entry) => [entry.component.name, entry]))
  const state = new Map<string, 'open' | 'done'>()
  const sorted: ResolvedComponent[] = []
  for (const root of [...byName.keys()].sort()) {
    if (state.has(root)) continue
    // An explicit stack: a chain of ten thousand components must not end in a stack overflow.
    const stack: { name: string; next: number }[] = [{ name: root, next: 0 }]
    state.set(root, 'open')
    while (stack.length > 0) {
      const top = stack.at(-1)!
      const entry = byName.get(top.name)!
      const before = entry.dependsOn[top.next++]
      if (before === undefined) {
        state.set(top.name, 'done')
        sorted.push(entry)
        stack.pop()
      } else if (state.get(before) === 'open') {
        const circle = stack.slice(stack.findIndex((item) => item.name === before)).map((item) => item.name)
        report('PLAN_CYCLE', `components[${entry.index}]`, `components depend on each other in a circle: ${[...circle, before].join(' → ')}`)
      } else if (!state.has(before) && byName.has(before)) {
        state.set(before, 'open')
        stack.push({ name: before, next: 0 })
      }
    }
  }
  return sorted
}
