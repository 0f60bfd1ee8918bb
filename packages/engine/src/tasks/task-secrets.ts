/**
 * The values that one task's references stand for. Owns copies in memory while the task is driven; in the store they stand sealed: secrets of the
 * deployment under `deployment/<project>/<deployment>`, made once, and secret outputs under `task/<id>`, replaced when an action runs again.
 */
import { randomInt } from 'node:crypto'
import { type ActionGraph, type ActionId, buildStandIn, nameOfOutput, type Reference, scopeOfDeployment, scopeOfTask, type SecretRequirement, type TaskId, type TaskKind, type TrackedTask } from '@lichen/core'
import type { SecretStore, Store } from '@lichen/store'
import { openSecret, type Sealer, sealContext } from '../sealer.js'
import type { ReferencedValue } from './references.js'

export interface TaskSecrets {
  /** What the reference stands for; plain outputs come from the results in `task`. Undefined when there is no such value. */
  find(reference: Reference, task: TrackedTask): ReferencedValue | undefined
  /** Keeps secret outputs of an action. Durable when it returns. */
  keepOutputs(action: ActionId, outputs: Readonly<Record<string, string>>): Promise<void>
}

const alphabet = 'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789'

/** A secret of so many characters from a-z A-Z 0-9, each as likely as any other (`randomInt` rejects what would bias it). */
const makeSecret = (length: number): string => Array.from({ length }, () => alphabet[randomInt(alphabet.length)]).join('')

export interface SecretsOfTask {
  readonly task: TaskId
  readonly kind: TaskKind
  readonly graph: ActionGraph
  /** Nothing has run yet, so there are no outputs to read. */
  readonly isNew: boolean
}

/** The values of this task. Secrets of the deployment that are missing are made and stored first. */
export async function openTaskSecrets({ secrets, tasks }: Pick<Store, 'secrets' | 'tasks'>, sealer: Sealer, { task, kind, graph, isNew }: SecretsOfTask): Promise<TaskSecrets> {
  const ofDeployment = await readDeploymentSecrets(secrets, sealer, scopeOfDeployment(graph.project, graph.deployment), graph.secrets)
  const outputScope = scopeOfTask(task)
  const before = kind === 'check' || kind === 'operation' ? await listApplied(tasks, graph) : listUnchanged(graph)
  const ofBefore = await openOutputsOfBefore(secrets, sealer, before)
  const outputs = isNew ? new Map<string, string>() : await openScope(secrets, sealer, outputScope)
  return {
    find(reference, view) {
      if (reference.kind === 'secret') return asSecret(ofDeployment.get(reference.name))
      const name = nameOfOutput(reference.action, reference.name)
      const vertex = view.index.byId.get(reference.action as ActionId)
      // Only what verifies unchanged actions asks before they are settled: then what they gave when they last ran is what it should find. A check runs nothing that could give anything.
      // What an operation does not run itself ran at an earlier apply.
      const isOfBefore = kind === 'check' || (kind === 'operation' && vertex === undefined) || (vertex !== undefined && vertex.action.unchanged !== null && (vertex.view.isUnchanged || vertex.view.state === 'pending'))
      const secret = isOfBefore ? ofBefore.get(name) : outputs.get(name)
      if (secret !== undefined) return asSecret(secret)
      const plain = isOfBefore ? before.get(reference.action)?.outputs[reference.name] : vertex?.view.result?.outputs[reference.name]
      if (plain !== undefined) return { value: plain, isSecret: false }
      return kind === 'check' ? { value: buildStandIn(reference.action, reference.name), isSecret: false } : undefined
    },
    async keepOutputs(action, values) {
      await Promise.all(
        Object.entries(values).map(([output, value]) => {
          const name = nameOfOutput(action, output)
          outputs.set(name, value)
          return secrets.putSecret({ scope: outputScope, name, sealed: sealer.seal(Buffer.from(value), sealContext(outputScope, name)) })
        }),
      )
    },
  }
}

/** How actions last ran, in earlier tasks: by id. */
type Before = ReadonlyMap<string, { readonly task: TaskId; readonly outputs: Readonly<Record<string, string>> }>

/** The actions that may be left out. */
const listUnchanged = ({ actions }: ActionGraph): Before => new Map(actions.flatMap(({ id, unchanged }) => (unchanged ? [[id, { task: unchanged.since, outputs: unchanged.outputs }] as const] : [])))

/** All that was applied, as far as any action names an output. */
async function listApplied(tasks: Store['tasks'], { project, deployment, actions }: ActionGraph): Promise<Before> {
  if (!actions.some(({ commands }) => JSON.stringify(commands).includes('⟦output:'))) return new Map()
  return new Map((await tasks.readApplied(project, deployment)).map(({ action, task, outputs }) => [action, { task, outputs }]))
}

/** Secret outputs of these actions, from the tasks in which they ran. */
async function openOutputsOfBefore(secrets: SecretStore, sealer: Sealer, before: Before): Promise<ReadonlyMap<string, string>> {
  const found = new Map<string, string>()
  for (const task of new Set([...before.values()].map((entry) => entry.task))) {
    for (const [name, value] of await openScope(secrets, sealer, scopeOfTask(task))) if (before.get(name.slice(0, name.lastIndexOf('#')))?.task === task) found.set(name, value)
  }
  return found
}

const asSecret = (value: string | undefined): ReferencedValue | undefined => (value === undefined ? undefined : { value, isSecret: true })

async function readDeploymentSecrets(secrets: SecretStore, sealer: Sealer, scope: string, wanted: readonly SecretRequirement[]): Promise<ReadonlyMap<string, string>> {
  if (wanted.length === 0) return new Map()
  const found = await openScope(secrets, sealer, scope)
  const missing = wanted.filter(({ name }) => !found.has(name))
  if (missing.length === 0) return found
  await secrets.putSecretsIfAbsent(missing.map(({ name, length }) => ({ scope, name, sealed: sealer.seal(Buffer.from(makeSecret(length)), sealContext(scope, name)) })))
  // Read back: another task of the deployment may have been first.
  return openScope(secrets, sealer, scope)
}

const openScope = async (secrets: SecretStore, sealer: Sealer, scope: string): Promise<Map<string, string>> =>
  new Map((await secrets.readSecrets(scope)).map((secret) => [secret.name, openSecret(sealer, secret)]))
