/**
 * What people get of a deployment: the outputs that its newest plan has, each with the value of the newest apply that got as far.
 *
 * 1. A sealed value is opened only for who asks for this one by name; lists are made without the key.
 * 2. What stands sealed is secret, whatever the blueprint says of it.
 */
import { encodeReference, fillOutput, keyOfOutput, LichenError, locateOutput, type GraphOutput, type TaskId, type ValuePlace } from '@lichen/core'
import type { SealedSecret, Store, TaskSummary } from '@lichen/store'
import type { TaskViews } from '../tail/task-views.js'
import { listApplies } from './deployment-applies.js'

export interface OutputParts {
  readonly store: Pick<Store, 'tasks' | 'secrets'>
  readonly views: TaskViews
}

/** Opens a sealed value of the secret store. @throws SERVER_MASTER_KEY */
export type Unseal = (secret: SealedSecret) => string

/** One output. `found`: where its value is, as of the apply that gave it; null while no apply got as far, and `reason` says why. */
export interface FoundOutput {
  readonly output: GraphOutput
  readonly isSecret: boolean
  readonly found: { readonly task: TaskId; readonly output: GraphOutput; readonly places: readonly Kept[] } | null
  readonly reason: string
}

/** A place whose value is there: `plain`, or `sealed`. */
type Kept = { readonly place: ValuePlace } & ({ readonly plain: string } | { readonly sealed: SealedSecret })

interface Located {
  readonly task: TaskId
  readonly output: GraphOutput
  readonly places: readonly ValuePlace[]
}

/**
 * All outputs of the deployment, in order of component and name.
 * @throws DEPLOYMENT_UNKNOWN, OUTPUT_GONE, OUTPUT_NOT_READY as listApplies says
 */
export async function findOutputs(parts: OutputParts, project: string, deployment: string, isWanted: (output: GraphOutput) => boolean = () => true): Promise<readonly FoundOutput[]> {
  const applies = await listApplies(parts.store.tasks, project, deployment)
  const { outputs, located, reasons } = await locateAll(parts.views, applies, isWanted)
  const scopes = new Map<string, ReadonlyMap<string, SealedSecret>>()
  for (const { scope } of [...located.values()].flatMap(({ places }) => places.filter(({ plain }) => plain === null))) {
    if (!scopes.has(scope)) scopes.set(scope, new Map((await parts.store.secrets.readSecrets(scope)).map((secret) => [secret.name, secret])))
  }
  return outputs.map((output) => {
    const key = keyOfOutput(output)
    const place = located.get(key)
    return place === undefined ? { output, isSecret: output.isSecret, found: null, reason: reasons.get(key) ?? '' } : keep(output, place, scopes)
  })
}

/** Goes back from apply to apply until each output is found. What a view says is taken before the next one is read: views change. */
async function locateAll(views: TaskViews, applies: readonly TaskSummary[], isWanted: (output: GraphOutput) => boolean) {
  let outputs: readonly GraphOutput[] | undefined
  const located = new Map<string, Located>()
  const reasons = new Map<string, string>()
  for (const { id } of applies) {
    const view = (await views.read(id))?.view
    if (view === undefined || view.graph === null) continue
    const all = view.graph.outputs ?? []
    outputs ??= all
    for (const output of all.filter((one) => isWanted(one) && !located.has(keyOfOutput(one)))) {
      const key = keyOfOutput(output)
      const answer = locateOutput(id, view, output)
      if (answer.isThere) located.set(key, { task: id, output, places: answer.places })
      else if (!reasons.has(key)) reasons.set(key, answer.reason)
    }
    if (outputs.every((output) => located.has(keyOfOutput(output)) || !isWanted(output))) break
  }
  return { outputs: outputs ?? [], located, reasons }
}

function keep(newest: GraphOutput, { task, output, places }: Located, scopes: ReadonlyMap<string, ReadonlyMap<string, SealedSecret>>): FoundOutput {
  const kept: Kept[] = []
  for (const place of places) {
    const sealed = place.plain === null ? scopes.get(place.scope)?.get(place.name) : undefined
    if (place.plain !== null) kept.push({ place, plain: place.plain })
    else if (sealed !== undefined) kept.push({ place, sealed })
    else return { output: newest, isSecret: newest.isSecret, found: null, reason: `${describe(place)} was not given, although what it belongs to succeeded in ${task}` }
  }
  return { output: newest, isSecret: newest.isSecret || output.isSecret || kept.some((entry) => 'sealed' in entry), found: { task, output, places: kept }, reason: '' }
}

const describe = ({ reference }: ValuePlace): string => (reference.kind === 'secret' ? `the secret "${reference.name}"` : `output "${reference.name}" of ${reference.action}`)

/** The value of an output that is found and not secret. @throws OUTPUT_NOT_READY when it is no value of its type */
export const readPlainValue = (found: NonNullable<FoundOutput['found']>): unknown => readValue(found, () => '')

/** The value of an output that is found. @throws OUTPUT_NOT_READY when it is no value of its type, SERVER_MASTER_KEY when a part of it does not open */
export function readValue({ output, task, places }: NonNullable<FoundOutput['found']>, unseal: Unseal): unknown {
  const values = new Map(places.map((entry) => [encodeReference(entry.place.reference), 'plain' in entry ? entry.plain : unseal(entry.sealed)]))
  const value = fillOutput(output, (reference) => values.get(encodeReference(reference)) ?? '')
  // The text itself may be a secret.
  if (value === undefined) throw new LichenError('OUTPUT_NOT_READY', `output "${output.name}" of "${output.component}" is to be an integer, and what was given for it in ${task} is none`)
  return value
}
