/** What a task can say of the outputs of its graph: whether they are there, and where their values are kept. */
import type { GraphOutput } from '../graph/action-graph.js'
import type { ActionId, TaskId } from '../ids.js'
import { encodeReference, findReferences, replaceReferences, type Reference } from '../secret/reference.js'
import { nameOfOutput, scopeOfDeployment, scopeOfTask } from '../secret/scope.js'
import type { TrackedTask } from './tracked-task.js'

/** Where the value of a reference is: in the task's results, or, where `plain` is null, sealed under this name, if it was given at all. */
export interface ValuePlace {
  readonly reference: Reference
  readonly plain: string | null
  readonly scope: string
  readonly name: string
}

/** `needed`: the first action that has not succeeded, with what is known of it. */
export type LocatedOutput =
  | { readonly isThere: true; readonly places: readonly ValuePlace[] }
  | { readonly isThere: false; readonly needed: ActionId; readonly reason: string }

/** Where the values are that the output is made of. It is not there before all that it needs has succeeded in this task. */
export function locateOutput(id: TaskId, task: TrackedTask, output: GraphOutput): LocatedOutput {
  for (const action of output.needs) {
    const state = task.actions.get(action)?.state
    if (state !== 'succeeded') return { isThere: false, needed: action, reason: `${action} ${describeState(state)} in ${id}` }
  }
  const places = new Map<string, ValuePlace>()
  for (const reference of findReferences(JSON.stringify(output.value))) places.set(encodeReference(reference), locate(id, task, reference))
  return { isThere: true, places: [...places.values()] }
}

function describeState(state: string | undefined): string {
  switch (state) {
    case undefined:
      return 'is no action'
    case 'pending':
    case 'sent':
      return 'has not ended'
    case 'waitingRetry':
      return 'is to be tried again'
    case 'skipped':
      return 'was skipped'
    case 'unknown':
      return 'has an unknown outcome'
    default:
      return `ended as ${state}`
  }
}

function locate(id: TaskId, task: TrackedTask, reference: Reference): ValuePlace {
  const graph = task.graph!
  if (reference.kind === 'secret') return { reference, plain: null, scope: scopeOfDeployment(graph.project, graph.deployment), name: reference.name }
  const { action, view } = task.index.byId.get(reference.action as ActionId)!
  // What did not run gave its outputs when it last did.
  const before = view.isUnchanged ? action.unchanged : null
  const plain = (before ?? view.result)?.outputs[reference.name] ?? null
  return { reference, plain, scope: scopeOfTask(before?.since ?? id), name: nameOfOutput(reference.action, reference.name) }
}

/** The value of the output with each reference replaced by what `resolve` gives for it. An integer that is still a text, because an action printed it, becomes a number; undefined when it is none. */
export function fillOutput({ type, value }: Pick<GraphOutput, 'type' | 'value'>, resolve: (reference: Reference) => string): unknown {
  const filled = fill(value, resolve)
  if (type !== 'integer' || typeof filled !== 'string') return filled
  return /^-?\d{1,15}$/.test(filled.trim()) ? Number(filled) : undefined
}

function fill(value: unknown, resolve: (reference: Reference) => string): unknown {
  if (typeof value === 'string') return replaceReferences(value, resolve)
  if (Array.isArray(value)) return value.map((entry) => fill(entry, resolve))
  if (value === null || typeof value !== 'object') return value
  return Object.fromEntries(Object.entries(value).map(([key, entry]) => [replaceReferences(key, resolve), fill(entry, resolve)]))
}
