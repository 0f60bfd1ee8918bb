/** The linter of blueprints: what parses, but cannot be meant. */
import { valid } from 'semver'
import type { ErrorCode, Problem } from '../errors.js'
import type { Blueprint, Catalog } from './blueprint-schema.js'
import { buildCatalog } from './catalog.js'
import type { CompiledAction } from './compiled-blueprint.js'
import { suggest } from '../plan/shape-problems.js'
import { rehearseBlueprint } from './rehearse-blueprint.js'

/**
 * Every problem of a parsed blueprint; when it has none, those that planning it with sample values shows (rehearse-blueprint.ts). With a catalog, interfaces that
 * nothing in it provides are reported too, and relations are rehearsed.
 */
export function checkBlueprint(blueprint: Blueprint, catalog?: Catalog): Problem[] {
  const problems: Problem[] = []
  const report = (code: ErrorCode, path: string, message: string) => void problems.push({ code, path, message })
  if (valid(blueprint.document.version) === null) report('BLUEPRINT_SHAPE', 'version', `"${blueprint.document.version}" is no semantic version`)
  checkActions(blueprint, report)
  checkOperations(blueprint, report)
  checkRelations(blueprint, catalog, report)
  checkCommands(blueprint, report)
  // A rehearsal of what is known to be broken would say it again in other words.
  return problems.length > 0 ? problems : rehearseBlueprint(blueprint, catalog ?? buildCatalog([]))
}

type Report = (code: ErrorCode, path: string, message: string) => void

function checkActions(blueprint: Blueprint, report: Report): void {
  const { actions, requires } = blueprint.compiled
  for (const phase of ['apply', 'remove'] as const) {
    if (!actions.some((action) => action.phase === phase)) report('BLUEPRINT_REFERENCE', 'actions', `no action of phase "${phase}"`)
  }
  const byName = new Map(actions.map((action) => [action.name, action]))
  for (const action of actions) {
    for (const name of action.after) {
      const before = byName.get(name)
      if (before === undefined) report('BLUEPRINT_REFERENCE', `actions.${action.name}.after`, `no action "${name}"`)
      else if (before.operation !== action.operation && before.phase === action.phase) report('BLUEPRINT_REFERENCE', `actions.${action.name}.after`, `"${name}" belongs to another operation`)
      else if (before.phase !== action.phase) report('BLUEPRINT_REFERENCE', `actions.${action.name}.after`, `"${name}" has phase ${before.phase}, this one ${action.phase}`)
    }
    if (action.phase === 'preflight' && (action.needs!.length > 0 || action.prepared.length > 0)) report('BLUEPRINT_REFERENCE', `actions.${action.name}.needs`, 'a preflight comes before everything else, so no provider is there yet')
    if (action.phase === 'preflight' && action.on === 'relation') report('BLUEPRINT_REFERENCE', `actions.${action.name}.on`, 'a preflight looks at nodes, not at consumers')
    if (action.isGate && (action.phase !== 'check' || action.on === 'relation')) report('BLUEPRINT_REFERENCE', `actions.${action.name}.gate`, 'only a check, on each node or on the first, can be made after each wave')
    if (action.phase === 'leave' && action.on !== 'each') report('BLUEPRINT_REFERENCE', `actions.${action.name}.on`, 'an action of the phase leave runs on each node that leaves')
    if (action.isSerial && action.phase !== 'leave') report('BLUEPRINT_REFERENCE', `actions.${action.name}.serial`, 'only an action of the phase leave goes over its nodes one by one')
    if (action.isPerNode && (action.phase !== 'remove' || action.on !== 'relation')) report('BLUEPRINT_REFERENCE', `actions.${action.name}.perNode`, 'only a per-relation action of the phase remove can take away some nodes of a consumer')
    if (action.isOnEveryNode && action.on !== 'relation') report('BLUEPRINT_REFERENCE', `actions.${action.name}.everyNode`, 'says of a per-relation action that it is made on every node; of others, `on` says where')
    if (action.limitMs !== null && action.timeoutMs !== null && action.limitMs < action.timeoutMs) report('BLUEPRINT_REFERENCE', `actions.${action.name}.limitS`, `one attempt may take ${action.timeoutMs / 1000} s, all of them together only ${action.limitMs / 1000} s`)
    for (const field of ['needs', 'prepared'] as const) for (const name of action[field] ?? []) if (!requires.has(name)) report('BLUEPRINT_REFERENCE', `actions.${action.name}.${field}`, `no relation "${name}"`)
  }
  const cycle = findCycle(byName)
  if (cycle) report('BLUEPRINT_REFERENCE', 'actions', `actions wait for each other: ${cycle.join(' → ')}`)
}

function checkOperations({ compiled: { actions, operations } }: Blueprint, report: Report): void {
  for (const { name, phase, operation, on } of actions) {
    const path = `actions.${name}`
    if (phase !== 'operation') {
      if (operation !== null) report('BLUEPRINT_REFERENCE', `${path}.operation`, `belongs to an action of phase operation; this one has phase ${phase}`)
      continue
    }
    if (operation === null) report('BLUEPRINT_REFERENCE', path, 'an action of phase operation names its operation')
    else if (!operations.has(operation)) report('BLUEPRINT_REFERENCE', `${path}.operation`, `no operation "${operation}"${suggest(operation, [...operations.keys()])}`)
    if (on === 'relation') report('BLUEPRINT_REFERENCE', `${path}.on`, 'an operation runs on each node or on the first, not for a consumer')
  }
  for (const name of operations.keys()) if (!actions.some((action) => action.phase === 'operation' && action.operation === name)) report('BLUEPRINT_REFERENCE', `operations.${name}`, 'no action of phase operation belongs to it')
}

function findCycle(actions: ReadonlyMap<string, CompiledAction>): string[] | undefined {
  const done = new Set<string>()
  const visit = (name: string, trail: readonly string[]): string[] | undefined => {
    if (trail.includes(name)) return [...trail.slice(trail.indexOf(name)), name]
    if (done.has(name)) return undefined
    for (const before of actions.get(name)?.after ?? []) {
      const found = visit(before, [...trail, name])
      if (found) return found
    }
    done.add(name)
    return undefined
  }
  for (const name of actions.keys()) {
    const found = visit(name, [])
    if (found) return found
  }
  return undefined
}

function checkRelations(blueprint: Blueprint, catalog: Catalog | undefined, report: Report): void {
  const { actions, provides, requires } = blueprint.compiled
  const used = new Set<string>()
  for (const [name, provision] of provides) {
    for (const [field, phase] of [['action', 'apply'], ['removeAction', 'remove']] as const) {
      const wanted = provision[field]
      if (wanted === undefined) continue
      used.add(wanted)
      const action = actions.find((candidate) => candidate.name === wanted)
      if (action === undefined) report('BLUEPRINT_REFERENCE', `provides.${name}.${field}`, `no action "${wanted}"`)
      else if (action.on !== 'relation' || action.phase !== phase) report('BLUEPRINT_REFERENCE', `provides.${name}.${field}`, `action "${wanted}" must have on: relation and phase: ${phase}`)
    }
  }
  for (const action of actions) if (action.on === 'relation' && !used.has(action.name)) report('BLUEPRINT_REFERENCE', `actions.${action.name}.on`, 'no relation of `provides` names this action')
  if (catalog === undefined) return
  const interfaces = new Set(catalog.list().flatMap((other) => [...other.compiled.provides.values()].map((provision) => provision.interface)))
  for (const [name, requirement] of requires) if (!interfaces.has(requirement.interface)) report('BLUEPRINT_REFERENCE', `requires.${name}.interface`, `no blueprint of the catalog provides "${requirement.interface}"`)
}

/** A `run` must say how to see its effect, or that it cannot be seen. */
function checkCommands(blueprint: Blueprint, report: Report): void {
  for (const [name, action] of Object.entries(blueprint.document.actions)) {
    action.commands.forEach((command, index) => {
      const path = `actions.${name}.commands[${index}]`
      const run = command['run'] as Record<string, unknown> | undefined
      if (run !== undefined) {
        if (['creates', 'unless', 'verify', 'reboots', 'uncheckable'].every((field) => run[field] === undefined)) report('BLUEPRINT_COMMAND', `${path}.run`, 'says neither how to check its effect (creates, unless, verify or reboots) nor `uncheckable: true`')
        if ((run['argv'] === undefined) === (run['shell'] === undefined)) report('BLUEPRINT_COMMAND', `${path}.run`, 'needs exactly one of argv and shell')
      }
      const file = command['file'] as Record<string, unknown> | undefined
      if (file !== undefined && [file['content'], file['template'], file['state'] === 'absent' ? true : undefined].filter((entry) => entry !== undefined).length !== 1) report('BLUEPRINT_COMMAND', `${path}.file`, 'needs exactly one of content, template and state: absent')
      const probe = command['probe'] as Record<string, unknown> | undefined
      if (probe !== undefined && ['tcp', 'http', 'command'].filter((field) => probe[field] !== undefined).length !== 1) report('BLUEPRINT_COMMAND', `${path}.probe`, 'needs exactly one of tcp, http and command')
    })
  }
}
