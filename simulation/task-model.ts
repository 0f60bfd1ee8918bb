/**
 * What the invariants know of one task: a second, simpler reading of its events, written apart from `core` so that a mistake there does not hide itself. Keeps no
 * indexes and decides nothing.
 */
import type { Action, ActionGraph, ActionId, RecordedEvent, TaskEvent } from '@lichen/core'

/** One action as its events tell. */
export interface ModelAction {
  readonly action: Action
  state: 'pending' | 'sent' | 'waitingRetry' | 'skipped' | 'succeeded' | 'failed' | 'timedOut' | 'cancelled' | 'unknown'
  attempt: number
  /** How often a person let it run once more: by a retry of the task, or by an answer. */
  again: number
  /** It was sent in this run of the task. */
  isBegun: boolean
  isUnchanged: boolean
  /** Attempts whose end their node told. */
  readonly told: Set<number>
  /** Attempts whose order was refused, with the code. */
  readonly refused: Map<number, string>
}

const failures: ReadonlySet<ModelAction['state']> = new Set(['failed', 'timedOut', 'cancelled'])

// What looks after unchanged actions may find that they have to run after all: then it fails, and they run.
const isDone = ({ state, action }: ModelAction): boolean => state === 'succeeded' || (action.verifies.length > 0 && !['pending', 'sent', 'waitingRetry'].includes(state))

/** See the file header. */
export class TaskModel {
  graph: ActionGraph | null = null
  readonly actions = new Map<ActionId, ModelAction>()
  readonly approved = new Set<ActionId>()
  state: 'accepted' | 'running' | 'paused' | 'cancelling' | 'ended' = 'accepted'

  /** Takes the graph that was stored. */
  plan(graph: ActionGraph): void {
    this.graph = graph
    for (const action of graph.actions) {
      const known = this.actions.get(action.id)
      this.actions.set(action.id, known === undefined ? { action, state: 'pending', attempt: 0, again: 0, isBegun: false, isUnchanged: false, told: new Set(), refused: new Map() } : { ...known, action })
    }
  }

  /** Takes one event. */
  apply({ event }: RecordedEvent): void {
    switch (event.type) {
      case 'taskPlanned':
        if (this.state === 'accepted') this.state = 'running'
        return
      case 'pauseRequested':
        this.state = 'paused'
        return
      case 'resumeRequested':
        this.state = this.graph === null ? 'accepted' : 'running'
        return
      case 'cancelRequested':
      case 'taskLimitReached':
        this.state = 'cancelling'
        return
      case 'taskEnded':
        this.state = 'ended'
        return
      case 'gateApproved':
        this.approved.add(event.gate)
        return
      case 'retryRequested':
        return this.#retry(event)
      case 'actionSent':
      case 'actionEnded':
      case 'actionRetryPlanned':
      case 'actionSkipped':
      case 'actionUnchanged':
      case 'actionSettled':
      case 'actionRunAgain':
        return this.#applyToAction(event)
      default:
    }
  }

  /** What keeps the action, or a gate, from starting; undefined when nothing does. */
  blockerOf(after: readonly ActionId[]): string | undefined {
    for (const id of after) {
      const before = this.actions.get(id)
      if (before !== undefined ? !isDone(before) : !this.#isOpen(id)) return `${id} is ${before?.state ?? 'a gate that is not open'}`
    }
    return undefined
  }

  /** Actions that failed for good, or are not known to. */
  countFailures(group?: string): number {
    return [...this.actions.values()].filter((one) => failures.has(one.state) && one.action.verifies.length === 0 && (group === undefined || one.action.group === group)).length
  }

  /** Nodes with live attempts, of all or of one group. */
  busyNodes(group?: string): Map<string, number> {
    const busy = new Map<string, number>()
    for (const { action, state } of this.actions.values()) if (state === 'sent' && (group === undefined || action.group === group)) busy.set(action.node, (busy.get(action.node) ?? 0) + 1)
    return busy
  }

  /** Nothing that comes right after the gate was ever sent: nobody needed the approval. */
  #isIdle(gate: ActionId): boolean {
    return [...this.actions.values()].every(({ action, attempt }) => attempt === 0 || !action.after.includes(gate))
  }

  /** `isBehind`: asked for what comes after another gate. One that asks for approval may have opened because nothing after it changes: then nothing right after it is sent. */
  #isOpen(id: ActionId, isBehind = false): boolean {
    const gate = this.graph?.gates.find((one) => one.id === id)
    if (gate === undefined || (gate.approve && !this.approved.has(id) && !(isBehind && this.#isIdle(id)))) return false
    let failed = 0
    for (const before of gate.after) {
      const action = this.actions.get(before)
      if (action === undefined) {
        if (!this.#isOpen(before, true)) return false
      } else if (action.state === 'pending' || action.state === 'sent' || action.state === 'waitingRetry' || action.state === 'unknown') return false
      else if (failures.has(action.state) && action.action.verifies.length === 0) failed += 1
    }
    return failed <= gate.maxFailures
  }

  #retry({ nodes }: Extract<TaskEvent, { type: 'retryRequested' }>): void {
    this.state = this.graph === null ? 'accepted' : 'running'
    for (const one of this.actions.values()) {
      if (one.state === 'succeeded' || (nodes !== undefined && !nodes.includes(one.action.node))) continue
      Object.assign(one, { state: 'pending', isBegun: false })
      one.again += 1
    }
  }

  #applyToAction(event: Extract<TaskEvent, { action: ActionId }>): void {
    const one = this.actions.get(event.action)
    if (one === undefined) return
    if ('attempt' in event) one.attempt = event.attempt
    if (event.type === 'actionSent') Object.assign(one, { state: 'sent', isBegun: true })
    else if (event.type === 'actionEnded') {
      one.state = event.result.outcome
      if (event.result.commands.length > 0) one.told.add(event.attempt)
      if (event.result.failure?.code.startsWith('ORDER_')) one.refused.set(event.attempt, event.result.failure.code)
    }
    else if (event.type === 'actionRetryPlanned') one.state = 'waitingRetry'
    else if (event.type === 'actionSkipped') one.state = 'skipped'
    else if (event.type === 'actionSettled') one.state = event.as
    else if (event.type === 'actionUnchanged') Object.assign(one, { state: 'succeeded', isUnchanged: true })
    else {
      one.state = 'pending'
      one.again += 1
    }
  }
}
