/**
 * A blueprint planned with sample values, so that its templates and expressions are tried before a user's plan does it: variables that do not exist, commands
 * whose rendered form is malformed, outputs of the wrong type, relations whose two ends do not fit, outputs used before they are there.
 *
 * Each blueprint is applied, destroyed, and takes leave of a node while others stay. It is rehearsed twice: with its defaults and everything optional bound, and with its booleans turned round and nothing optional bound. What needs
 * values that cannot be guessed (`examples` in the JSON Schema help) is not rehearsed.
 */
import type { ErrorCode, Problem } from '../errors.js'
import type { ActionGraph } from '../graph/action-graph.js'
import { buildGraph } from '../graph/build-graph.js'
import { advice } from '../graph/departure-planner.js'
import { nodeId, taskId } from '../ids.js'
import type { Parsed } from '../parsed.js'
import type { NodeRecord } from '../node/node.js'
import type { Plan } from '../plan/plan-schema.js'
import { findReferences } from '../secret/reference.js'
import type { Blueprint, Catalog } from './blueprint-schema.js'
import { buildCatalog } from './catalog.js'
import { parseBlueprint } from './parse-blueprint.js'
import { sampleProperties } from './sample-value.js'

/** Name of the component that is rehearsed; it is always the first of its plan. */
const star = 'sample'
/** Group sizes tried until the rules of all blueprints agree. */
const groupSizes = [1, 3, 2, 5, 4]
/** Providers of providers are followed this far; a catalog in which they go round in a circle ends here. */
const maxProviders = 20

const linterCodes: Partial<Record<ErrorCode, ErrorCode>> = {
  PLAN_TEMPLATE: 'BLUEPRINT_TEMPLATE',
  PLAN_EXPRESSION: 'BLUEPRINT_EXPRESSION',
  BLUEPRINT_COMMAND: 'BLUEPRINT_COMMAND',
  PLAN_BAD_PARAMETER: 'BLUEPRINT_REFERENCE',
  PLAN_CANNOT_LEAVE: 'BLUEPRINT_TEMPLATE',
}

/** Every problem that planning the blueprint with sample values shows. Providers of what it requires are taken from the catalog. */
export function rehearseBlueprint(blueprint: Blueprint, catalog: Catalog): Problem[] {
  const problems = new Map<string, Problem>()
  for (const isContrary of [false, true]) {
    const cast = castComponents(blueprint, catalog, isContrary)
    if (cast === undefined) continue
    for (const problem of rehearse(cast)) if (!problems.has(`${problem.path} ${problem.message}`)) problems.set(`${problem.path} ${problem.message}`, problem)
  }
  return [...problems.values()]
}

type Sample = Plan['components'][number]

/** The components of a rehearsal. `ours` are those whose problems are the blueprint's: itself, and the consumers made up for it. */
interface Cast {
  readonly blueprints: readonly Blueprint[]
  readonly components: readonly Sample[]
  readonly ours: readonly number[]
}

function castComponents(blueprint: Blueprint, catalog: Catalog, isContrary: boolean): Cast | undefined {
  const blueprints = new Map<string, Blueprint>()
  const components: Sample[] = []
  const add = (entry: Blueprint, name: string, isOurs: boolean): Sample | undefined => {
    const parameters = sampleProperties(entry.document.parameters, isOurs && isContrary)
    if (parameters === undefined || components.length > maxProviders) return undefined
    const component: Sample = { name, blueprint: `${entry.document.name}@=${entry.document.version}`, on: name, with: parameters, uses: {} }
    blueprints.set(component.blueprint, entry)
    components.push(component)
    for (const [relation, requirement] of entry.compiled.requires) {
      if (requirement.isOptional && (!isOurs || isContrary)) continue
      const offered = catalog.list().find((other) => other !== blueprint && [...other.compiled.provides.values()].some((provision) => provision.interface === requirement.interface))
      const provider = offered && add(offered, `provider-${components.length}`, false)
      if (provider) component.uses![relation] = provider.name
      else if (!requirement.isOptional) return undefined
    }
    return component
  }
  if (add(blueprint, star, true) === undefined) return undefined
  const ours = [0]
  for (const [name, provision] of Object.entries(blueprint.document.provides ?? {})) {
    const consumer = inventConsumer(name, provision)
    if (consumer === undefined) continue
    blueprints.set(`${consumer.document.name}@*`, consumer)
    ours.push(components.length)
    components.push({ name: consumer.document.name, blueprint: consumer.document.name, on: consumer.document.name, uses: { provider: star } })
  }
  return { blueprints: [...blueprints.values()], components, ours }
}

/** A blueprint that requires one provision and tells it sample inputs. */
function inventConsumer(provision: string, { interface: wanted, inputs }: { interface: string; inputs?: Record<string, unknown> }): Blueprint | undefined {
  const told = sampleProperties(inputs, false)
  if (told === undefined) return undefined
  const actions = { use: { commands: [{ name: 'use', note: { text: 'x' } }] }, remove: { commands: [{ name: 'remove', note: { text: 'x' } }] } }
  const document = { apiVersion: 'lichen.dev/v1', kind: 'Blueprint', name: `consumer-of-${provision.toLowerCase()}`, version: '1.0.0', summary: 'rehearsal', requires: { provider: { interface: wanted, with: told } }, actions }
  const parsed = parseBlueprint(JSON.stringify(document), {})
  return parsed.ok ? parsed.value : undefined
}

function rehearse({ blueprints, components, ours }: Cast): Problem[] {
  const catalog = buildCatalog(blueprints)
  const sizes = components.map(() => 0)
  for (;;) {
    const nodes = components.map((component, index) => ({ name: component.name, count: groupSizes[sizes[index]!]! }))
    const plan: Plan = { apiVersion: 'lichen.dev/v1', kind: 'DeploymentPlan', metadata: { name: 'rehearsal' }, nodes, components: [...components] }
    const fleet = makeFleet(blueprints)
    const results = [...(['apply', 'destroy'] as const).map((kind) => buildGraph({ plan, catalog, nodes: fleet, kind })), ...rehearseDeparture(plan, catalog, fleet), ...rehearseOperations(blueprints[0]!, { plan, catalog, nodes: fleet })]
    const problems = results.flatMap((result) => (result.ok ? [] : result.problems))
    const stubborn = components.findIndex((_, index) => problems.some((problem) => problem.code === 'PLAN_RULE_BROKEN' && belongsTo(problem, index)))
    if (stubborn === -1) return [...problems.filter((problem) => ours.some((index) => belongsTo(problem, index))).flatMap(translate), ...results.flatMap((result) => (result.ok ? [...findEarlyOutputs(result.value), ...findWrongOutputs(result.value, blueprints[0]!)] : []))]
    // The rules want another number of nodes, or other parameters: then there is nothing to see here.
    sizes[stubborn]!++
    if (sizes[stubborn]! >= groupSizes.length) return []
  }
}

/** Each operation with sample parameters; one whose parameters cannot be guessed is not rehearsed. */
const rehearseOperations = ({ document: { operations } }: Blueprint, input: Pick<Parameters<typeof buildGraph>[0], 'plan' | 'catalog' | 'nodes'>) =>
  Object.entries(operations ?? {}).flatMap(([name, { parameters }]) => {
    const sample = sampleProperties(parameters, false)
    return sample === undefined ? [] : [buildGraph({ ...input, kind: 'operation', operation: { name, base: taskId('t-rehearsal'), components: [star], nodes: null, parameters: sample } })]
  })

/** The first node of the blueprint is left, where the rules let it: one more is taken, so that others stay. */
function rehearseDeparture(plan: Plan, catalog: Catalog, fleet: readonly NodeRecord[]): Parsed<ActionGraph>[] {
  const count = plan.nodes[0]!.count!
  const placement = Object.fromEntries(plan.nodes.map((group) => [group.name, fleet.slice(0, group.count).map(({ id }) => id)]))
  const before = { on: Object.fromEntries(plan.components.map(({ name, on }) => [name, on])), placement: { ...placement, [star]: fleet.slice(0, count + 1).map(({ id }) => id) } }
  const left = fleet[count === 1 ? 1 : 0]!
  if (!fleet.some((_, index) => index === count)) return []
  const kept = before.placement[star]!.filter((id) => id !== left.id)
  const built = buildGraph({ plan, catalog, nodes: fleet, kind: 'apply', placement: { ...placement, [star]: kept }, inheritance: { before, nodes: {}, plan, leaving: [] } })
  // Rules that forbid it are right to.
  return !built.ok && built.problems.some(({ code }) => code === 'PLAN_RULE_BROKEN') ? [] : [built]
}

const belongsTo = (problem: Problem, index: number): boolean => (index === 0 && problem.path === `departures.${star}`) || problem.path === `components[${index}]` || problem.path.startsWith(`components[${index}].`)

/**
 * The problem of the plan as one of the blueprint. Parameters that do not fit are the fault of the sample, what one end of a relation tells the other is not; what
 * a provider from the catalog gives wrong shows when that one is rehearsed.
 */
function translate(problem: Problem): Problem[] {
  const code = linterCodes[problem.code]
  const isOwn = belongsTo(problem, 0)
  if (code === undefined || (problem.code === 'PLAN_BAD_PARAMETER' && !(isOwn && problem.path.includes('.uses.')))) return []
  const report = (path: string, message: string): Problem[] => [{ code, path, message: `with sample values: ${message}` }]
  const inCommand = /^[\w-]+: action "([^":]+)[^"]*", command (\d+), on [^:]+: ([^]*)$/.exec(problem.message.replace(advice, ''))
  if (inCommand) {
    const path = `actions.${inCommand[1]}.commands[${Number(inCommand[2]) - 1}]`
    return report(path, inCommand[3]!.replace(`${path}.`, ''))
  }
  const inOutput = /^[\w-]+: uses\.\w+: "[\w-]+": ([\w.]+): ([^]*)$/.exec(problem.message)
  if (inOutput) return isOwn ? [] : report(inOutput[1]!, inOutput[2]!)
  const inValue = /^[\w-]+: ([\w.[\]]+): ([^]*)$/.exec(problem.message)
  if (inValue) return report(inValue[1]!, inValue[2]!)
  return report(isOwn ? problem.path.replace('components[0].uses.', 'requires.') : 'provides', problem.message)
}

/** Outputs that a command of the blueprint uses although their action need not have ended before. */
function findEarlyOutputs(graph: ActionGraph): Problem[] {
  const befores = new Map([...graph.actions, ...graph.gates].map(({ id, after }) => [id as string, after]))
  const ancestors = new Map<string, ReadonlySet<string>>()
  const findAncestors = (id: string): ReadonlySet<string> => {
    const known = ancestors.get(id) ?? new Set(befores.get(id)!.flatMap((before) => [before, ...findAncestors(before)]))
    ancestors.set(id, known)
    return known
  }
  return graph.actions.filter((action) => action.component === star).flatMap((action) =>
    action.commands.flatMap((command, index) => {
      // What an operation does not run itself was printed at the last apply.
      const early = findReferences(JSON.stringify(command)).find((reference) => reference.kind === 'output' && (graph.kind !== 'operation' || befores.has(reference.action)) && !findAncestors(action.id).has(reference.action))
      if (early?.kind !== 'output') return []
      return [{ code: 'BLUEPRINT_REFERENCE' as const, path: `actions.${action.name.split(':')[0]}.commands[${index}]`, message: `uses output "${early.name}" of ${early.action.replace(`${star}/`, '').replace(/@.*/, '')}, which need not have ended before it` }]
    }),
  )
}

/** Outputs of the blueprint itself that no apply can give, and those that would be listed in the clear did nobody look. */
function findWrongOutputs(graph: ActionGraph, { document }: Blueprint): Problem[] {
  const ids = new Set(graph.actions.map(({ id }) => id))
  return (graph.outputs ?? []).filter(({ component }) => component === star).flatMap(({ name, needs, isSecret }) => {
    const report = (message: string): Problem[] => [{ code: 'BLUEPRINT_REFERENCE', path: `outputs.${name}`, message }]
    const missing = needs.find((id) => !ids.has(id))
    if (missing !== undefined) return report(`uses an output of ${missing.replace(`${star}/`, '').replace(/@.*/, '')}, which no apply runs`)
    return isSecret && document.outputs?.[name]?.secret !== true ? report('names a secret and does not say `secret: true`') : []
  })
}

/** Nodes with every label that the blueprints speak of. */
function makeFleet(blueprints: readonly Blueprint[]): NodeRecord[] {
  const text = JSON.stringify(blueprints.map(({ document, templates }) => [document, templates]))
  const labels = Object.fromEntries([...text.matchAll(/labels(?:\.|\[\\*["'])([A-Za-z0-9_.-]+)/g)].map((match) => [match[1]!, star]))
  return Array.from({ length: Math.max(...groupSizes) }, (_, index): NodeRecord => {
    const address = `10.0.0.${index + 1}`
    return {
      id: nodeId(`node-${index + 1}`),
      labels,
      facts: { hostname: `node-${index + 1}`, address, addresses: [{ interface: 'eth0', address, family: 'ipv4' }], os: { id: 'debian', version: '12', codename: 'bookworm', prettyName: 'Debian GNU/Linux 12 (bookworm)' }, kernel: '6.1.0', architecture: 'x64', cpus: 4, memoryBytes: 8 * 1024 ** 3, diskFreeBytes: 1024 ** 4, bootId: 'sample', virtualization: 'none', cgroupVersion: 2, packageManager: 'apt', init: 'systemd' },
      state: 'ready',
      cordoned: false,
      agentVersion: '0.0.0',
      joinedAt: 0,
      lastSeenAt: 0,
    }
  })
}
