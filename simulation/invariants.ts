/**
 * What must hold in every run, whatever happens. Numbered; the first that is broken ends the run. Checked at each commit, at each effect, at each message of agents and
 * gateways that promises something, when people look at their tasks, and at the end.
 */
import { hash } from 'node:crypto'
import { type ActionId, applyEvent, buildTaskView, type NodeRecord, type RecordedEvent, summarizeTask, type TaskId, type TrackedTask, waitingFor } from '@lichen/core'
import { type AgentMessage, type AttemptKey, attemptKeyText, decodeOrder, type EngineMessage } from '@lichen/protocol'
import type { Append, EngineIdentity, Lease, NewTask, TaskSummary } from '@lichen/store'
import { effectKeysOf } from './catalog.js'
import type { Deployment } from './deployment.js'
import { engineLimits } from './engine-process.js'
import { beginning } from './machine.js'
import type { LedgerEntry, ProgramRun } from './node/ledger.js'
import type { People } from './people.js'
import { TaskModel } from './task-model.js'

/** Every invariant, by its number. */
export const invariants = {
  1: 'An action starts only after all that it comes after has succeeded and its gates are open.',
  2: 'At most one attempt of an action is live: by the record, and on its node.',
  3: 'Limits hold: actions on one node, nodes at once (of the plan and of a group), and nothing new after too many failures.',
  4: 'An effect that can be checked happens exactly once.',
  5: 'An effect that cannot be checked happens at most once, unless a person lets it run again.',
  6: 'Every task ends, once nothing fails any more and people have answered.',
  7: 'A task that was accepted is never lost.',
  8: 'The bytes of a log arrive once and in order; of a program that ran while its node lost its power the last ones may be missing, of no other.',
  9: 'A stale epoch changes nothing: neither in the store nor on a node.',
  10: 'The replay of the events equals the state, and the row of the task says the same.',
  11: 'What is reported as succeeded is there.',
  12: 'Everything that waits says for what, and who can help.',
  13: 'No program reports a defect.',
  14: 'An order goes out only after its intent is durable, and a result is acknowledged only after it is.',
  15: 'When all tasks have ended no program runs on any node.',
  17: 'An attempt that is recorded as refused was not run.',
  16: 'An epoch of a task belongs to one process of one engine.',
  18: 'Of the tasks of a deployment one at a time is at work, checks apart.',
} as const

export type InvariantNumber = keyof typeof invariants

/** One invariant that does not hold. */
export class BrokenInvariant extends Error {
  readonly invariant: InvariantNumber

  constructor(invariant: InvariantNumber, what: string) {
    super(`invariant ${invariant} is broken: ${invariants[invariant]}\n  ${what}`)
    this.invariant = invariant
  }
}

const actionsPerNode = 4

/** See the file header. */
export class Invariants {
  readonly #models = new Map<TaskId, TaskModel>()
  readonly #views = new Map<TaskId, TrackedTask>()
  readonly #epochs = new Map<TaskId, number>()
  readonly #holders = new Map<string, string>()
  /** Tasks that were given to an engine since they were submitted, or tried again. */
  readonly #begun = new Set<TaskId>()
  readonly #accepted = new Map<string, number>()
  /** Orders in force that came to a node, and how often it said that it has accepted them. */
  readonly #orders = new Map<string, { readonly epoch: number; readonly arrived: number; answered: number }>()
  #deployment: Deployment | undefined
  #people: People | undefined
  #broken: BrokenInvariant | undefined

  /** Whom it watches. */
  watch(deployment: Deployment, people: People): void {
    this.#deployment = deployment
    this.#people = people
  }

  /** The first that does not hold. */
  get broken(): BrokenInvariant | undefined {
    return this.#broken
  }

  /** Remembers the first; what follows from it is of no interest. */
  fail(invariant: InvariantNumber, what: string): void {
    this.#broken ??= new BrokenInvariant(invariant, what)
  }

  created(task: NewTask): void {
    this.#models.set(task.id, new TaskModel())
    this.#views.set(task.id, buildTaskView([{ seq: 1, at: task.at, event: task.event }], null))
  }

  claimed(lease: Lease, { instance }: EngineIdentity): void {
    if (lease.epoch < (this.#epochs.get(lease.task) ?? 0)) this.fail(9, `${lease.task} was given with epoch ${lease.epoch} after ${this.#epochs.get(lease.task)}`)
    const name = `${lease.task} ${lease.epoch}`
    const holder = this.#holders.get(name) ?? instance
    if (holder !== instance) this.fail(16, `${lease.task} was given to ${instance} with epoch ${lease.epoch}, which ${holder} has`)
    this.#holders.set(name, instance)
    this.#epochs.set(lease.task, lease.epoch)
    this.#checkTurn(lease.task)
  }

  appended(part: Append, recorded: readonly RecordedEvent[], row: TaskSummary): void {
    const { task, epoch, graph } = part
    const model = this.#models.get(task)
    const view = this.#views.get(task)
    if (model === undefined || view === undefined) return this.fail(7, `${task} was written to and never created`)
    if (epoch !== null && epoch !== this.#epochs.get(task)) this.fail(9, `${task} took events of epoch ${epoch}; the newest is ${this.#epochs.get(task)}`)
    if (graph !== undefined) model.plan(graph)
    for (const one of recorded) {
      if (one.event.type === 'actionSent' && view.kind !== 'check' && !this.#begun.has(task)) this.fail(18, `${task} sends ${one.event.action}, and it is not its turn`)
      if (one.event.type === 'taskEnded') this.#begun.delete(task)
      this.#checkEvent(task, model, one)
      model.apply(one)
      this.#checkAfter(task, model, one)
      try {
        applyEvent(view, one, graph ?? null)
      } catch (error) {
        this.fail(10, `${task} took event ${one.seq}, ${one.event.type}, which cannot be replayed: ${(error as Error).message}`)
      }
    }
    if (part.summary !== undefined) this.#compareRow(task, view, row)
  }

  #checkTurn(task: TaskId): void {
    const { tasks } = this.#deployment!.around.database
    const { project, deployment, kind, state } = tasks.readSummary(task)!
    if (kind === 'check' || state === 'cancelling') return
    for (const other of this.#begun) {
      const row = tasks.readSummary(other)
      if (other !== task && row?.project === project && row.deployment === deployment) this.fail(18, `${task} was given to an engine while ${other} of the same deployment is at work`)
    }
    this.#begun.add(task)
  }

  /** An effect happened on a node. */
  happened({ node, key, run, count }: LedgerEntry): void {
    if (key.startsWith('migrate:')) {
      const allowed = this.#countWishes(node, key)
      if (count > allowed) this.fail(5, `${key} happened ${count} times on ${node}, at last by ${run}; people wanted it ${allowed} times`)
    } else if (count > 1) this.fail(4, `${key} happened ${count} times on ${node}, at last by ${run}`)
  }

  /** Another program for the same effect runs on the node. */
  ranTwice(node: string, key: string, runs: readonly ProgramRun[]): void {
    this.fail(2, `two programs for ${key} run on ${node} at once: ${runs.map((run) => run.id).join(', ')}`)
  }

  /** A gateway sends this to a node. */
  sentDown(node: string, { message }: EngineMessage): void {
    if (message?.$case === 'order') {
      const { key, epoch } = decodeOrder(message.value.order)
      const model = key && this.#models.get(key.taskId as TaskId)
      const recorded = key && model?.actions.get(key.actionId as ActionId)
      if (key !== undefined && (recorded?.attempt ?? 0) < key.attempt) this.fail(14, `the order of ${attemptKeyText(key)} went out to ${node} with epoch ${epoch}; the store knows attempt ${recorded?.attempt ?? 'none'}`)
    } else if (message?.$case === 'resultAck' && message.value.key) {
      const { taskId, actionId, attempt } = message.value.key
      const one = this.#models.get(taskId as TaskId)?.actions.get(actionId as ActionId)
      if (one !== undefined && one.attempt === attempt && one.state === 'sent') this.fail(14, `the result of ${attemptKeyText(message.value.key)} was acknowledged to ${node} before it was recorded`)
    }
  }

  /** A node has this from a gateway. */
  arrived(node: string, { message }: EngineMessage): void {
    if (message?.$case !== 'order') return
    const { key, epoch } = decodeOrder(message.value.order)
    if (key === undefined) return
    if (epoch < (this.#accepted.get(`${node} ${key.taskId}`) ?? 0)) return
    const name = `${node} ${attemptKeyText(key)}`
    const known = this.#orders.get(name)
    this.#orders.set(name, { epoch: Math.max(epoch, known?.epoch ?? 0), arrived: (known?.arrived ?? 0) + 1, answered: known?.answered ?? 0 })
  }

  /** A node says this to a gateway. */
  saidUp(node: string, { message }: AgentMessage): void {
    if (message?.$case !== 'accepted' || message.value.key === undefined) return
    const { key } = message.value
    const known = this.#orders.get(`${node} ${attemptKeyText(key)}`)
    // One answer for each order in force, the repeated ones too; one more is the answer to one that is not.
    if (known === undefined || (known.answered += 1) > known.arrived) return this.fail(9, `${node} accepted ${attemptKeyText(key)} once more than engines with the newest epoch ordered it`)
    const ofTask = `${node} ${key.taskId}`
    this.#accepted.set(ofTask, Math.max(this.#accepted.get(ofTask) ?? 0, known.epoch))
  }

  /** People look at a task: everything that is not settled must say what it waits for. */
  looked(task: TaskId, view: TrackedTask): void {
    const deployment = this.#deployment
    if (deployment === undefined || view.state === 'ended') return
    const { database, scheduler } = deployment.around
    const nodes = new Map<NodeRecord['id'], NodeRecord>(database.nodes.listNodes().map((node) => [node.id, node]))
    const now = beginning + scheduler.now
    const ids: (ActionId | null)[] = [null, ...view.actions.keys()]
    for (const id of ids) {
      const action = id === null ? undefined : view.actions.get(id)
      if (action !== undefined && !['pending', 'sent', 'waitingRetry', 'unknown'].includes(action.state)) continue
      const waiting = waitingFor(view, id, { nodes, now, limits, behind: this.#taskBefore(task) })
      // While a task is being cancelled nobody is asked any more.
      if (waiting === null && action?.state === 'unknown' && view.state === 'cancelling') continue
      if (waiting === null) this.fail(12, `${task} ${id ?? 'as a whole'} (${action?.state ?? view.state}) waits and does not say for what`)
      else if (waiting.reason === '' || !/^(engine|operator|node \S+|task \S+)$/.test(waiting.owner)) this.fail(12, `${task} ${id ?? 'as a whole'} waits for ${JSON.stringify(waiting)}`)
    }
  }

  /** Nothing fails any more, and everything has had its time. */
  atTheEnd(ending: string): void {
    const deployment = this.#deployment!
    const { database } = deployment.around
    for (const { id, acceptedAt } of this.#people!.promised) {
      const row = database.tasks.readSummary(id)
      if (acceptedAt === null) this.fail(6, `${id} could not be submitted (${ending})`)
      else if (row === undefined) this.fail(7, `${id} was accepted and is not there`)
      else if (row.state !== 'ended') this.fail(6, `${id} has not ended (${ending}): ${row.state}, ${row.reason}`)
      if (row !== undefined) this.#replay(id, row)
      this.#checkLog(id)
      this.#checkRefused(id)
    }
    for (const node of deployment.nodes.values()) if (node.programs.running > 0) this.fail(15, `${node.programs.running} programs run on ${node.id}`)
  }

  #checkEvent(task: TaskId, model: TaskModel, { event }: RecordedEvent): void {
    if (event.type !== 'actionSent') return
    const one = model.actions.get(event.action)
    if (one === undefined || model.graph === null) return this.fail(1, `${task} sent ${event.action}, which it does not have`)
    if (one.state === 'sent') this.fail(2, `${task} sent attempt ${event.attempt} of ${event.action} while attempt ${one.attempt} is live`)
    const blocker = model.blockerOf(one.action.after)
    if (blocker !== undefined) this.fail(1, `${task} sent ${event.action}: ${blocker}`)
    if (model.state !== 'running') this.fail(3, `${task} sent ${event.action} while it is ${model.state}`)
    // What has begun may be tried again, and a failure keeps no node from being looked at; what else has not begun must not begin.
    if (one.isBegun || one.action.isPreflight) return
    const { maxFailures, groups } = model.graph.rollout
    const group = groups[one.action.group]
    if (maxFailures !== null && model.countFailures() > maxFailures) this.fail(3, `${task} sent ${event.action} after ${model.countFailures()} failures; ${maxFailures} may`)
    if (group !== undefined && group.maxFailures !== null && model.countFailures(one.action.group) > group.maxFailures) this.fail(3, `${task} sent ${event.action} after ${model.countFailures(one.action.group)} failures of ${one.action.group}; ${group.maxFailures} may`)
  }

  #checkAfter(task: TaskId, model: TaskModel, { event }: RecordedEvent): void {
    if (event.type === 'actionSent') return this.#checkLimits(task, model, event.action)
    const isSuccess = event.type === 'actionUnchanged' || (event.type === 'actionEnded' && event.result.outcome === 'succeeded')
    if (!isSuccess) return
    const one = model.actions.get(event.action)
    if (one === undefined || one.action.mode === 'check') return
    for (const key of effectKeysOf(one.action)) {
      if (!this.#deployment?.ledger.isThere(one.action.node, key)) this.fail(11, `${task} says that ${event.action} ${event.type === 'actionUnchanged' ? 'is unchanged' : 'succeeded'}; ${key} is not there`)
    }
  }

  #checkLimits(task: TaskId, model: TaskModel, id: ActionId): void {
    const { action } = model.actions.get(id)!
    const busy = model.busyNodes()
    const { maxParallelNodes, groups } = model.graph!.rollout
    if ((busy.get(action.node) ?? 0) > actionsPerNode) this.fail(3, `${task} has ${busy.get(action.node)} live attempts on ${action.node}`)
    if (busy.size > maxParallelNodes) this.fail(3, `${task} is busy on ${busy.size} nodes; ${maxParallelNodes} may`)
    const most = groups[action.group]?.maxParallelNodes
    if (typeof most === 'number' && model.busyNodes(action.group).size > most) this.fail(3, `${task} is busy on ${model.busyNodes(action.group).size} nodes of ${action.group}; ${most} may`)
  }

  #compareRow(task: TaskId, view: TrackedTask, row: TaskSummary): void {
    const told = summarizeTask(view)
    const same = told.state === row.state && told.outcome === row.outcome && Object.entries(told.counts).every(([state, count]) => (row.counts[state] ?? 0) === count)
    if (!same) this.fail(10, `the row of ${task} says ${row.state} ${row.outcome} ${JSON.stringify(row.counts)}; its events say ${told.state} ${told.outcome} ${JSON.stringify(told.counts)}`)
  }

  #replay(task: TaskId, row: TaskSummary): void {
    const { tasks } = this.#deployment!.around.database
    const events = tasks.readEvents(task, 0)
    if (events.some(({ seq }, index) => seq !== index + 1)) this.fail(10, `the events of ${task} are not numbered one by one`)
    try {
      const view = buildTaskView(events, tasks.read(task)?.graph ?? null)
      const states = (one: TrackedTask): string => JSON.stringify([one.state, one.outcome, one.seq, one.epoch, [...one.actions.values()].map((action) => [action.id, action.state, action.attempt])])
      const known = this.#views.get(task)!
      if (states(view) !== states(known)) this.fail(10, `${task} replayed at the end is not what it was step by step`)
      this.#compareRow(task, view, row)
    } catch (error) {
      this.fail(10, `${task} cannot be replayed: ${(error as Error).message}`)
    }
  }

  /** Lines carry the id of the program that printed them, the output, and their number in it. */
  #checkLog(task: TaskId): void {
    const { logs } = this.#deployment!.around.database
    const next = new Map<string, number>()
    for (const chunk of logs.readLog(task, 0, Number.MAX_SAFE_INTEGER)) {
      for (const [, run, output, number] of Buffer.from(chunk.data).toString().matchAll(/^(r\d+) (stdout|stderr) (\d+) /gm)) {
        const expected = next.get(`${run} ${output}`) ?? 1
        if (Number(number) < expected) this.fail(8, `line ${number} of ${run} ${output} stands twice in the log of ${task}`)
        if (Number(number) > expected) this.fail(8, `line ${expected} of ${run} ${output} is missing in the log of ${task} before line ${number}`)
        next.set(`${run} ${output}`, Number(number) + 1)
      }
    }
    this.#checkCompleteness(task, next)
  }

  #taskBefore(task: TaskId): TaskId | undefined {
    const { tasks } = this.#deployment!.around.database
    const { project, deployment, kind } = tasks.readSummary(task)!
    const front = kind === 'check' ? undefined : tasks.readFront(project, deployment)
    return front === task ? undefined : front
  }

  #checkRefused(task: TaskId): void {
    for (const { action, refused } of this.#models.get(task)?.actions.values() ?? []) {
      for (const [attempt, code] of refused) {
        const prefix = runPrefix({ taskId: task, actionId: action.id, attempt })
        const run = [...this.#deployment!.ledger.runs.values()].find((one) => one.name.startsWith(prefix))
        if (run !== undefined) this.fail(17, `attempt ${attempt} of ${action.id} ended ${code}; ${run.id} ran for it on ${run.node}`)
      }
    }
  }

  /** Of an attempt whose node told its end, every line is there: the result leaves after them. */
  #checkCompleteness(task: TaskId, next: ReadonlyMap<string, number>): void {
    const told = new Map<string, string>()
    for (const { action, told: attempts } of this.#models.get(task)?.actions.values() ?? []) for (const attempt of attempts) told.set(runPrefix({ taskId: task, actionId: action.id, attempt }), `${action.id} ${attempt}`)
    for (const run of this.#deployment!.ledger.runs.values()) {
      const attempt = told.get(run.name.slice(0, 20))
      if (attempt === undefined || run.isOutputAtRisk) continue
      for (const output of ['stdout', 'stderr'] as const) {
        const stored = (next.get(`${run.id} ${output}`) ?? 1) - 1
        if (stored !== run.lines[output]) this.fail(8, `${run.id} of ${attempt} printed ${run.lines[output]} lines to ${output}; ${stored} are in the log of ${task}`)
      }
    }
  }

  /** How often people wanted it: each task that came to it once, and once more for each retry and each answer to run it again. */
  #countWishes(node: string, key: string): number {
    let wishes = 0
    for (const model of this.#models.values()) for (const one of model.actions.values()) if (one.attempt > 0 && one.action.node === node && effectKeysOf(one.action).includes(key)) wishes += 1 + one.again
    return wishes
  }
}

const limits = { actionsPerNode, beginWithinMs: 600_000, answerGraceMs: 30_000, nodeWaitMs: 600_000, cancelWaitMs: 60_000, decisionsAtOnce: 1_000, ...engineLimits.task }

// As `run-name.ts` of the agent names programs: by the digest of their attempt.
const runPrefix = (key: AttemptKey): string => hash('sha256', attemptKeyText(key)).slice(0, 20)
