import { type Action, actionId, answerRequest, buildTaskView, type CommandResult, type Gate, nextWakeup, nodeId, type NodeReach, type Outcome, rebaseGraph, summarizeTask, taskId, type TaskRequest, waitingFor } from '@lichen/core'
import t from 'tap'
import { makeAction, makeGate, makeGraph, makeLimits, makeRandom, startTask, worldWhere, type DrivenTask } from './task-fixture.js'

const outcomes: readonly Outcome[] = ['succeeded', 'succeeded', 'succeeded', 'succeeded', 'succeeded', 'failed', 'timedOut', 'unknown', 'cancelled']
const groups = ['east', 'west', 'south']

type Random = () => number
const pickFrom = <T>(random: Random, list: readonly T[]): T => list[Math.floor(random() * list.length)] as T
const below = (random: Random, limit: number): number => Math.floor(random() * limit)

/** Some actions are one in their blueprint, of which only so many may be begun at once: one of `one`, two of `two`. */
function findCohort(random: Random, index: number): Partial<Action> {
  const most = [1, 2][below(random, 5)]
  return most === undefined ? {} : { component: 'cohort', name: `${most === 1 ? 'one' : 'two'}${random() < 0.3 ? `:c${index}.r` : ''}`, maxParallel: most }
}

/** A graph in which anything may come after anything that stands before it: actions, gates, verifying actions. */
function makeRandomGraph(random: Random, nodes: readonly string[]) {
  const isGated = random() < 0.7
  const ids: string[] = []
  const actions: Action[] = []
  const gates: Gate[] = []
  const verified = new Map<string, string[]>()
  const count = below(random, 60)
  for (let index = 0; index < count; index++) {
    const after = [...new Set(ids.length === 0 ? [] : Array.from({ length: below(random, 4) }, () => pickFrom(random, ids)))].sort()
    if (isGated && random() < 0.2) {
      gates.push(makeGate(`g${index}`, after, { approve: random() < 0.3, maxFailures: below(random, 3) }))
      ids.push(`g${index}`)
      continue
    }
    const node = pickFrom(random, nodes)
    const id = `c${index}/i@${node}`
    const isUnchanged = random() < 0.25
    const check = isUnchanged && random() < 0.7 ? `verify/v@${node}` : null
    if (check !== null) verified.set(check, [...(verified.get(check) ?? []), id])
    actions.push(makeAction(id, check === null ? after : [...after, check], {
      group: pickFrom(random, groups), mode: random() < 0.1 ? 'check' : 'do', limitMs: random() < 0.2 ? 1 + below(random, 20_000) : null,
      retry: { attempts: 1 + below(random, 3), backoffMs: below(random, 5_000) },
      ...findCohort(random, index),
      unchanged: isUnchanged ? { since: taskId('t-1'), outputs: {}, check: check === null ? null : actionId(check) } : null,
    }))
    ids.push(id)
  }
  for (const [id, list] of verified) actions.push(makeAction(id, [], { mode: 'check', verifies: list.map((action) => ({ action: actionId(action), commands: 1 })) }))
  const rollout = {
    maxParallelNodes: 1 + below(random, 6), maxFailures: random() < 0.2 ? null : below(random, 6),
    groups: Object.fromEntries(groups.filter(() => random() < 0.4).map((name) => [name, { maxFailures: random() < 0.5 ? null : below(random, 3), maxParallelNodes: random() < 0.5 ? null : 1 + below(random, 3) }])),
  }
  const limits = { queuedMs: random() < 0.3 ? 30_000 + below(random, 60_000) : null, taskMs: random() < 0.1 ? 50_000 + below(random, 200_000) : null }
  return makeGraph(actions, rollout, { gates, limits })
}

/** Whether the newest run has sent the action and not settled it: by its state, not by the index. A question that a run leaves open ends with it, and nobody is asked whether a look had its effect. */
function isInTheMiddle({ view }: DrivenTask, { id, mode }: Action): boolean {
  const { state, begunAt, sentAt } = view.actions.get(id)!
  if (state === 'sent') return true
  if (begunAt === null || sentAt === null || sentAt < view.runSince || view.state === 'ended' || view.state === 'cancelling') return false
  return state === 'waitingRetry' || (state === 'unknown' && mode === 'do')
}

/** What has to hold in every state. */
function findProblems(task: DrivenTask, limits: ReturnType<typeof makeLimits>): string[] {
  const problems: string[] = []
  const { view } = task
  const { rollout } = task.graph
  const states = new Map<string, number>()
  const busy = new Set<string>()
  const perNode = new Map<string, number>()
  const perGroup = new Map<string, Set<string>>()
  const perCohort = new Map<string, number>()
  for (const { action, view: { state } } of view.index.vertices) {
    states.set(state, (states.get(state) ?? 0) + 1)
    const name = action.name.split(':')[0]!
    if (action.maxParallel !== undefined && isInTheMiddle(task, action)) perCohort.set(name, (perCohort.get(name) ?? 0) + 1)
    if (state !== 'sent') continue
    busy.add(action.node)
    perNode.set(action.node, (perNode.get(action.node) ?? 0) + 1)
    perGroup.set(action.group, (perGroup.get(action.group) ?? new Set()).add(action.node))
  }
  if (busy.size > rollout.maxParallelNodes) problems.push(`${busy.size} nodes were busy`)
  for (const [node, count] of perNode) if (count > limits.actionsPerNode) problems.push(`${node} had ${count} live actions`)
  for (const [group, nodes] of perGroup) if (nodes.size > (rollout.groups[group]?.maxParallelNodes ?? Number.POSITIVE_INFINITY)) problems.push(`group ${group} had ${nodes.size} busy nodes`)
  for (const [name, count] of perCohort) if (count > (name === 'one' ? 1 : 2)) problems.push(`${count} of cohort ${name} were begun and not ended`)
  for (const [state, count] of Object.entries(view.counts)) if (count !== (states.get(state) ?? 0)) problems.push(`${state} is counted as ${count}, and there are ${states.get(state) ?? 0}`)
  if (view.unchanged !== [...view.actions.values()].filter(({ isUnchanged }) => isUnchanged).length) problems.push('unchanged is miscounted')
  for (const { gate, view: { state, approvedBy } } of view.index.gates.values()) if (state === 'open' && gate.approve && approvedBy === null) problems.push(`${gate.id} is open and nobody approved it`)
  return problems
}

/** Everything that an action that is sent needs: by the truth of what happened, not by the index. */
function findUnmet(task: DrivenTask, action: Action): string[] {
  const { view } = task
  return action.after.filter((before) => {
    const gate = view.gates.get(before)
    if (gate) return gate.state !== 'open'
    const { state } = view.actions.get(before)!
    const isLook = (view.index.byId.get(before)?.action.verifies.length ?? 0) > 0
    return isLook ? state === 'pending' || state === 'sent' || state === 'waitingRetry' : state !== 'succeeded'
  })
}

/** Actions that came before an open gate without tolerance and did not succeed. */
function findSlipped(task: DrivenTask): string[] {
  const { view } = task
  return task.graph.gates.filter((gate) => gate.maxFailures === 0 && view.gates.get(gate.id)?.state === 'open').flatMap((gate) =>
    gate.after.filter((before) => view.actions.has(before) && (view.index.byId.get(before)?.action.verifies.length ?? 0) === 0 && view.actions.get(before)?.state !== 'succeeded').map((before) => `${gate.id} is open although ${before} is ${view.actions.get(before)?.state}`),
  )
}

function askSomething(task: DrivenTask, random: Random): void {
  const { view } = task
  const by = 'test'
  const unknown = [...view.actions.values()].filter(({ state }) => state === 'unknown')
  const gates = [...view.gates.values()].filter(({ state }) => state === 'waiting')
  const requests: TaskRequest[] = [
    { type: 'pause', by, reason: '' }, { type: 'resume', by }, { type: 'resume', by },
    ...(random() < 0.02 ? [{ type: 'cancel', by, reason: '' } as const] : []),
    ...gates.map(({ id }) => ({ type: 'approve', by, gate: id, reason: '' }) as const),
    ...unknown.map(({ id }) => ({ type: 'settle', by, action: id, answer: pickFrom(random, ['succeeded', 'failed', 'runAgain'] as const), reason: '' }) as const),
  ]
  const answer = answerRequest(view, pickFrom(random, requests))
  if (answer.ok && answer.event !== null) task.record(answer.event)
}

/** A retry: of all, of some nodes, or with other commands of what did not succeed. False when it is refused. */
function tryAgain(task: DrivenTask, random: Random, nodes: readonly string[], run: number): boolean {
  const wanted = random() < 0.4 ? nodes.filter(() => random() < 0.5).map(nodeId) : []
  const isChanged = random() < 0.4
  const changed = { ...task.graph, actions: task.graph.actions.map((action) => (task.view.actions.get(action.id)?.state === 'succeeded' ? action : { ...action, key: `run ${run} ${action.id}`, retry: { attempts: 1 + below(random, 3), backoffMs: 10 } })) }
  const graph = isChanged ? rebaseGraph(task.graph, changed) : task.graph
  const answer = answerRequest(task.view, { type: 'retry', by: 'test', ...(wanted.length > 0 && { nodes: wanted }), ...(isChanged && { graph }) })
  if (!answer.ok || answer.event === null) return false
  task.graph = graph
  task.record(answer.event)
  return true
}

const look = (changed: boolean): CommandResult => ({ name: 'look', kind: 'note', outcome: 'succeeded', changed, durationMs: 1 })

function endSomething(task: DrivenTask, random: Random): void {
  const live = task.view.index.vertices.filter(({ view }) => view.state === 'sent')
  if (live.length === 0) return
  const { action } = pickFrom(random, live)
  task.end(action.id, pickFrom(random, outcomes), { changed: random() < 0.3, commands: action.verifies.slice(0, below(random, action.verifies.length + 2)).map(() => look(random() < 0.2)) })
}

function runSeed(seed: number) {
  const random = makeRandom(seed)
  const nodes = Array.from({ length: 1 + below(random, 6) }, (_, index) => `n${index}`)
  const limits = makeLimits({ actionsPerNode: 1 + below(random, 3), decisionsAtOnce: 1 + below(random, 20), nodeWaitMs: 60_000, beginWithinMs: 10_000 })
  const task = startTask(makeRandomGraph(random, nodes))
  const problems: string[] = []
  let runs = 1
  for (let steps = 0; ; steps++) {
    if (steps > 20_000) return { task, problems: [...problems, `the task did not end: ${JSON.stringify(waitingFor(task.view, null, { nodes: new Map(), now: task.now, limits }))}`] }
    if (task.view.state === 'ended' && (runs++ > 3 || random() < 0.3 || !tryAgain(task, random, nodes, runs))) return { task, problems }
    const reaches = Object.fromEntries(nodes.filter(() => random() < 0.2).map((node): [string, NodeReach] => [node, { state: pickFrom(random, ['lost', 'lost', 'cordoned']), since: task.now - below(random, 80_000) }]))
    const before = task.view.state
    const mark = task.events.length
    for (const effect of task.settle(worldWhere(reaches), limits)) {
      if (effect.type === 'cancel') continue
      problems.push(...findUnmet(task, effect.action).map((id) => `${effect.action.id} was sent before ${id} was done`))
      if (reaches[effect.action.node]) problems.push(`${effect.action.id} was sent to a node that is ${reaches[effect.action.node]?.state}`)
      if (before !== 'running') problems.push(`${effect.action.id} was sent while the task was ${before}`)
    }
    if (before === 'paused' && task.view.state === 'paused') for (const { event } of task.events.slice(mark)) if (event.type === 'actionSkipped' || event.type === 'actionUnchanged') problems.push(`${event.type} while paused`)
    problems.push(...findProblems(task, limits), ...findSlipped(task))
    if (steps % 7 === 0) for (const id of [...task.view.actions.keys(), ...task.view.gates.keys()]) if (waitingFor(task.view, id, { nodes: new Map(), now: task.now })?.reason === '') problems.push(`${id} waits without a reason`)
    if (task.view.state !== 'ended' && random() < 0.1) askSomething(task, random)
    if (random() < 0.8) endSomething(task, random)
    else task.now = Math.max(task.now + 1, nextWakeup(task.view, worldWhere(reaches), task.now, limits) ?? 0)
    task.now += below(random, 500)
  }
}

t.test('random tasks with random outcomes, answers, pauses and retries always end, within their limits, and replay to the same state', async (t) => {
  const seen = new Set<string>()
  for (let seed = 1; seed <= 400; seed++) {
    const { task, problems } = runSeed(seed)
    if (problems.length > 0) t.fail(`seed ${seed}: ${problems.slice(0, 3).join('; ')}`)
    const { counts, outcome, index } = task.view
    seen.add(String(outcome))
    for (const { event } of task.events) seen.add(event.type)
    if (counts.pending + counts.sent + counts.waitingRetry > 0) t.fail(`seed ${seed}: ended with open actions`)
    const lacking = index.vertices.filter(({ action, view }) => view.state !== 'succeeded' && action.verifies.length === 0)
    if ((outcome === 'succeeded') !== (lacking.length === 0)) t.fail(`seed ${seed}: ${outcome} with ${JSON.stringify(counts)}`)
    const replayed = buildTaskView(task.events, task.graph)
    if (!t.strictSame(summarizeTask(replayed), summarizeTask(task.view), `seed ${seed}: replay`)) return
    t.strictSame([...replayed.actions.values()], [...task.view.actions.values()], `seed ${seed}: actions`)
    t.strictSame([...replayed.gates.values()], [...task.view.gates.values()], `seed ${seed}: gates`)
  }
  for (const wanted of ['cancelled', 'failed', 'succeeded', 'timedOut', 'gateApproved', 'actionSettled', 'actionRunAgain', 'actionUnchanged', 'pauseRequested', 'resumeRequested', 'taskLimitReached', 'retryRequested']) t.ok(seen.has(wanted), `${wanted} was seen`)
})
