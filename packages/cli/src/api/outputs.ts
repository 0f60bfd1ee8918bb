/** What deployments give to their users, over the API. */
import { usageFailure } from '../failure.js'
import type { Client } from './client.js'
import { readPages, type Task } from './tasks.js'

export interface ListedOutput {
  readonly component: string
  readonly name: string
  readonly type: string
  readonly description: string
  readonly isSecret: boolean
  readonly isReady: boolean
  /** Null for secret ones, and for those that are not there yet. */
  readonly value: unknown
  readonly task: string | null
  readonly reason: string
}

export interface OutputValue extends Omit<ListedOutput, 'isReady' | 'reason'> {
  readonly task: string
}

export interface Deployment {
  readonly project: string
  readonly deployment: string
}

const pathOf = ({ project, deployment }: Deployment): string => `/v1/deployments/${encodeURIComponent(project)}/${encodeURIComponent(deployment)}/outputs`

/** All outputs of the deployment, by component and name. */
export async function readOutputs(client: Client, deployment: Deployment): Promise<ListedOutput[]> {
  const outputs: ListedOutput[] = []
  for await (const output of readPages<ListedOutput>(client, pathOf(deployment), { limit: 1000 })) outputs.push(output)
  return outputs
}

/** One output with its value, also a secret one. */
export const readOutput = (client: Client, deployment: Deployment, { component, name }: Pick<ListedOutput, 'component' | 'name'>): Promise<OutputValue> =>
  client.call('GET', `${pathOf(deployment)}/${encodeURIComponent(component)}/${encodeURIComponent(name)}`)

/**
 * The deployment that is meant: the one named, that of the newest apply for `latest`, or the only one that there is.
 * @throws CliFailure when there is none, or several could be meant
 */
export async function findDeployment(client: Client, { project, deployment }: { readonly project?: string | undefined; readonly deployment?: string | undefined }): Promise<Deployment> {
  if (deployment !== undefined && deployment !== 'latest') return { project: project ?? 'default', deployment }
  const found = new Map<string, Deployment>()
  const seen = new Set<string>()
  for await (const task of readPages<Task>(client, '/v1/tasks', { project, limit: 500 })) {
    const key = `${task.project}/${task.deployment}`
    if (task.kind === 'check' || seen.has(key) || task.outcome === 'rejected') continue
    // The newest of each says whether it is still there.
    seen.add(key)
    if (task.kind === 'destroy' && deployment === undefined) continue
    found.set(key, { project: task.project, deployment: task.deployment })
    if (deployment === 'latest') break
    if (found.size > 1) throw usageFailure(`there are several deployments, among them ${[...found.keys()].join(' and ')}; say which: --deployment NAME`)
  }
  const [only] = found.values()
  if (only === undefined) throw usageFailure(`nothing is deployed${project === undefined ? '' : ` in project ${project}`}`)
  return only
}
