/**
 * Tasks, events, leases, outbox and what is applied, in memory, with the semantics of the real adapters: each call is one transaction, and what it decides comes from the
 * same rules (`packages/store/src/rules`). Every call here is atomic and durable when it returns; waiting and failing are the client's part.
 */
import { type ActionGraph, type Footprint, type LichenError, type RecordedEvent, taskId, type TaskId } from '@lichen/core'
import type { AppliedAction, Append, AppendAnswer, DeploymentFootprint, EngineIdentity, LastPlan, Lease, NewTask, OutboxRow, TaskStore, TaskSummary } from '@lichen/store'
import { type AppendRows, decideAppends, type Head } from '../../packages/store/dist/rules/append-rules.js'
import { buildBell } from '../../packages/store/dist/rules/bell.js'
import { answerTaken, type Created, decideKeys, keyLifeMs, type KnownKey } from '../../packages/store/dist/rules/create-rules.js'
import { decodeFootprint } from '../../packages/store/dist/rules/footprint.js'
import { turnless } from '../../packages/store/dist/rules/turn.js'

interface TaskRow {
  summary: TaskSummary
  plan: string
  graph: ActionGraph | null
  /** JSON, as the adapters keep it. */
  placement: string | null
  readonly first: string
  readonly events: RecordedEvent[]
  owner: string | null
  instance: string | null
  until: number
  epoch: number
}

/** What is told of each commit, in the order of commits, before anybody has the answer. */
export interface CommitListener {
  created(task: NewTask): void
  appended(part: Append, recorded: readonly RecordedEvent[], summary: TaskSummary): void
  claimed(lease: Lease, engine: EngineIdentity, now: number): void
}

type ListQuery = Parameters<TaskStore['list']>[0]

/** Protections that the tests turn off, to see that the invariants notice. */
export interface StoreSabotage {
  ignoresEpochs: boolean
  /** Bells are not kept, and nobody finds a task by sweeping. */
  forgetsBells: boolean
  /** Whoever claims a task gets the lease that is out already. */
  sharesLeases: boolean
  /** Tasks of one deployment run at the same time. */
  ignoresTurns: boolean
}

const deploymentOf = ({ project, deployment }: { readonly project: string; readonly deployment: string }): string => JSON.stringify([project, deployment])

/** See the file header. */
export class TaskTables {
  readonly sabotage: StoreSabotage = { ignoresEpochs: false, forgetsBells: false, sharesLeases: false, ignoresTurns: false }
  readonly #tasks = new Map<string, TaskRow>()
  readonly #keys = new Map<string, KnownKey & { readonly createdAt: number }>()
  readonly #outbox = new Map<number, OutboxRow>()
  readonly #applied = new Map<string, { readonly project: string; readonly deployment: string; readonly applied: AppliedAction }>()
  /** By deployment: the task that was taken last. */
  readonly #turns = new Map<string, TaskId>()
  readonly #listener: CommitListener
  #lastOutbox = 0

  constructor(listener: CommitListener) {
    this.#listener = listener
  }

  create(job: NewTask): Created | LichenError {
    const { fresh, answers } = decideKeys([job], this.#keys)
    const answer = answers[0]!
    if (fresh.length === 0) return answer
    const known = this.#tasks.get(job.id)
    if (known !== undefined) return answerTaken(job, { plan: known.plan, event: known.first, createdAt: known.summary.createdAt })
    const { id, kind, project, deployment, at, plan } = job
    const first = JSON.stringify(job.event)
    this.#tasks.set(id, {
      summary: { id, kind, project, deployment, state: 'accepted', outcome: null, reason: '', counts: {}, seq: 1, createdAt: at, updatedAt: at },
      plan, graph: null, placement: null, first, events: [{ seq: 1, at, event: JSON.parse(first) as RecordedEvent['event'] }], owner: null, instance: null, until: 0, epoch: 0,
    })
    this.#ring(id, buildBell(id))
    if (job.idempotencyKey !== undefined) this.#keepKey(job.idempotencyKey, job)
    this.#listener.created(job)
    return answer
  }

  append(parts: readonly Append[]): AppendAnswer[] {
    const heads = new Map<string, Head>()
    for (const { task, epoch } of parts) {
      const row = this.#tasks.get(task)
      if (row) heads.set(task, { seq: row.summary.seq, epoch: this.sabotage.ignoresEpochs && epoch !== null ? epoch : row.epoch, project: row.summary.project, deployment: row.summary.deployment })
    }
    const { answers, rows } = decideAppends(parts, heads)
    this.#write(rows)
    parts.forEach((part, index) => {
      const row = this.#tasks.get(part.task)
      if (answers[index] !== 'appended' || row === undefined) return
      this.#listener.appended(part, row.events.slice(part.expectedSeq, part.expectedSeq + part.events.length), row.summary)
    })
    return [...answers]
  }

  readEvents(task: TaskId, afterSeq: number, limit = Number.POSITIVE_INFINITY): RecordedEvent[] {
    return this.#tasks.get(task)?.events.slice(afterSeq, afterSeq + limit) ?? []
  }

  read(task: TaskId): Awaited<ReturnType<TaskStore['read']>> {
    const row = this.#tasks.get(task)
    return row && { summary: row.summary, plan: row.plan, graph: row.graph }
  }

  readSummary(task: TaskId): TaskSummary | undefined {
    return this.#tasks.get(task)?.summary
  }

  findIdempotencyKey(key: string): { readonly id: TaskId; readonly requestDigest: string } | undefined {
    const known = this.#keys.get(key)
    return known && { id: taskId(known.task), requestDigest: known.requestDigest }
  }

  list({ limit, before, project, deployment, state, outcome }: ListQuery): TaskSummary[] {
    return [...this.#tasks.values()]
      .map((row) => row.summary)
      .filter((row) => (before === undefined || row.id < before) && (project === undefined || row.project === project) && (deployment === undefined || row.deployment === deployment) && (state === undefined || row.state === state) && (outcome === undefined || row.outcome === outcome))
      .sort((left, right) => (left.id < right.id ? 1 : -1))
      .slice(0, limit)
  }

  claim(task: TaskId, engine: EngineIdentity, now: number, ttlMs: number): Lease | undefined {
    const row = this.#tasks.get(task)
    if (row !== undefined && this.sabotage.sharesLeases && row.owner !== null) {
      this.#listener.claimed({ task, epoch: row.epoch, until: row.until }, engine, now)
      return { task, epoch: row.epoch, until: row.until }
    }
    if (row === undefined || (row.owner !== null && row.owner !== engine.name && row.until > now) || !this.#isDue(row)) return undefined
    if (row.owner !== engine.name || row.instance !== engine.instance) row.epoch += 1
    Object.assign(row, { owner: engine.name, instance: engine.instance, until: now + ttlMs })
    if (row.summary.kind !== turnless && row.summary.state !== 'cancelling') this.#turns.set(deploymentOf(row.summary), task)
    const lease = { task, epoch: row.epoch, until: row.until }
    this.#listener.claimed(lease, engine, now)
    return lease
  }

  renew(engine: EngineIdentity, tasks: readonly TaskId[], now: number, ttlMs: number): Map<TaskId, number> {
    const held = new Map<TaskId, number>()
    for (const task of tasks) {
      const row = this.#tasks.get(task)
      if (row === undefined || row.owner !== engine.name || row.instance !== engine.instance) continue
      row.until = Math.max(row.until, now + ttlMs)
      held.set(task, row.summary.seq)
    }
    return held
  }

  release(task: TaskId, engine: EngineIdentity): void {
    const row = this.#tasks.get(task)
    if (row !== undefined && row.owner === engine.name && row.instance === engine.instance) Object.assign(row, { owner: null, instance: null, until: 0 })
  }

  readOwners(tasks: readonly TaskId[]): Map<TaskId, string> {
    return new Map(tasks.flatMap((task) => {
      const owner = this.#tasks.get(task)?.owner
      return typeof owner === 'string' ? [[task, owner] as const] : []
    }))
  }

  readApplied(project: string, deployment: string): AppliedAction[] {
    return [...this.#applied.values()].filter((row) => row.project === project && row.deployment === deployment).map((row) => row.applied)
  }

  readFootprint(project: string, deployment: string): Footprint | undefined {
    const ofDeployment = [...this.#tasks.values()].filter(({ summary }) => summary.project === project && summary.deployment === deployment)
    let newest: TaskRow | undefined
    for (const row of ofDeployment) if (row.summary.kind === 'apply' && row.placement !== null && (newest === undefined || row.summary.id > newest.summary.id)) newest = row
    if (newest === undefined) return undefined
    const { id } = newest.summary
    const isDestroyed = ofDeployment.some(({ summary }) => summary.kind === 'destroy' && summary.outcome === 'succeeded' && summary.id > id)
    return decodeFootprint({ plan: newest.plan, placement: newest.placement!, isDestroyed })
  }

  readOtherFootprints(project: string, deployment: string): readonly DeploymentFootprint[] {
    const keys = new Set([...this.#tasks.values()].map(({ summary }) => deploymentOf(summary)))
    keys.delete(deploymentOf({ project, deployment }))
    return [...keys].sort().flatMap((key) => {
      const [project, deployment] = JSON.parse(key) as [string, string]
      const footprint = this.readFootprint(project, deployment)
      return footprint === undefined || footprint.isDestroyed ? [] : [{ project, deployment, ...footprint }]
    })
  }

  readLastPlan(project: string, deployment: string): LastPlan | undefined {
    let newest: LastPlan | undefined
    for (const { summary, placement, plan } of this.#tasks.values()) {
      const { id, kind } = summary
      if (summary.project !== project || summary.deployment !== deployment || placement === null || (kind !== 'apply' && kind !== 'destroy')) continue
      if (newest === undefined || id > newest.task) newest = { task: id, kind, plan }
    }
    return newest
  }

  /** The rules of `rules/turn.ts`, which are SQL there. */
  readFront(project: string, deployment: string): TaskId | undefined {
    const holder = this.#tasks.get(this.#turns.get(deploymentOf({ project, deployment })) ?? '')
    if (holder !== undefined && holder.summary.state !== 'ended') return holder.summary.id
    let first: TaskId | undefined
    for (const { summary } of this.#tasks.values()) {
      if (summary.project === project && summary.deployment === deployment && summary.state !== 'ended' && summary.kind !== turnless && (first === undefined || summary.id < first)) first = summary.id
    }
    return first
  }

  #isDue({ summary }: TaskRow): boolean {
    return this.sabotage.ignoresTurns || summary.kind === turnless || summary.state === 'cancelling' || this.readFront(summary.project, summary.deployment) === summary.id
  }

  listUnowned(now: number, limit: number): TaskId[] {
    if (this.sabotage.forgetsBells) return []
    if (this.sabotage.sharesLeases) return [...this.#tasks.values()].filter((row) => row.summary.state !== 'ended').map((row) => row.summary.id)
    return [...this.#tasks.values()]
      .filter((row) => row.summary.state !== 'ended' && row.until <= now && this.#isDue(row))
      .sort((left, right) => left.until - right.until || (left.summary.id < right.summary.id ? -1 : 1))
      .slice(0, limit)
      .map((row) => row.summary.id)
  }

  readOutbox(limit: number): OutboxRow[] {
    return [...this.#outbox.values()].slice(0, limit)
  }

  deleteOutbox(ids: readonly number[]): void {
    for (const id of ids) this.#outbox.delete(id)
  }

  #ring(task: string, message: string): void {
    if (this.sabotage.forgetsBells) return
    this.#lastOutbox += 1
    this.#outbox.set(this.#lastOutbox, { id: this.#lastOutbox, task: taskId(task), message })
  }

  #keepKey(key: string, job: NewTask): void {
    this.#keys.set(key, { requestDigest: job.requestDigest, task: job.id, createdAt: job.at })
    for (const [old, { createdAt }] of this.#keys) if (createdAt < job.at - keyLifeMs) this.#keys.delete(old)
  }

  #write(rows: AppendRows): void {
    for (const [task, seq, at, event] of rows.events) this.#tasks.get(task)?.events.push({ seq, at, event: JSON.parse(event) as RecordedEvent['event'] })
    for (const [task, seq, at] of rows.heads.values()) this.#change(task, { seq, updatedAt: at })
    for (const [task, state, outcome, reason, counts] of rows.summaries.values()) this.#change(task, { state: state as TaskSummary['state'], outcome: outcome as TaskSummary['outcome'], reason, counts: JSON.parse(counts) as Record<string, number> })
    for (const { task, plan, graph, placement } of rows.documents.values()) {
      const row = this.#tasks.get(task)!
      if (plan !== null) row.plan = plan
      if (graph !== null) row.graph = JSON.parse(graph) as ActionGraph
      if (placement !== null) row.placement = placement
    }
    for (const [key, { project, deployment, applied }] of rows.applied) {
      if (applied === null) this.#applied.delete(key)
      else this.#applied.set(key, { project, deployment, applied })
    }
    for (const [task, message] of rows.bells) this.#ring(task, message)
  }

  #change(task: string, change: Partial<TaskSummary>): void {
    const row = this.#tasks.get(task)!
    row.summary = { ...row.summary, ...change }
  }
}
