/**
 * Child program: what the drivers of many tasks write, without what they do besides. Each task appends, one append after the other, the ends of `together` attempts, the intents of those that
 * come next, and its row with the counts, under a lease as an engine holds it. argv: URL of the store, tasks, together, seconds. Prints `{perSecond}`: ends made durable each second.
 */
import { randomUUID } from 'node:crypto'
import { type ActionId, actionId, type ActionGraph, nodeId, type TaskEvent, type TaskId, taskId } from '@lichen/core'
import { openStore } from '@lichen/store'

const [url, taskCount, perAppend, duration] = process.argv.slice(2) as [string, string, string, string]
const quiet = { debug: () => undefined, info: () => undefined, warn: console.error, error: console.error }
const store = await openStore(url, quiet)
const engine = { name: 'bench', instance: randomUUID() }
const together = Number(perAppend)
const nodes = 500
const warmUpMs = 1_000

const graph: ActionGraph = {
  kind: 'apply', project: 'default', deployment: 'bench', actions: [], gates: [], secrets: [], placement: {}, rollout: { maxParallelNodes: 10_000, maxFailures: 0, groups: {} },
  limits: { queuedMs: null, taskMs: null }, digest: 'd'.repeat(64),
}

const sent = (action: ActionId, node: string, epoch: number): TaskEvent => ({ type: 'actionSent', action, attempt: 1, node: nodeId(node), epoch, timeoutMs: 600_000, deadline: Date.now() + 900_000 })
const ended = (action: ActionId, at: number): TaskEvent => ({
  type: 'actionEnded', action, attempt: 1,
  result: { outcome: 'succeeded', changed: true, commands: [{ name: 'Nothing', kind: 'note', outcome: 'succeeded', changed: true, durationMs: 0 }], outputs: {}, startedAt: at, endedAt: at },
})

let count = 0
let isOver = false

async function drive(task: TaskId): Promise<void> {
  const at = Date.now()
  await store.tasks.create({ id: task, kind: 'apply', project: 'default', deployment: task, plan: '{}', at, requestDigest: 'r', event: { type: 'taskAccepted', kind: 'apply', project: 'default', deployment: task, planDigest: 'p', by: 'bench' } })
  const lease = await store.tasks.claim(task, engine, at, 3_600_000)
  if (lease === undefined) throw new Error(`${task} could not be claimed`)
  const { epoch } = lease
  let seq = 1
  let next = 0
  let running: { readonly action: ActionId; readonly node: string }[] = []
  const begin = (): typeof running => Array.from({ length: together }, () => {
    const node = `node-${next % nodes}`
    return { action: actionId(`c${Math.floor(next++ / nodes)}/run@${node}`), node }
  })
  async function append(events: readonly TaskEvent[], more = {}): Promise<void> {
    const summary = { state: 'running' as const, outcome: null, reason: '', counts: { waiting: 100_000 - next, sent: together, succeeded: next - together } }
    const [answer] = await store.tasks.append([{ task, expectedSeq: seq, epoch, events, at: Date.now(), summary, ...more }])
    if (answer !== 'appended') throw new Error(`${task}: ${answer}`)
    seq += events.length
  }
  running = begin()
  await append([{ type: 'taskClaimed', engine: engine.name, epoch }, { type: 'taskPlanned', graphDigest: graph.digest, actionCount: 0 }, ...running.map(({ action, node }) => sent(action, node, epoch))], { graph: { ...graph, deployment: task } })
  while (!isOver) {
    const now = Date.now()
    const following = begin()
    await append([...running.map(({ action }) => ended(action, now)), ...following.map(({ action, node }) => sent(action, node, epoch))])
    count += running.length
    running = following
  }
}

const driving = Array.from({ length: Number(taskCount) }, (_, index) => drive(taskId(`t-bench-${index}`)))
await new Promise((resolve) => setTimeout(resolve, warmUpMs))
const countBefore = count
const start = performance.now()
await Promise.race([Promise.all(driving), new Promise((resolve) => setTimeout(resolve, Number(duration) * 1000))])
const perSecond = ((count - countBefore) * 1000) / (performance.now() - start)
isOver = true
await Promise.all(driving)
await store.close()
console.log(JSON.stringify({ perSecond }))
