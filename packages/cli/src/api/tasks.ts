/** Tasks over the API: what is asked and what comes back. Times are ms since the epoch. */
import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { CliFailure, usageFailure, type Problem } from '../failure.js'
import type { Client } from './client.js'

export type TaskKind = 'apply' | 'check' | 'destroy' | 'operation'
export type TaskState = 'accepted' | 'running' | 'paused' | 'cancelling' | 'ended'
export type TaskOutcome = 'succeeded' | 'failed' | 'timedOut' | 'cancelled' | 'rejected'
export type ActionState = 'pending' | 'sent' | 'waitingRetry' | 'skipped' | 'succeeded' | 'failed' | 'timedOut' | 'cancelled' | 'unknown'

export interface Failure {
  readonly code: string
  readonly message: string
  readonly command?: string
}

export interface Task {
  readonly id: string
  readonly kind: TaskKind
  readonly project: string
  readonly deployment: string
  readonly state: TaskState
  readonly outcome: TaskOutcome | null
  readonly reason: string
  readonly counts: Readonly<Record<string, number>>
  /** Sequence number of its newest event. */
  readonly seq: number
  readonly createdAt: number
  readonly updatedAt: number
}

/** What a waiting action waits for. */
export interface WaitingAction extends Waiting {
  readonly action: string
  readonly node: string
  readonly state: ActionState
}

/** What the rollout waits for between two steps: a wave, a barrier, an approval. */
export interface Gate {
  readonly id: string
  readonly component: string
  /** What it stands for: `wave 1 of 3 of etcd (canary: node-1)`. */
  readonly meaning: string
  readonly state: 'closed' | 'waiting' | 'open' | 'failed'
  /** Whether a person must approve it. */
  readonly approve: boolean
  readonly since: number
  readonly approvedBy: string | null
  readonly reason: string
}

/** An action of which nobody but a person can tell whether its effect happened. */
export interface UnknownAction {
  readonly action: string
  readonly node: string
  readonly attempt: number
  readonly since: number
  readonly reason: string
  /** What can be answered now; empty when nothing is asked. */
  readonly answers: readonly string[]
}

/** A task as `GET /v1/tasks/{id}` tells it. */
/** A link of the chain that a task's time went into. */
export interface CriticalStep {
  readonly id: string
  readonly node: string | null
  readonly beganAt: number
  readonly endedAt: number
  readonly waitedMs: number
}

export interface TaskDetail extends Task {
  /** The engine that drives it; null when none does. */
  readonly engine: string | null
  readonly actionCount: number
  /** Succeeded actions that did not run, because nothing about them changed. */
  readonly unchanged: number
  /** In the order of the graph; at most 100. */
  readonly gates: readonly Gate[]
  /** At most 20. */
  readonly unknown: readonly UnknownAction[]
  readonly failure: Failure | null
  readonly problems: readonly Problem[]
  /** What the task as a whole waits for; null when it has ended. */
  readonly waitingFor: Waiting | null
  /** Actions that wait, the nearest to running first; at most 20. */
  readonly waiting: readonly WaitingAction[]
  readonly timing: { readonly startedAt: number | null; readonly endedAt: number | null; readonly durationMs: number; readonly criticalPath: readonly CriticalStep[] }
}

export interface CommandResult {
  readonly name: string
  readonly kind: string
  readonly outcome: string
  readonly changed: boolean
  readonly settledByCheck?: boolean
  readonly durationMs: number
  readonly exitCode?: number
  readonly diff?: string
  readonly failure?: Failure
}

export interface AttemptResult {
  readonly outcome: string
  readonly changed: boolean
  readonly commands: readonly CommandResult[]
  readonly failure?: Failure
  readonly startedAt: number
  readonly endedAt: number
}

export interface Waiting {
  readonly reason: string
  readonly since: number
  readonly until: number | null
  readonly owner: string
}

export interface Action {
  readonly id: string
  readonly component: string
  readonly name: string
  readonly node: string
  readonly state: ActionState
  /** It counts as succeeded without having run. */
  readonly isUnchanged: boolean
  readonly attempt: number
  readonly sentAt: number | null
  readonly endedAt: number | null
  readonly reason: string
  readonly result: AttemptResult | null
  readonly waitingFor: Waiting | null
}

/** An event of a task, as the store recorded it. Fields beyond these depend on `type`. */
export interface TaskEvent {
  readonly seq: number
  readonly at: number
  readonly event: { readonly type: string; readonly [field: string]: unknown }
}

export interface Page<T> {
  readonly items: readonly T[]
  readonly next?: string | null
}

/** How long a submission is tried again while the server is restarting or busy: the Idempotency-Key makes a repeat harmless. */
const submitPatienceMs = 20_000
const submitPauseMs = 500

/**
 * The accepted task. A submission that got no answer is sent again with the same key, so that one task comes of it whatever was lost.
 * @throws CliFailure with every problem of the plan
 */
export const submitTask = (client: Client, body: { readonly kind: TaskKind; readonly plan: unknown; readonly previewDigest?: string | undefined }): Promise<Task> => submit(client, '/v1/tasks', body)

/** What an operation is asked to do. */
export interface OperationBody {
  readonly operation: string
  readonly components?: readonly string[]
  readonly nodes?: readonly string[]
  readonly parameters?: Readonly<Record<string, unknown>>
}

/** The same of what is asked of a deployment: `path` is that of its operations, or of its secrets. */
export const submitOnDeployment = (client: Client, path: string, body: OperationBody | { readonly secrets?: readonly string[] }): Promise<Task> => submit(client, path, body)

async function submit(client: Client, path: string, body: object): Promise<Task> {
  const headers = { 'idempotency-key': randomUUID() }
  const startedAt = Date.now()
  for (;;) {
    try {
      return await client.call<Task>('POST', path, { body, headers })
    } catch (error) {
      const isWorthIt = error instanceof CliFailure && error.isTransient && error.code !== 'ECONNREFUSED' && Date.now() - startedAt < submitPatienceMs
      if (!isWorthIt) throw error
      await sleep(submitPauseMs)
    }
  }
}

/** The task with this id, or the newest one for `latest`. @throws CliFailure when there is none */
export async function readTask(client: Client, id: string): Promise<TaskDetail> {
  if (id !== 'latest') return client.call<TaskDetail>('GET', `/v1/tasks/${encodeURIComponent(id)}`)
  const [newest] = (await client.call<Page<Task>>('GET', '/v1/tasks', { query: { limit: 1 } })).items
  if (!newest) throw usageFailure('there is no task yet')
  return client.call<TaskDetail>('GET', `/v1/tasks/${encodeURIComponent(newest.id)}`)
}

/** Every item of a paged list, page by page. */
export async function* readPages<T>(client: Client, path: string, query: Readonly<Record<string, string | number | boolean | undefined>> = {}): AsyncGenerator<T> {
  let cursor: string | undefined
  do {
    const page: Page<T> = await client.call<Page<T>>('GET', path, { query: { ...query, after: cursor } })
    yield* page.items
    cursor = page.next ?? undefined
  } while (cursor !== undefined)
}

/** All actions of the task, in the order of its graph; empty before it is planned. */
export async function readActions(client: Client, task: string): Promise<Action[]> {
  const actions: Action[] = []
  for await (const action of readPages<Action>(client, `/v1/tasks/${encodeURIComponent(task)}/actions`, { limit: 1000 })) actions.push(action)
  return actions
}
