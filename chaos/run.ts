/**
 * One run: starts everything, lets clients submit while the storm goes, mends everything, waits for the tasks to end, checks. This file is its story.
 *
 * 1. Whatever happens, processes, mounts and networks are gone when `runChaos` settles; after SIGKILL the next run clears up (leftovers.ts).
 * 2. Files stay only when something is wrong.
 */
import { closeSync, openSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { runChecks, type CheckResult, type Evidence } from './checks.js'
import { runClusterPoints } from './cluster-points.js'
import { gatherEvidence } from './evidence.js'
import { listFaults, type Fault } from './faults.js'
import { labCacheDirectory, withRunDirectory, type RunDirectory, type Teardown } from './leftovers.js'
import { readLedger } from './ledger.js'
import { openLoad } from './load.js'
import { openNetwork } from './network.js'
import { startMachine } from './machine.js'
import { startOperator } from './operator.js'
import { pause, until } from './patience.js'
import type { NodeSet } from './plans.js'
import type { PointResult } from './points.js'
import { openRandom } from './random.js'
import { runStorm, type Toll } from './storm.js'
import { startSystem, type System } from './system.js'

export interface ChaosOptions {
  readonly seed: number
  readonly kills: number
  readonly agents: number
  /** Kills API and engine at each of their durable writes first; else only at messages between engines. */
  readonly hasAllPoints: boolean
  /** One systemd-nspawn machine beside the namespaces; needs root. */
  readonly hasMachine: boolean
  /** No shorter than this, even when all kills are done. */
  readonly atLeastMs: number
  readonly paceMs: number
  readonly submitEveryMs: number
  readonly say: (line: string) => void
  readonly signal: AbortSignal
}

export interface ChaosResult {
  readonly toll: Toll
  readonly faults: readonly Fault[]
  readonly evidence: Evidence
  readonly results: readonly CheckResult[]
  readonly points: readonly PointResult[]
  /** Where all files of the run are; undefined when everything held and they are gone. */
  readonly keptDirectory: string | undefined
  readonly isCuttable: boolean
}

/** How long tasks may take to end after the last fault: the longest plan is four commands of eight seconds after each other, retries and lost nodes come on top. */
const endPatienceMs = 180_000

/** What the run came to. @throws when the system could not be started or mended; the message says where its files are */
export const runChaos = (options: ChaosOptions): Promise<ChaosResult> =>
  withRunDirectory(options.signal, async (run, teardown) => {
    const played = await play(options, run, teardown)
    const isKept = [...played.results, ...played.points].some(({ problems }) => problems.length > 0)
    if (isKept) writeReport(join(run.path, 'report.ndjson'), options.seed, played)
    return { value: { ...played, keptDirectory: isKept ? run.path : undefined }, isKept }
  })

/** A JSON document on each line: what was wrong, then the evidence, each task by itself: all of it is more than one text may hold. */
function writeReport(path: string, seed: number, { results, points, evidence }: Omit<ChaosResult, 'keptDirectory'>): void {
  const { tasks, ledgers, ...rest } = evidence
  const file = openSync(path, 'w')
  const write = (value: unknown): void => void writeSync(file, `${JSON.stringify(value)}\n`)
  write({ seed, results: results.filter(({ problems }) => problems.length > 0), points: points.filter(({ problems }) => problems.length > 0) })
  write(rest)
  for (const ledger of ledgers.values()) write(ledger)
  for (const task of tasks) write(task)
  closeSync(file)
}

async function play(options: ChaosOptions, { path: directory, id }: RunDirectory, teardown: Teardown): Promise<Omit<ChaosResult, 'keptDirectory'>> {
  const { seed, say, signal } = options
  const startedAt = Date.now()
  const tell = (line: string): void => say(`${((Date.now() - startedAt) / 1000).toFixed(1).padStart(6)}  ${line}`)
  const network = openNetwork(id)
  const system = await startSystem({ directory, network, agentCount: options.agents, teardown, say: tell })
  const machine = options.hasMachine ? await startMachine({ directory, cacheDirectory: labCacheDirectory, system, teardown, say: tell }) : undefined
  const names = [...system.agents.map(({ place }) => place.name), ...(machine?.set.nodes ?? [])]
  await system.untilReady(names, 90_000)
  const namespaced: NodeSet = { label: 'namespace', home: system.effectsDirectory, nodes: system.agents.map(({ place }) => place.name) }
  // One plan in three is for the machine alone.
  const sets: readonly NodeSet[] = machine ? [namespaced, namespaced, machine.set] : [namespaced]
  const ledgerOf = (node: string) => readLedger(node, machine?.set.nodes.includes(node) ? machine.home : join(system.effectsDirectory, node))

  const load = openLoad(system.client, openRandom(seed, 'plans'), sets)
  teardown(() => load.finish())
  const operator = startOperator({ client: system.client, plannedOf: (deployment) => load.submissions.find(({ planned }) => planned.deployment === deployment)?.planned, readLedger: ledgerOf, intervalMs: 2000 })
  teardown(() => operator.stop())
  const points = await runClusterPoints(system, load, options.hasAllPoints, tell, signal)
  load.start(options.submitEveryMs)
  const faults = [...listFaults(system), ...(machine?.faults ?? [])]
  const toll = await runStorm({ faults, random: openRandom(seed, 'faults'), kills: options.kills, atLeastMs: options.atLeastMs, paceMs: options.paceMs, say: tell, signal })
  signal.throwIfAborted()
  tell(`the storm is over: ${toll.kills} kills; waiting for ${load.submissions.length} submissions to be answered and their tasks to end`)
  await load.finish()
  await system.untilReady(names, 60_000).catch((error: unknown) => tell(String(error)))
  await until('every task has ended', endPatienceMs, async () => (signal.throwIfAborted(), (await operator.look()) === 0), 500).catch((error: unknown) => tell(String(error)))
  await operator.stop()
  await settle(system)
  tell('checking')
  const ledgers = new Map(names.map((node) => [node, ledgerOf(node)]))
  const evidence = await gatherEvidence(system, { submissions: load.submissions, settlements: operator.settlements, ledgers, expectedNodes: names, otherOrphans: (await machine?.listOrphans()) ?? [] })
  return { toll, faults, evidence, results: runChecks(evidence), points, isCuttable: network.isCuttable }
}

/** The announcer empties the outbox, engines give leases back and supervisors of ended commands go, all within a moment: what is there after that is stuck. */
async function settle({ postgres }: System): Promise<void> {
  await until('the outbox is empty', 10_000, async () => Number((await postgres.server.query<{ count: string }>('SELECT count(*) FROM outbox'))[0]?.count) === 0).catch(() => undefined)
  await pause(1500)
}
