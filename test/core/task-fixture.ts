import { actionId, applyEvent, buildTaskView, decide, defaultTaskLimits, nodeId, type Action, type ActionGraph, type AttemptResult, type Decision, type Gate, type NodeReach, type Outcome, type RecordedEvent, type TaskEvent, type TaskLimits, type TrackedTask, type World } from '@lichen/core'

export const makeAction = (id: string, after: readonly string[] = [], extra: Partial<Action> = {}): Action => ({
  id: actionId(id),
  component: id.split('/')[0] ?? id,
  name: 'install',
  node: nodeId(id.split('@')[1] ?? 'n1'),
  group: 'all',
  mode: 'do',
  after: after.map(actionId),
  commands: [{ name: 'say', kind: 'run', timeoutMs: 1_000, spec: { argv: ['say', id], uncheckable: true } }],
  timeoutMs: 1_000,
  limitMs: null,
  retry: { attempts: 1, backoffMs: 0 },
  key: `key of ${id}`,
  unchanged: null,
  verifies: [],
  ...extra,
})

export const makeGate = (id: string, after: readonly string[] = [], extra: Partial<Gate> = {}): Gate => ({
  id: actionId(id), component: id.split('/')[0] ?? id, after: after.map(actionId), approve: false, maxFailures: 0, meaning: `gate ${id}`, ...extra,
})

export const makeGraph = (actions: readonly Action[], rollout: Partial<ActionGraph['rollout']> = {}, extra: Partial<ActionGraph> = {}): ActionGraph => ({
  kind: 'apply', project: 'default', deployment: 'd', actions, gates: [], secrets: [], placement: {}, rollout: { maxParallelNodes: 50, maxFailures: 0, groups: {}, ...rollout },
  limits: { queuedMs: null, taskMs: null }, digest: 'digest', ...extra,
})

export const makeResult = (outcome: Outcome, extra: Partial<AttemptResult> = {}): AttemptResult => ({
  outcome, changed: false, commands: [], outputs: {}, startedAt: 0, endedAt: 0,
  ...(outcome === 'succeeded' ? {} : { failure: { code: 'COMMAND_FAILED', message: 'exit code 1', command: 'say' } }), ...extra,
})

export const makeLimits = (limits: Partial<TaskLimits> = {}): TaskLimits => ({ ...defaultTaskLimits, ...limits })

export const allReady: World = { reachOf: () => ({ state: 'ready', since: 0 }) }
export const worldWhere = (reaches: Record<string, NodeReach>): World => ({ reachOf: (node) => reaches[node] ?? { state: 'ready', since: 0 } })

/** A task driven by hand: keeps the events it recorded, as a store would. */
export interface DrivenTask {
  readonly view: TrackedTask
  readonly events: RecordedEvent[]
  graph: ActionGraph
  now: number
  record(event: TaskEvent): void
  /** Decides until nothing more is recorded, the way the engine does, and gives back what was to be sent and cancelled. */
  settle(world?: World, limits?: TaskLimits): Exclude<Decision, { type: 'record' }>[]
  /** Records the result of the live attempt. */
  end(action: string, outcome: Outcome, extra?: Partial<AttemptResult>): void
}

/** A planned task at time 1000, seq 3. */
export function startTask(graph: ActionGraph, accepted: Partial<Extract<TaskEvent, { type: 'taskAccepted' }>> = {}): DrivenTask {
  const first: RecordedEvent = { seq: 1, at: 1_000, event: { type: 'taskAccepted', kind: graph.kind, project: graph.project, deployment: graph.deployment, planDigest: 'p', by: 'me', ...accepted } }
  const events = [first]
  const view = buildTaskView(events, null)
  const task: DrivenTask = {
    view, events, graph, now: 1_000,
    record(event) {
      const recorded = { seq: view.seq + 1, at: task.now, event }
      applyEvent(view, recorded, task.graph)
      events.push(recorded)
    },
    settle(world = allReady, limits = makeLimits()) {
      const effects: Exclude<Decision, { type: 'record' }>[] = []
      for (;;) {
        const decisions = decide(view, world, task.now, limits)
        let recorded = 0
        for (const decision of decisions) {
          if (decision.type === 'record') task.record(decision.event)
          else effects.push(decision)
          if (decision.type === 'send') task.record({ type: 'actionSent', action: decision.action.id, attempt: decision.attempt, node: decision.action.node, epoch: view.epoch, timeoutMs: decision.timeoutMs, deadline: decision.deadline })
          if (decision.type !== 'cancel') recorded += 1
        }
        if (recorded === 0) return effects
      }
    },
    end(action, outcome, extra = {}) {
      const attempt = view.actions.get(actionId(action))?.attempt ?? 0
      task.record({ type: 'actionEnded', action: actionId(action), attempt, result: makeResult(outcome, extra) })
    },
  }
  task.record({ type: 'taskClaimed', engine: 'e1', epoch: 1 })
  task.record({ type: 'taskPlanned', graphDigest: graph.digest, actionCount: graph.actions.length })
  return task
}

export const stateOf = (task: DrivenTask, action: string): string => task.view.actions.get(actionId(action))?.state ?? 'no such action'

/** Numbers below 1 that are the same for the same seed (mulberry32). */
export function makeRandom(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
}
