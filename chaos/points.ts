/**
 * The systematic pass: for every durable write that a program names, a small plan runs, the program dies by SIGKILL right before or right after that write, is started
 * again, and the checks of a run are made. A point that the plan does not come by is a failure too: then nothing was proved.
 */
import { copyFileSync, mkdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { durableWrites as agentWrites } from '@lichen/agent'
import { durableWrites as serverWrites } from '@lichen/server'
import type { ApiNode, Client, Task } from './api.js'
import { checks, type Evidence } from './checks.js'
import { findDefects, listOrphans, readTask } from './evidence.js'
import { type Execution, readLedger } from './ledger.js'
import { submitPlan, type Submission } from './load.js'
import type { Teardown } from './leftovers.js'
import type { Network } from './network.js'
import { startOperator } from './operator.js'
import { until } from './patience.js'
import { signalProcess } from './processes.js'
import { buildComponent, buildPlan, type PlannedTask } from './plans.js'
import { openSingleAgent, openSingleServer, queryFile, type SingleAgent, type SingleServer } from './single.js'
import type { Supervised } from './supervised.js'
import { effectScript } from './system.js'

export interface PointResult {
  /** `agent journal.intent:before`, `server store.append:after`, … */
  readonly point: string
  readonly problems: readonly string[]
}

export interface PointsOptions {
  readonly directory: string
  readonly network: Network
  /** Points whose name includes this text. */
  readonly only: string
  readonly parallel: number
  /** Both sides of each write; else one of them, by turns, as the seed says. */
  readonly hasBothSides: boolean
  readonly seed: number
  readonly teardown: Teardown
  readonly say: (line: string) => void
  readonly signal: AbortSignal
}

const sides = ['before', 'after'] as const
/** Between engines alone: the pass on the scaled-out system has them (cluster-points.ts). */
const isBetweenEngines = (write: string): boolean => write.startsWith('mailbox.')
/** Happens at the beginning of a server, or takes its node away. */
const needsOwnServer = (write: string): boolean => ['store.putSecretsIfAbsent', 'store.putApiToken', 'store.registerEngine', 'store.admitNode', 'store.deleteNode'].includes(write)
/** Happens when an engine takes over an order that is at its node already, so the server must die, too. */
const needsTakeOver = (write: string): boolean => write === 'journal.epoch'

/** What every point of the agent's and the server's names came to. */
export async function runPoints(options: PointsOptions): Promise<readonly PointResult[]> {
  const effects = join(options.directory, 'effects')
  mkdirSync(effects)
  copyFileSync(effectScript, join(effects, 'effect.sh'))
  const shared = openSingleServer(join(options.directory, 'shared'), options.network, 'shared')
  options.teardown(() => shared.process.stop())
  shared.process.start()
  const agentPoints = agentWrites.flatMap((write) => sides.map((side) => ({ name: `agent ${write}:${side}`, run: (node: string) => runAgentPoint({ ...options, effects }, node, `${write}:${side}`, needsTakeOver(write) ? undefined : shared) })))
  const serverPoints = serverWrites.filter((write) => !isBetweenEngines(write)).flatMap((write) => sides.map((side) => ({ name: `server ${write}:${side}`, run: (node: string, pair: Pair) => runServerPoint({ ...options, effects }, node, write, side, needsOwnServer(write) ? undefined : pair) })))
  const isChosen = (index: number): boolean => options.hasBothSides || (index % 2) === ((Math.floor(index / 2) + options.seed) % 2)
  const waiting = [...agentPoints, ...serverPoints].filter(({ name }, index) => name.includes(options.only) && isChosen(index)).map((point, index) => ({ ...point, node: `p${index + 1}` }))
  const results: PointResult[] = []
  await Promise.all(Array.from({ length: options.parallel }, async (_, index) => {
    const pair = openPair({ ...options, effects }, `w${index + 1}`)
    for (let point = waiting.shift(); point && !options.signal.aborted; point = waiting.shift()) {
      const problems = await point.run(point.node, pair).catch((error: unknown) => [error instanceof Error ? error.message : String(error)])
      results.push({ point: point.name, problems })
      options.say(`${problems.length === 0 ? 'ok    ' : 'BROKEN'} ${point.name}${problems.map((problem) => `\n          ${problem}`).join('')}`)
    }
  }))
  options.signal.throwIfAborted()
  return results
}

type Around = PointsOptions & { readonly effects: string }

/** How long anything here may take: everything is on one machine that does several of these at once. */
const patienceMs = 90_000

/** A checked effect, one that cannot be checked, then one that is checked by a file: each after the one before. */
function planFor(node: string, home: string, deployment = `of-${node}`): PlannedTask {
  const part = (name: string, mode: 'unless' | 'between' | 'creates', after: readonly string[], lines: number) => buildComponent({ deployment, name, mode, group: 'one', nodes: [node], home, after, seconds: 0.4, lines })
  const parts = [part('a', 'unless', [], 40), part('b', 'between', ['a'], 10), part('c', 'creates', ['b'], 40)]
  return { deployment, plan: buildPlan(deployment, [{ name: 'one', select: { node } }], parts.map(({ document }) => document)), components: parts.map(({ planned }) => planned) }
}

/** `since`: number of its ends before. */
const untilKilled = (process: Supervised, point: string, since = 0): Promise<boolean> => until(`${process.name} comes by ${point}`, patienceMs, () => process.ownEnds.slice(since).includes('SIGKILL')).catch(() => Promise.reject(new Error(`it never came by ${point}`)))

async function runAgentPoint(around: Around, node: string, point: string, shared: SingleServer | undefined): Promise<readonly string[]> {
  const { directory, effects, network, teardown } = around
  const server = shared ?? openSingleServer(join(directory, `${node}-server`), network, node)
  if (!shared) {
    teardown(() => server.process.stop())
    server.process.start()
  }
  const agent = await startAgent(around, server, node, { LICHEN_TEST_CRASH_AT: point })
  const submissions: Submission[] = []
  const settlements: Evidence['settlements'][number][] = []
  const isKilled = (): boolean => agent.process.ownEnds.includes('SIGKILL')
  for (let round = 1; round === 1 || !isKilled(); round++) {
    const ledgerLength = readLedger(node, join(effects, node)).executions.length
    const { submission, end } = runPlan(server, planFor(node, effects, round === 1 ? undefined : `of-${node}-${round}`), around)
    submissions.push(submission)
    if (!shared) await takeOver(server, agent, () => readLedger(node, join(effects, node)).executions[ledgerLength])
    if (shared || round === takeOverRounds) await untilKilled(agent.process, point)
    settlements.push(...(await end))
  }
  const problems = await findProblems(server, agent, node, submissions, settlements, around)
  await agent.process.stop()
  if (!shared) await server.process.stop()
  return problems
}

/** Whether the order comes again before the result is there is a matter of milliseconds; half of the times it does. */
const takeOverRounds = 12

/** The server dies while the first command of a plan runs. Its node is heard of again when that has ended and the task is taken once more: then the order may come a second time, under the new epoch. */
async function takeOver(server: SingleServer, agent: SingleAgent, findFirst: () => Execution | undefined): Promise<void> {
  await until('a command has begun', patienceMs, () => findFirst() !== undefined, 10)
  const taken = countTaken(server)
  await server.process.kill()
  const thaw = agent.process.freeze()
  await until('the command has ended', patienceMs, () => findFirst()?.endedAt !== undefined, 10)
  await until('the task is taken once more', patienceMs, () => countTaken(server) > taken)
  thaw()
}

/** How often its server took a task, by what it said. */
const countTaken = ({ process }: SingleServer): number => readFileSync(process.outputPath, 'utf8').split('"msg":"a task is taken"').length - 1

async function startAgent({ directory, effects, teardown }: Around, server: SingleServer, node: string, env: NodeJS.ProcessEnv): Promise<SingleAgent> {
  const { token } = await server.client.call<{ token: string }>('POST', '/v1/join-tokens', { uses: 1, ttlS: 3600 })
  const agent = openSingleAgent({ directory: join(directory, node), name: node, gateway: server.gateway, token, home: join(effects, node) })
  teardown(() => agent.process.stop())
  agent.process.start(env)
  await until(`${node} is registered`, patienceMs, async () => (await server.client.list<ApiNode>('/v1/nodes')).some(({ id }) => id === node))
  return agent
}

/** Submits the plan and sees it through to its end, with an operator at hand. */
function runPlan({ client }: SingleServer, planned: PlannedTask, { effects }: Around): { readonly submission: Submission; readonly end: Promise<Evidence['settlements']> } {
  const { submission, answered } = submitPlan(client, planned, false)
  const see = async (): Promise<Evidence['settlements']> => {
    await answered
    const operator = startOperator({ client, plannedOf: (deployment) => (deployment === planned.deployment ? planned : undefined), readLedger: (name) => readLedger(name, join(effects, name)), intervalMs: 300 })
    const [id] = submission.ids
    await until(`task ${id} has ended`, patienceMs, async () => id === undefined || (await client.call<Task>('GET', `/v1/tasks/${id}`)).state === 'ended').catch(() => undefined)
    await operator.stop()
    return operator.settlements
  }
  return { submission, end: see() }
}

interface Pair {
  readonly server: SingleServer
  /** With the server started, at the first call. */
  agent(): Promise<SingleAgent>
  readonly node: string
}

/** A server and its agent that serve one point after the other: most of the time of a point would go into starting new ones. */
function openPair(around: Around, node: string): Pair {
  const server = openSingleServer(join(around.directory, `${node}-server`), around.network, node)
  let agent: Promise<SingleAgent> | undefined
  const open = (): Promise<SingleAgent> => {
    around.teardown(() => server.process.stop())
    server.process.start()
    return startAgent(around, server, node, {})
  }
  return { server, node, agent: () => (agent ??= open()) }
}

async function runServerPoint(around: Around, name: string, write: string, side: 'before' | 'after', pair: Pair | undefined): Promise<readonly string[]> {
  const { directory, effects, network, teardown } = around
  const point = `${write}:${side}`
  const env = { LICHEN_TEST_CRASH_AT: point }
  const node = pair?.node ?? name
  const server = pair?.server ?? openSingleServer(join(directory, `${node}-server`), network, node)
  let since = 0
  let agent: SingleAgent
  if (pair) {
    agent = await pair.agent()
    since = server.process.ownEnds.length
    await server.process.restartWith(env)
  } else {
    teardown(() => server.process.stop())
    server.process.start(env)
    agent = await startAgent(around, server, node, {})
  }
  const { submission, end } = runPlan(server, planFor(node, effects, `of-${name}`), around)
  const settlements = await end
  await comeBy(server.client, write, node)
  const pid = server.process.pid()
  // Only an engine that is asked to stop takes its row away.
  if (write === 'store.removeEngine' && pid !== undefined) signalProcess(pid, 'SIGTERM')
  await untilKilled(server.process, point, since)
  const problems = await findProblems(server, agent, node, [submission], settlements, around)
  if (!pair) await Promise.all([agent.process.stop(), server.process.stop()])
  return problems
}

/** What a plan alone does not bring about. An answer that the crash swallowed is asked for again, as any client would. */
async function comeBy(client: Client, write: string, node: string): Promise<void> {
  if (write === 'store.putJoinToken') await client.call('POST', '/v1/join-tokens', { uses: 1, ttlS: 60 })
  if (write === 'store.setNode') await client.call('PATCH', `/v1/nodes/${node}`, { labels: { seen: 'yes' } })
  if (write === 'store.deleteJoinToken') {
    // The point before may have taken the last one.
    await client.call('POST', '/v1/join-tokens', { uses: 1, ttlS: 60 })
    for (const { id } of (await client.list<{ id: string }>('/v1/join-tokens')).slice(0, 1)) await client.call('DELETE', `/v1/join-tokens/${id}`).catch((error: { code?: number }) => (error.code === 404 ? undefined : Promise.reject(error as Error)))
  }
  if (write === 'store.deleteNode') await client.call('DELETE', `/v1/nodes/${node}`).catch((error: { code?: number }) => (error.code === 404 ? undefined : Promise.reject(error as Error)))
}

/** Checks that say something of one plan: that most of many actions succeed is for runs. */
const isForOnePlan = ({ number }: { readonly number: number }): boolean => number !== 16

async function findProblems(server: SingleServer, agent: SingleAgent, node: string, submissions: readonly Submission[], settlements: Evidence['settlements'], { effects }: Around): Promise<readonly string[]> {
  const { client } = server
  const mine = new Set(submissions.map(({ planned: { deployment } }) => deployment))
  const isDeleted = (await client.list<ApiNode>('/v1/nodes')).every(({ id }) => id !== node)
  if (!isDeleted) await until(`${node} is ready`, patienceMs, async () => (await client.list<ApiNode>('/v1/nodes')).some(({ id, state }) => id === node && state === 'ready'))
  const allTasks = (await client.list<Task>('/v1/tasks?limit=200')).filter(({ deployment }) => mine.has(deployment))
  const tasks = await Promise.all(allTasks.map((task) => readTask(client, task, submissions.find(({ planned }) => planned.deployment === task.deployment)!.planned)))
  const ids = allTasks.map(({ id }) => `'${id}'`).join(', ')
  const count = async (sql: string): Promise<number> => (await queryFile<{ count: number }>(server.databasePath, sql))[0]!.count
  const outboxRows = await until('the outbox is empty', 5_000, async () => (await count(`SELECT count(*) AS count FROM outbox WHERE task IN (${ids})`)) === 0).then(() => 0, () => 1)
  // The supervisor of the last command may still be on its way out.
  const listLeft = (): string[] => listOrphans(node, dirname(agent.process.outputPath), agent.process.pid())
  await until('no process is left', 5_000, () => listLeft().length === 0).catch(() => undefined)
  // A server that died right before it gave a lease back holds it for the rest of its three seconds. One that is held after that is being renewed.
  const listHeld = (): Promise<Evidence['heldLeases']> => queryFile(server.databasePath, `SELECT id AS task, lease_owner AS owner FROM tasks WHERE id IN (${ids}) AND state = 'ended' AND lease_owner IS NOT NULL AND lease_until > ${Date.now()}`)
  const heldLeases = await until('no lease is held', 5_000, async () => (await listHeld()).length === 0).then(() => [], listHeld)
  const evidence: Evidence = {
    submissions, allTasks, tasks, settlements, outboxRows,
    ledgers: new Map([[node, readLedger(node, join(effects, node))]]),
    nodes: (await client.list<ApiNode>('/v1/nodes')).filter(({ id }) => id === node), expectedNodes: isDeleted ? [] : [node],
    deadLetters: (await client.call<{ items: Evidence['deadLetters'] }>('GET', '/v1/dead-letters')).items,
    heldLeases,
    orphans: listLeft(),
    wrongAnswers: client.wrongAnswers,
    defects: [server.process, agent.process].flatMap(({ name, outputPath }) => findDefects(name, readFileSync(outputPath, 'utf8'))),
  }
  const unsettled = tasks.filter(({ task, actions }) => task.outcome !== 'succeeded' && !settlements.some(({ answer }) => answer === 'failed') && actions.length > 0)
  return [
    ...checks.filter(isForOnePlan).flatMap(({ number, name, find }) => find(evidence).map((problem) => `check ${number} (${name}): ${problem}`)),
    // One crash and nothing else: nothing but an outcome that nobody can tell excuses a plan that does not succeed.
    ...unsettled.map(({ task }) => `${task.id} ended ${task.outcome}: ${task.reason}`),
  ]
}
