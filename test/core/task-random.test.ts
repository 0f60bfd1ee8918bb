import { buildTaskView, nextWakeup, summarizeTask, type Outcome } from '@lichen/core'
import t from 'tap'
import { makeAction, makeGraph, makeLimits, makeRandom, startTask, worldWhere } from './task-fixture.js'

const outcomes: readonly Outcome[] = ['succeeded', 'succeeded', 'succeeded', 'succeeded', 'failed', 'timedOut', 'unknown', 'cancelled']

function runSeed(seed: number) {
  const random = makeRandom(seed)
  const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)] as T
  const nodes = Array.from({ length: 1 + Math.floor(random() * 6) }, (_, index) => `n${index}`)
  const ids: string[] = []
  const actions = Array.from({ length: Math.floor(random() * 60) }, (_, index) => {
    const after = [...new Set(ids.length === 0 ? [] : Array.from({ length: Math.floor(random() * 4) }, () => pick(ids)))].sort()
    const id = `c${index}/i@${pick(nodes)}`
    ids.push(id)
    return makeAction(id, after, { retry: { attempts: 1 + Math.floor(random() * 3), backoffMs: Math.floor(random() * 5_000) } })
  })
  const limits = makeLimits({ actionsPerNode: 1 + Math.floor(random() * 3), decisionsAtOnce: 1 + Math.floor(random() * 20), nodeWaitMs: 60_000 })
  const maxParallelNodes = 1 + Math.floor(random() * 6)
  const maxFailures = Math.floor(random() * 4)
  const task = startTask(makeGraph(actions, { maxParallelNodes, maxFailures }))
  const live = new Map<string, { id: string; node: string }>()
  const problems: string[] = []
  let steps = 0
  let retried = false

  while (task.view.state !== 'ended' || !retried) {
    if (++steps > 20_000) return { task, problems: [...problems, 'the task did not end'] }
    if (task.view.state === 'ended') {
      retried = true
      if (random() < 0.5) break
      task.record({ type: 'retryRequested', by: 'test' })
    }
    const reaches = Object.fromEntries(nodes.filter(() => random() < 0.2).map((node) => [node, { state: 'lost' as const, since: task.now - Math.floor(random() * 80_000) }]))
    for (const effect of task.settle(worldWhere(reaches), limits)) {
      if (effect.type === 'cancel') continue
      const { action } = effect
      live.set(action.id, { id: action.id, node: action.node })
      for (const before of action.after) if (task.view.actions.get(before)?.state !== 'succeeded') problems.push(`${action.id} was sent before ${before} succeeded`)
      if (reaches[action.node]) problems.push(`${action.id} was sent to the lost node ${action.node}`)
    }
    for (const id of [...live.keys()]) if (task.view.actions.get(id as never)?.state !== 'sent') live.delete(id)
    const perNode = new Map<string, number>()
    for (const { node } of live.values()) perNode.set(node, (perNode.get(node) ?? 0) + 1)
    if (perNode.size > maxParallelNodes) problems.push(`${perNode.size} nodes were busy`)
    for (const [node, count] of perNode) if (count > limits.actionsPerNode) problems.push(`${node} had ${count} live actions`)
    const counted = Object.values(task.view.counts).reduce((sum, count) => sum + count, 0)
    if (counted !== actions.length) problems.push(`the counts add up to ${counted}`)

    if (live.size > 0 && random() < 0.9) {
      const { id } = pick([...live.values()])
      task.end(id, pick(outcomes))
      live.delete(id)
    } else task.now = Math.max(task.now + 1, nextWakeup(task.view, worldWhere(reaches), task.now, limits) ?? 0)
    if (random() < 0.005 && task.view.state === 'running') task.record({ type: 'cancelRequested', by: 'test', reason: '' })
    task.now += Math.floor(random() * 500)
  }
  return { task, problems }
}

t.test('random tasks with random outcomes always end, within their limits, and replay to the same state', async (t) => {
  const outcomesSeen = new Set<string>()
  for (let seed = 1; seed <= 400; seed++) {
    const { task, problems } = runSeed(seed)
    if (problems.length > 0) t.fail(`seed ${seed}: ${problems.slice(0, 3).join('; ')}`)
    const { counts, outcome } = task.view
    outcomesSeen.add(String(outcome))
    if (counts.pending + counts.sent + counts.waitingRetry > 0) t.fail(`seed ${seed}: ended with open actions`)
    if ((outcome === 'succeeded') !== (counts.succeeded === task.graph.actions.length)) t.fail(`seed ${seed}: ${outcome} with ${JSON.stringify(counts)}`)
    const replayed = buildTaskView(task.events, task.graph)
    if (!t.strictSame(summarizeTask(replayed), summarizeTask(task.view), `seed ${seed}: replay`)) return
    t.strictSame([...replayed.actions.values()], [...task.view.actions.values()], `seed ${seed}: actions`)
  }
  t.strictSame([...outcomesSeen].sort(), ['cancelled', 'failed', 'succeeded'], 'every outcome was seen')
})
