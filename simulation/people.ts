/**
 * The people of a run: clients that submit plans and follow them, and an operator who looks now and then at what waits for a person. They see the truth of the store without
 * asking (what they would read over the API), and act through it. Owns what was accepted: the promises that the run is measured by.
 */
import { type ActionGraph, type ActionId, applyEvents, buildTaskView, digestOf, type TaskId, taskId, type TaskRequest, type TrackedTask } from '@lichen/core'
import type { Deployment } from './deployment.js'
import { beginning, type Life } from './machine.js'
import type { Random } from './random.js'
import type { PersonAct, SubmittedTask } from './scenario.js'
import { effectKeysOf } from './catalog.js'

/** One submission and what became of it. */
export interface Promised {
  readonly id: TaskId
  readonly task: SubmittedTask
  /** When the client was told that the task is accepted; null while it has no answer. */
  acceptedAt: number | null
  retriesLeft: number
}

/** See the file header. */
export class People {
  readonly promised: Promised[] = []
  readonly #deployment: Deployment
  readonly #random: Random
  readonly #looked: (task: TaskId, view: TrackedTask) => void
  readonly #life: Life
  /** What the operator was asked for already, so that a person asks once for each look. */
  readonly #asking = new Set<string>()
  readonly #views = new Map<TaskId, { readonly seq: number; readonly graph: ActionGraph | null; readonly view: TrackedTask }>()
  #left: number

  /** `looked`: told of every task that a person looks at. */
  constructor(deployment: Deployment, random: Random, looked: (task: TaskId, view: TrackedTask) => void) {
    this.#looked = looked
    this.#deployment = deployment
    this.#random = random
    this.#life = deployment.around.begin('people', deployment.outside)
    this.#left = deployment.scenario.tasks.length
  }

  /** True when every plan was submitted and every task has ended for good. */
  get areDone(): boolean {
    if (this.#left > 0 || this.#asking.size > 0) return false
    // Asked after each step.
    for (const one of this.promised) if (one.acceptedAt === null || !this.#isOver(one)) return false
    return true
  }

  start(): void {
    const { scenario, around } = this.#deployment
    scenario.tasks.forEach((task, index) => around.scheduler.at(task.atMs, this.#life, 'submit', () => this.#submitOne(task, index)))
    const look = (): void => {
      this.#lookAtTasks()
      this.#life.clock.after(scenario.personMs, look)
    }
    this.#life.clock.after(scenario.personMs, look)
  }

  /** The state of the task as its events say. */
  view(id: TaskId): TrackedTask | undefined {
    const { tasks } = this.#deployment.around.database
    const row = tasks.read(id)
    if (row === undefined) return undefined
    const known = this.#views.get(id)
    // The fold of the same events over the same graph is the same view, and goes on with those that are new.
    const isKnown = known !== undefined && known.graph === row.graph
    if (isKnown && known.seq === row.summary.seq) return known.view
    const view = isKnown ? applyEvents(known.view, tasks.readEvents(id, known.seq), row.graph) : buildTaskView(tasks.readEvents(id, 0), row.graph)
    this.#views.set(id, { seq: row.summary.seq, graph: row.graph, view })
    return view
  }

  #isOver({ id, retriesLeft }: Promised): boolean {
    const row = this.#deployment.around.database.tasks.readSummary(id)
    return row?.state === 'ended' && (retriesLeft === 0 || row.outcome === 'succeeded' || row.outcome === 'rejected')
  }

  #submitOne(task: SubmittedTask, index: number): void {
    const one: Promised = { id: taskId(`t-${String(index + 1).padStart(4, '0')}`), task, acceptedAt: null, retriesLeft: task.retries }
    this.promised.push(one)
    this.#left -= 1
    void this.#submit(one)
    if (task.isRepeated) void this.#submit(one)
  }

  async #submit(one: Promised): Promise<void> {
    const { around, apis } = this.#deployment
    const { plan, kind } = one.task
    const at = beginning + Math.floor(around.scheduler.now)
    const identity = { project: 'default', deployment: plan.metadata.name }
    const text = JSON.stringify(plan)
    for (;;) {
      try {
        const id = await this.#random.pick(apis).submit(this.#life, {
          id: one.id, kind, ...identity, plan: text, at, requestDigest: text, idempotencyKey: `key of ${one.id}`,
          event: { type: 'taskAccepted', kind, ...identity, planDigest: digestOf(plan), by: 'client' },
        })
        if (id !== one.id) throw new Error(`the key of ${one.id} gave ${id}`)
        break
      } catch {
        await new Promise<void>((resolve) => this.#life.clock.after(this.#random.between(200, 2_000), resolve))
      }
    }
    if (one.acceptedAt !== null) return
    one.acceptedAt = around.scheduler.now
    around.note('client', `${one.id} is accepted`)
    for (const act of one.task.acts) this.#life.clock.after(act.afterMs, () => this.#act(one, act))
  }

  #act({ id }: Promised, { what }: PersonAct): void {
    const { around, nodes } = this.#deployment
    if (what === 'cordon' || what === 'uncordon') {
      const node = [...nodes.values()][0]!
      around.note('operator', `${what} ${node.id}`)
      around.database.nodes.setNode(node.id, { cordoned: what === 'cordon' })
      return
    }
    const by = 'operator'
    this.#ask(id, what === 'resume' ? { type: 'resume', by } : { type: what, by, reason: 'a person wants it' })
  }

  #lookAtTasks(): void {
    for (const one of this.promised) {
      if (one.acceptedAt === null) continue
      const view = this.view(one.id)
      if (view === undefined) continue
      this.#looked(one.id, view)
      const request = this.#decide(one, view)
      if (request !== undefined) this.#ask(one.id, request)
    }
  }

  #decide(one: Promised, view: TrackedTask): TaskRequest | undefined {
    const by = 'operator'
    if (view.state === 'ended') {
      if (one.retriesLeft === 0 || view.outcome === 'succeeded' || view.outcome === 'rejected') return undefined
      one.retriesLeft -= 1
      return { type: 'retry', by }
    }
    for (const gate of view.gates.values()) if (gate.state === 'waiting') return { type: 'approve', by, gate: gate.id, reason: 'looks good' }
    for (const action of view.actions.values()) if (action.state === 'unknown') return { type: 'settle', by, action: action.id, answer: this.#answerFor(view, action.id), reason: 'looked at the node' }
    // Whoever paused it may have been cut off before resuming.
    return view.state === 'paused' && this.#random.chance(0.2) ? { type: 'resume', by } : undefined
  }

  #answerFor(view: TrackedTask, id: ActionId): 'succeeded' | 'failed' | 'runAgain' {
    const { scenario, ledger } = this.#deployment
    const action = view.graph?.actions.find((one) => one.id === id)
    if (action === undefined || scenario.unknownAnswer === 'failed' || scenario.unknownAnswer === 'runAgain') return scenario.unknownAnswer === 'failed' ? 'failed' : 'runAgain'
    const isThere = effectKeysOf(action).every((key) => ledger.isThere(action.node, key))
    if (isThere) return 'succeeded'
    return scenario.unknownAnswer === 'truth' ? 'runAgain' : 'failed'
  }

  #ask(id: TaskId, request: TaskRequest): void {
    const key = `${id} ${request.type}`
    if (this.#asking.has(key)) return
    this.#asking.add(key)
    this.#deployment.around.note('operator', `${request.type} ${id}${request.type === 'settle' ? ` ${request.action} as ${request.answer}` : ''}`)
    this.#random.pick(this.#deployment.apis).request(this.#life, id, request).then(
      () => this.#asking.delete(key),
      () => {
        this.#asking.delete(key)
        if (request.type === 'cancel' || request.type === 'resume' || request.type === 'pause') this.#life.clock.after(1_500, () => this.#ask(id, request))
        // A retry that was not recorded is still to be asked for; one that was recorded and not answered is not asked for twice.
        const one = this.promised.find((promised) => promised.id === id)
        if (request.type === 'retry' && one !== undefined && this.view(id)?.state === 'ended') one.retriesLeft += 1
      },
    )
  }
}
