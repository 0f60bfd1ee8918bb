/** What a person asks for when an operation is to run on a deployment, and what that means in its plan. */
import type { Problem } from '../errors.js'
import type { NodeId, TaskId } from '../ids.js'
import type { Placement } from './choose-nodes.js'
import type { ResolvedComponent } from './resolve-components.js'
import { suggest } from './shape-problems.js'

export interface OperationRequest {
  readonly name: string
  /** The planned apply whose plan it runs on. */
  readonly base: TaskId
  /** Only these; null: every component that has the operation. */
  readonly components: readonly string[] | null
  /** Only these; null: all nodes of the components. */
  readonly nodes: readonly NodeId[] | null
  readonly parameters: Readonly<Record<string, unknown>>
}

/** One component that takes part: its parameters with defaults, and the nodes on which its actions run. */
export interface OperationPart {
  readonly parameters: Readonly<Record<string, unknown>>
  readonly nodes: ReadonlySet<NodeId>
}

/** The components that take part, by name, and every problem of the request. */
export function resolveOperation(request: OperationRequest, components: readonly ResolvedComponent[], placement: Placement): { readonly parts: ReadonlyMap<string, OperationPart>; readonly problems: readonly Problem[] } {
  const having = components.filter(({ blueprint }) => operationOf(blueprint.document.operations, request.name) !== undefined)
  if (having.length === 0) return { parts: new Map(), problems: [findNone(request.name, components)] }
  const problems = [...checkComponents(request, components, having), ...checkNodes(request, placement)]
  const parts = new Map<string, OperationPart>()
  for (const entry of having) {
    const { name, on } = entry.component
    if (request.components?.includes(name) === false) continue
    const { value, problems: unfit } = entry.blueprint.compiled.operations.get(request.name)!.validateParameters({ ...request.parameters })
    for (const { path, message } of unfit) problems.push({ code: 'OPERATION_BAD_PARAMETER', path: path === '' ? 'parameters' : `parameters.${path}`, message: `${request.name} of ${name}: ${message}` })
    const nodes = placement[on]!.filter((node) => request.nodes?.includes(node) !== false)
    const isOnlyFirst = entry.blueprint.compiled.actions.every((action) => action.operation !== request.name || action.on === 'first')
    if (nodes.length > 0 && !(isOnlyFirst && nodes[0] !== placement[on]![0])) parts.set(name, { parameters: value, nodes: new Set(nodes) })
  }
  if (parts.size === 0 && problems.length === 0) problems.push({ code: 'OPERATION_UNKNOWN_NODE', path: 'nodes', message: `${request.name} does nothing on ${request.nodes!.join(', ')}: ${having.map(({ component }) => component.name).join(', ')} ${having.length === 1 ? 'has' : 'have'} no action of it there` })
  return { parts, problems }
}

const operationOf = <T>(operations: Readonly<Record<string, T>> | undefined, name: string): T | undefined => (operations !== undefined && Object.hasOwn(operations, name) ? operations[name] : undefined)

function findNone(name: string, components: readonly ResolvedComponent[]): Problem {
  const known = [...new Set(components.flatMap(({ blueprint }) => Object.keys(blueprint.document.operations ?? {})))].sort()
  const found = known.length === 0 ? 'none of them has operations' : `there are ${known.join(', ')}`
  return { code: 'OPERATION_UNKNOWN', path: 'operation', message: `no component of this deployment has an operation "${name}"${suggest(name, known)}; ${found}` }
}

function checkComponents({ name, components: wanted }: OperationRequest, components: readonly ResolvedComponent[], having: readonly ResolvedComponent[]): Problem[] {
  const names = components.map(({ component }) => component.name)
  const able = having.map(({ component }) => component.name)
  return (wanted ?? []).flatMap((one, at): Problem[] => {
    if (able.includes(one)) return []
    const why = names.includes(one) ? `component "${one}" has no operation "${name}"; ${able.join(', ')} ${able.length === 1 ? 'has' : 'have'}` : `no component "${one}" in this deployment${suggest(one, able)}`
    return [{ code: 'OPERATION_UNKNOWN_COMPONENT', path: `components[${at}]`, message: why }]
  })
}

function checkNodes({ nodes }: OperationRequest, placement: Placement): Problem[] {
  const known = [...new Set(Object.values(placement).flat())]
  return (nodes ?? []).flatMap((node, at): Problem[] => (known.includes(node) ? [] : [{ code: 'OPERATION_UNKNOWN_NODE', path: `nodes[${at}]`, message: `no node "${node}" in this deployment${suggest(node, known)}` }]))
}
