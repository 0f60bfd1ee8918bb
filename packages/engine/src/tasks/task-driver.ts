/**
 * Drives one task that this engine owns: decides, records the intent, acts, records what came back. Owns the task's view, its inbox of results, its
 * timer, and the one append under way.
 *
 * Invariants:
 * 1. an order goes out only after its `actionSent` is durable, and a result is acknowledged only after its `actionEnded` is;
 * 2. one append is under way at most; while it is, the view is ahead of the store, and nobody acts on it;
 * 3. when an append did not go through, the view is folded again from the store: nothing is patched;
 * 4. after `stop`, or when another engine has the lease, nothing is sent and nothing recorded;
 * 5. it ends with the task: a task that is tried again is taken again, since the turn of its deployment may have passed to another one.
 */
import { type Action, type ActionId, applyEvent, buildEngineResult, buildTaskView, type Clock, decide, type Decision, isAwaited, LichenError, nextWakeup, type NodeId, pauseFor, summarizeTask, type TaskEvent, type TaskId, type TaskLimits, type Timer, type TrackedTask, type World } from '@lichen/core'
import { type AttemptKey, attemptKeyText, type OrderSigner } from '@lichen/protocol'
import type { Append, AppendAnswer, Lease, Store } from '@lichen/store'
import type { EngineLog } from '../engine-log.js'
import type { NodeStream } from '../gateway/node-stream.js'
import type { EngineMetrics } from '../metrics.js'
import type { Sealer } from '../sealer.js'
import { listApplied } from './applied-actions.js'
import type { AttemptReport } from './attempt-report.js'
import { buildOutgoing } from './outgoing.js'
import type { Planned } from './plan-task.js'
import { type ResolvedCommands, resolveCommands } from './references.js'
import { openTaskSecrets, type TaskSecrets } from './task-secrets.js'

export interface TaskDriverParts {
  readonly lease: Lease
  /** Name of this engine. */
  readonly engine: string
  readonly store: Pick<Store, 'tasks' | 'secrets'>
  readonly sealer: Sealer
  readonly signer: OrderSigner
  readonly world: World
  readonly findStream: (node: NodeId) => NodeStream | undefined
  readonly plan: (summary: NonNullable<Awaited<ReturnType<Store['tasks']['read']>>>['summary'], plan: string, asked: Pick<TrackedTask, 'previewDigest' | 'operation' | 'rotation'>) => Promise<Planned>
  readonly limits: TaskLimits
  readonly clock: Clock
  readonly log: EngineLog
  readonly metrics: EngineMetrics
  /** Called once, when there is nothing more to drive: the task has ended, or another engine has the lease. */
  readonly finished: (driver: TaskDriver, how: 'ended' | 'lost') => void
}

export interface TaskDriver {
  readonly task: TaskId
  /** Highest event known to be durable; 0 before the first read. */
  readonly seq: number
  /** There may be events of others: a cancel, a retry. */
  refresh(): void
  /** Something changed in the world: with this node, or with many. */
  wake(node?: NodeId): void
  /** The node has a new stream. */
  connected(node: NodeId): void
  report(report: AttemptReport): void
  /** Whether the attempt is one of this node. Undefined while the task is being read. */
  isOwn(node: NodeId, key: AttemptKey): boolean | undefined
  /** Stops driving at once; resolves when nothing is under way any more. */
  stop(): Promise<void>
}

/** What one append carries and what follows once it is durable. */
interface Round {
  readonly at: number
  readonly expectedSeq: number
  readonly events: TaskEvent[]
  readonly sends: { readonly action: Action; readonly attempt: number; readonly timeoutMs: number; readonly expiresAt: number; readonly commands: ResolvedCommands }[]
  readonly cancels: Extract<Decision, { type: 'cancel' }>[]
  /** How many reports of the inbox are answered by it. */
  readonly reports: number
  graph: Append['graph']
  unapplied: Append['unapplied']
}

// Events of one append; a round that has more goes on after it. Bounds the transaction and what is lost when it does not go through.
const eventsAtOnce = 4_000
// A task that is this busy waits a moment before its next round, so that more reports share one transaction: each costs the store some ten statements however
// little it carries. Half the events make a task of a few actions wait, for nothing; twice the pause is felt by whoever waits for the last action.
const busyEvents = 12
const gatherMs = 3
const backoffMs = [50, 200, 1_000, 5_000, 15_000]

/** A driver that begins at once. */
export function startTaskDriver(parts: TaskDriverParts): TaskDriver {
  const { lease, engine, store, sealer, signer, world, findStream, limits, clock, log, metrics } = parts
  const { task, epoch } = lease
  const inbox: AttemptReport[] = []
  /** Attempts whose result stands in the inbox. */
  const answered = new Set<string>()
  const outgoing = buildOutgoing({ task, epoch, signer, findStream, limits, log, metrics })
  const resolve = (action: Action) => resolveCommands(action, (reference) => (view === undefined ? undefined : secrets?.find(reference, view)))
  let view: TrackedTask | undefined
  let secrets: TaskSecrets | undefined
  /** What planning gave, until it is recorded. */
  let planned: Planned | undefined
  let durableSeq = 0
  /** Since when the task is open: another moment means that it had ended in between. */
  let runSince: number | undefined
  let mustLoad = true
  let mustRefresh = false
  let mustDispatch = true
  let hasClaimed = false
  let isAwake = true
  let isStopped = false
  let failures = 0
  let running: Promise<void> | undefined
  let timer: Timer | undefined
  let timerAt = Number.POSITIVE_INFINITY
  /** When it was last decided what to do. */
  let decidedAt = 0
  let pause: ReturnType<typeof pauseFor> | undefined

  const driver: TaskDriver = {
    task,
    get seq() {
      return durableSeq
    },
    refresh() {
      mustRefresh = true
      start()
    },
    wake(node) {
      if (!concerns(node)) return
      isAwake = true
      start()
    },
    connected(node) {
      if (!concerns(node)) return
      mustDispatch = true
      // What is being recorded right now was decided while the node was away: what can begin with it is decided anew.
      isAwake = true
      start()
    },
    report(report) {
      inbox.push(report)
      answered.add(attemptKeyText(report.key))
      start()
    },
    isOwn(node, key) {
      const vertex = view?.index.byId.get(key.actionId as ActionId)
      if (view === undefined || view.graph === null) return undefined
      return vertex !== undefined && vertex.action.node === node && key.attempt >= 1 && key.attempt <= vertex.view.attempt
    },
    async stop() {
      isStopped = true
      timer?.cancel()
      pause?.end()
      await running
    },
  }

  const concerns = (node: NodeId | undefined): boolean => node === undefined || view === undefined || view.graph === null || view.index.lanes.has(node)

  /** Begins a run in a later turn of the event loop, so that all messages that came in this turn go into one round. */
  function start(): void {
    if (running !== undefined || isStopped) return
    running = new Promise<void>((resolve) => clock.soon(resolve)).then(run).finally(() => {
      running = undefined
      if (hasWork()) start()
      else armTimer()
    })
  }

  const hasWork = (): boolean => !isStopped && (isAwake || mustLoad || mustRefresh || mustDispatch || inbox.length > 0)

  async function run(): Promise<void> {
    while (hasWork()) {
      isAwake = false
      try {
        const seqBefore = durableSeq
        await step()
        failures = 0
        if (durableSeq - seqBefore >= busyEvents && !isStopped) await new Promise<void>((resolve) => clock.after(gatherMs, resolve))
      } catch (error) {
        await recover(error)
      }
    }
  }

  async function step(): Promise<void> {
    const isFresh = mustLoad
    if (mustLoad) await load()
    else if (mustRefresh) await readNewEvents()
    // Somebody else sent that attempt: acknowledged here, its result would be lost to whoever waits for it.
    if (!isFresh && inbox.some(isOfUnknownAttempt)) await load()
    if (view === undefined || isStopped) return
    if (view.epoch > epoch) return lose('another engine has the lease')
    if (view.state === 'ended') return end()
    const round = await buildRound(view)
    if (isStopped) return
    if (round.events.length > 0) await appendRound(round)
    else await complete(round)
  }

  /** Whatever went wrong: what was not recorded is decided again from what is in the store. */
  async function recover(error: unknown): Promise<void> {
    mustLoad = true
    mustDispatch = true
    isAwake = true
    const waitMs = backoffMs[Math.min(failures, backoffMs.length - 1)] ?? 0
    failures += 1
    const isOutage = error instanceof LichenError && error.entry.kind === 'unavailable'
    if (isOutage) log.warn({ err: error, taskId: task, waitMs }, 'a task stands still until the store answers')
    else log.error({ err: error, taskId: task, waitMs }, 'a task cannot be driven because of a defect; trying again')
    pause = pauseFor(clock, waitMs)
    await pause.over
    pause = undefined
  }

  async function load(): Promise<void> {
    mustLoad = false
    mustRefresh = false
    const [row, events] = await Promise.all([store.tasks.read(task), store.tasks.readEvents(task, 0)])
    if (row === undefined) return lose('it is not in the store any more')
    // Planned between the two reads? Then the graph is older than the events, and the next try has both.
    const loaded = buildTaskView(events, row.graph)
    if (runSince !== undefined && loaded.runSince !== runSince) return end()
    runSince = loaded.runSince
    view = loaded
    durableSeq = loaded.seq
    if (loaded.graph !== null) secrets ??= await openTaskSecrets(store, sealer, { task, kind: loaded.kind, graph: loaded.graph, isNew: false })
    if (loaded.graph === null && (loaded.state === 'accepted' || loaded.state === 'paused')) planned = await parts.plan(row.summary, row.plan, loaded)
  }

  async function readNewEvents(): Promise<void> {
    mustRefresh = false
    for (const recorded of await store.tasks.readEvents(task, durableSeq)) {
      if (view === undefined) return
      // The task had ended, which this driver did not get to know: it has to be taken again, when it is its turn.
      if (recorded.event.type === 'retryRequested') return end()
      applyEvent(view, recorded)
      durableSeq = recorded.seq
      log.info({ taskId: task, event: recorded.event.type }, 'somebody else recorded an event of this task')
    }
  }

  async function buildRound(current: TrackedTask): Promise<Round> {
    const at = clock.now()
    decidedAt = at
    const round: Round = { at, expectedSeq: current.seq, events: [], sends: [], cancels: [], reports: inbox.length, graph: undefined, unapplied: undefined }
    const reports = inbox.slice(0, round.reports)
    // Before the result that they belong to is recorded: an action that comes after may need them.
    for (const report of reports) if (Object.keys(report.secretOutputs).length > 0 && isNews(current, report)) await secrets?.keepOutputs(report.key.actionId as ActionId, report.secretOutputs)
    if (!hasClaimed) record(current, round, { type: 'taskClaimed', engine, epoch })
    if (planned !== undefined && current.graph === null && (current.state === 'accepted' || current.state === 'paused')) {
      const { event, graph } = planned
      round.unapplied = planned.unapplied
      if (graph !== null) {
        secrets = await openTaskSecrets(store, sealer, { task, kind: current.kind, graph, isNew: true })
        round.graph = graph
      }
      record(current, round, event)
    }
    for (const report of reports) {
      if (isNews(current, report)) record(current, round, { type: 'actionEnded', action: report.key.actionId as ActionId, attempt: report.key.attempt, result: report.result })
      else log.warn({ taskId: task, actionId: report.key.actionId, nodeId: report.node, attempt: report.key.attempt, outcome: report.result.outcome }, 'a result that nobody waits for any more; it is dropped')
    }
    decideAll(current, round)
    return round
  }

  const isOfUnknownAttempt = ({ key }: AttemptReport): boolean => key.attempt > (view?.actions.get(key.actionId as ActionId)?.attempt ?? 0)

  /** Whether the report comes from the action's node and tells what is waited for: how the live attempt ended, or how one that was given up did. */
  const isNews = (current: TrackedTask, { node, key, result }: AttemptReport): boolean =>
    current.actions.get(key.actionId as ActionId)?.node === node && isAwaited(current, key.actionId as ActionId, key.attempt, result.outcome)

  function record(current: TrackedTask, round: Round, event: TaskEvent): void {
    applyEvent(current, { seq: current.seq + 1, at: round.at, event }, round.graph ?? null)
    round.events.push(event)
  }

  function decideAll(current: TrackedTask, round: Round): void {
    for (;;) {
      const before = round.events.length
      round.cancels.length = 0
      for (const decision of decide(current, world, round.at, limits)) {
        if (decision.type === 'record') record(current, round, decision.event)
        else if (decision.type === 'send') recordSend(current, round, decision)
        else round.cancels.push(decision)
      }
      if (round.events.length === before) return
      if (round.events.length < eventsAtOnce) continue
      isAwake = true
      return
    }
  }

  function recordSend(current: TrackedTask, round: Round, { action, attempt, timeoutMs, deadline, expiresAt }: Extract<Decision, { type: 'send' }>): void {
    const commands = resolve(action)
    if (!commands.ok) {
      const { code, message } = commands.failure
      return record(current, round, { type: 'actionEnded', action: action.id, attempt, result: buildEngineResult('failed', code, message, round.at) })
    }
    record(current, round, { type: 'actionSent', action: action.id, attempt, node: action.node, epoch, timeoutMs, deadline })
    round.sends.push({ action, attempt, timeoutMs, expiresAt, commands: commands.value })
  }

  async function appendRound(round: Round): Promise<void> {
    const { at, expectedSeq, events, graph, unapplied = [] } = round
    const current = view as TrackedTask
    const applied = current.state === 'ended' ? listApplied(task, current) : []
    const startedAt = clock.elapsed()
    const [answer] = await store.tasks.append([
      { task, expectedSeq, epoch, events, at, summary: summarizeTask(current), ...(graph === undefined ? {} : { graph }), ...(unapplied.length === 0 ? {} : { unapplied }), ...(applied.length === 0 ? {} : { applied }) },
    ])
    metrics.appendSeconds.observe((clock.elapsed() - startedAt) / 1000)
    return settle(round, answer ?? 'conflict')
  }

  async function settle(round: Round, answer: AppendAnswer): Promise<void> {
    if (answer === 'fenced') return lose('another engine has the lease')
    if (answer === 'conflict') {
      log.debug({ taskId: task, expectedSeq: round.expectedSeq }, 'somebody else recorded an event first; deciding again')
      mustLoad = true
      return
    }
    durableSeq = round.expectedSeq + round.events.length
    hasClaimed = true
    planned = undefined
    count(round)
    await complete(round)
  }

  /** What follows once the round is durable. */
  async function complete(round: Round): Promise<void> {
    for (const report of inbox.splice(0, round.reports)) {
      answered.delete(attemptKeyText(report.key))
      report.acknowledge()
    }
    if (isStopped) return
    if (view !== undefined) outgoing.send(view, round.sends)
    if (round.sends.length > 0) metrics.dispatchSeconds.observe((clock.now() - round.at) / 1000)
    if (mustDispatch && view !== undefined) outgoing.sendMissing(view, answered, resolve)
    mustDispatch = false
    for (const { action, attempt, reason } of round.cancels) outgoing.cancel(action, attempt, reason)
    if (view?.state === 'ended') end()
  }

  function count(round: Round): void {
    for (const event of round.events) {
      if (event.type === 'actionEnded') {
        outgoing.forget(event.action, event.attempt)
        metrics.actionsEnded.inc({ outcome: event.result.outcome })
        const sentAt = view?.actions.get(event.action)?.sentAt
        if (typeof sentAt === 'number') metrics.attemptSeconds.observe((round.at - sentAt) / 1000)
      } else if (event.type === 'taskEnded') metrics.tasksEnded.inc({ outcome: event.outcome })
      if (event.type === 'taskPlanned') log.info({ taskId: task, actions: event.actionCount, graphDigest: event.graphDigest }, 'a task is planned')
      if (event.type === 'taskEnded') log.info({ taskId: task, outcome: event.outcome, reason: event.reason }, 'a task ended')
    }
  }

  function end(): void {
    for (const report of inbox.splice(0)) report.acknowledge()
    finish('ended')
  }

  function lose(why: string): void {
    log.warn({ taskId: task, epoch, why }, 'a task is not driven here any more')
    finish('lost')
  }

  function finish(how: 'ended' | 'lost'): void {
    if (isStopped) return
    isStopped = true
    timer?.cancel()
    parts.finished(driver, how)
  }

  function armTimer(): void {
    if (isStopped || view === undefined) return
    // As of the last decision: what became due while it was being recorded has not been decided yet.
    const at = nextWakeup(view, world, decidedAt, limits)
    if (at === undefined || at >= timerAt) return
    timer?.cancel()
    timerAt = at
    timer = clock.after(Math.max(1, at - clock.now()), () => {
      timerAt = Number.POSITIVE_INFINITY
      driver.wake()
    })
  }

  start()
  return driver
}
