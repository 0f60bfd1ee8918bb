/**
 * What the orchestration of a Kubernetes cluster costs: the same plan by Lichen and as a plain shell script (bench/plain-script.ts) on fresh nodes of the lab, in turns; and one worker beside three.
 * Each run has nodes of its own. The script is made of the graph that Lichen would carry out on the very nodes, so it does the same.
 */
import { spawn } from 'node:child_process'
import { closeSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { callApi } from '@lichen/demo'
import { buildKubernetesPlan } from '../test/kubernetes/kubernetes-plan.js'
import { buildKubePackages, type KubePackages } from '../test/kubernetes/packages/build.js'
import { serveDirectory } from '../test/kubernetes/serve-directory.js'
import { cacheDirectory } from '../test/lab/lab-fixture.js'
import { directory, type Nodes, readMachineCpuS, removeNodes, startNodes } from './kubernetes-nodes.js'
import { buildPlainScript, type Graph, placeOf } from './plain-script.js'
import { quantile } from './quantile.js'
import type { Figure } from './table.js'

/** One cluster made. */
export interface Making {
  readonly by: 'Lichen' | 'script'
  readonly workers: number
  readonly wallS: number
  /** Share of all cores that nodes and server used. */
  readonly cpuShare: number
  /** Share of all cores that whatever else ran on this machine used. */
  readonly otherShare: number
  readonly cpuS: number
  /** When each action was at work, in ms since the beginning. */
  readonly spans: ReadonlyMap<string, { readonly beganMs: number; readonly endedMs: number }>
}

interface Task {
  readonly state: string
  readonly outcome: string | null
  readonly reason: string
  readonly timing: { readonly durationMs: number; readonly acceptedAt: number; readonly criticalPath: readonly { readonly id: string; readonly beganAt: number; readonly endedAt: number; readonly waitedMs: number }[] }
}

interface Action {
  readonly id: string
  readonly begunAt: number | null
  readonly endedAt: number | null
  readonly result: { readonly commands: readonly { readonly changed: boolean }[] } | null
}

/** A cluster takes about a minute; one that takes this long is not measured any more. */
const limitMs = 600_000

export interface OverheadOptions {
  /** Of one worker by Lichen and by the script, each. */
  readonly runs: number
  /** No cluster is begun later than this. */
  readonly budgetMs: number
  readonly say: (text: string) => void
}

/** All clusters that were made. @throws when one was not */
export async function makeClusters({ runs, budgetMs, say }: OverheadOptions): Promise<Making[]> {
  const log = (line: string): void => say(`  ${line}`)
  const kube = await buildKubePackages({ cacheDirectory, log })
  const stop = async (signal: NodeJS.Signals): Promise<void> => {
    say(`${signal}: the nodes are taken away`)
    await removeNodes()
    process.exit(1)
  }
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const
  const onSignal = (name: NodeJS.Signals): void => void stop(name)
  for (const name of signals) process.once(name, onSignal)
  const begun = performance.now()
  const made: Making[] = []
  const wasThere = new Set<string>()
  const make = async (by: Making['by'], workers: number): Promise<void> => {
    const making = await makeCluster(kube, by, workers, wasThere, log)
    say(`  ${describe(making)}`)
    made.push(making)
  }
  try {
    for (let run = 0; run < runs; run++) {
      // In turns, and the other way round each time. The first is Lichen's: it tells what a node has already.
      for (const by of run % 2 === 0 ? (['Lichen', 'script'] as const) : (['script', 'Lichen'] as const)) await make(by, 1)
      // Three workers once in any case, and as often as the others when there is time.
      if (run === 0 || performance.now() - begun < budgetMs) await make('Lichen', 3)
    }
  } finally {
    for (const name of signals) process.off(name, onSignal)
    await removeNodes()
  }
  say(buildComparison(made))
  return made
}

async function makeCluster(kube: KubePackages, by: Making['by'], workers: number, wasThere: Set<string>, log: (line: string) => void): Promise<Making> {
  const nodes = await startNodes(['cp', ...Array.from({ length: workers }, (_, index) => `w${index + 1}`)])
  const files = await serveDirectory(nodes.gateway, kube.directory)
  try {
    const plan = buildKubernetesPlan(kube, files.url, { version: kube.versions[0]! })
    // One pod on each worker.
    const request = { kind: 'apply', plan: JSON.parse(JSON.stringify(plan).replace('replicas: 2', `replicas: ${workers}`)) as object }
    const graph = await callApi<Graph>(nodes.server, 'POST', '/v1/previews', request)
    if (by === 'script') await nodes.endLichen()
    const before = { ownS: nodes.cpuS(), allS: readMachineCpuS(), at: performance.now() }
    const { wallS, spans } = by === 'Lichen' ? await runPlan(nodes, graph, request, wasThere, log) : await runScript(nodes, graph, wasThere, log)
    const coresS = ((performance.now() - before.at) / 1000) * cpus().length
    const cpuS = nodes.cpuS() - before.ownS
    return { by, workers, wallS, cpuS, cpuShare: cpuS / coresS, otherShare: Math.max(0, readMachineCpuS() - before.allS - cpuS) / coresS, spans }
  } finally {
    await files.close()
    await nodes.server.stop()
    await removeNodes()
  }
}

type Ran = Pick<Making, 'wallS' | 'spans'>

/** The plan by Lichen; `wasThere` gets what it did not have to do. */
async function runPlan({ server }: Nodes, graph: Graph, request: object, wasThere: Set<string>, log: (line: string) => void): Promise<Ran> {
  const { id } = await callApi<{ readonly id: string }>(server, 'POST', '/v1/tasks', request)
  const until = performance.now() + limitMs
  let task: Task
  do {
    // Its times are the task's own, so nothing is gained by asking more often.
    await sleep(1000)
    task = await callApi<Task>(server, 'GET', `/v1/tasks/${id}`)
    if (performance.now() > until) throw new Error(`task ${id} has not ended within ${limitMs / 1000} s: ${task.reason}`)
  } while (task.state !== 'ended')
  if (task.outcome !== 'succeeded') throw new Error(`task ${id} ${task.outcome}: ${task.reason}`)
  const { durationMs, acceptedAt, criticalPath } = task.timing
  const { items } = await callApi<{ readonly items: readonly Action[] }>(server, 'GET', `/v1/tasks/${id}/actions?limit=1000`)
  for (const action of items) action.result?.commands.forEach(({ changed }, index) => (changed ? undefined : wasThere.add(placeOf(action.id, index))))
  for (const step of criticalPath) log(`critical path: ${step.id}, waited ${step.waitedMs} ms, took ${step.endedAt - step.beganAt} ms`)
  const known = new Set(graph.actions.map((action) => action.id))
  const spans = items.filter(({ id: action, begunAt, endedAt }) => known.has(action) && begunAt !== null && endedAt !== null)
  return { wallS: durationMs / 1000, spans: new Map(spans.map(({ id: action, begunAt, endedAt }) => [action, { beganMs: begunAt! - acceptedAt, endedMs: endedAt! - acceptedAt }])) }
}

/** The same as a script, from its start to its end. */
async function runScript(nodes: Nodes, graph: Graph, wasThere: ReadonlySet<string>, log: (line: string) => void): Promise<Ran> {
  const work = join(directory, 'script-work')
  mkdirSync(work, { mode: 0o700 })
  const [script, times, output] = ['plain.sh', 'times', 'output'].map((name) => join(directory, name)) as [string, string, string]
  writeFileSync(script, buildPlainScript(graph, nodes.entrances(), wasThere))
  writeFileSync(times, '')
  const beganAt = Date.now()
  const begun = performance.now()
  const printed = openSync(output, 'w')
  const child = spawn('bash', [script, work, times], { stdio: ['ignore', printed, printed], timeout: limitMs, detached: true })
  // Its jobs wait for each other in pipes: what is left of them when it has not come to its end goes with it, and with this process.
  const endJobs = (): void => {
    try {
      process.kill(-child.pid!, 'SIGKILL')
    } catch {
      // None is left.
    }
  }
  process.once('exit', endJobs)
  const exitCode = await new Promise<number>((resolve, reject) => {
    child.once('error', reject)
    child.once('exit', (code) => resolve(code ?? 128))
  })
  const wallS = (performance.now() - begun) / 1000
  endJobs()
  process.off('exit', endJobs)
  closeSync(printed)
  if (exitCode !== 0) {
    log(`the script has printed last:\n${readFileSync(output, 'utf8').slice(-2000)}`)
    throw new Error(`the script ended with ${exitCode}`)
  }
  const lines = readFileSync(times, 'utf8').trim().split('\n').map((line) => line.split(' ') as [string, string, string])
  return { wallS, spans: new Map(lines.map(([action, from, to]) => [action, { beganMs: Number(from) * 1000 - beganAt, endedMs: Number(to) * 1000 - beganAt }])) }
}

const percent = (share: number): string => `${Math.round(share * 100)} %`

const describe = ({ by, workers, wallS, cpuS, cpuShare, otherShare }: Making): string =>
  `${by}, ${workers} ${workers === 1 ? 'worker' : 'workers'}: ${wallS.toFixed(1)} s; ${cpuS.toFixed(1)} s of processor time, ${percent(cpuShare)} of the cores; others used ${percent(otherShare)}`

const formatMs = (ms: number | undefined): string => (ms === undefined ? '–' : (ms / 1000).toFixed(1))

/** Of the last run of each with one worker: when each action began and ended. */
function buildComparison(made: readonly Making[]): string {
  const last = (by: Making['by']) => made.findLast((making) => making.by === by && making.workers === 1)?.spans
  const [plan, script] = [last('Lichen'), last('script')]
  const rows = [...(plan ?? [])].sort(([, a], [, b]) => a.endedMs - b.endedMs).map(([action, { beganMs, endedMs }]) => {
    const same = script?.get(action)
    return `  ${action.padEnd(48)} ${formatMs(beganMs).padStart(7)} ${formatMs(endedMs).padStart(7)} ${formatMs(endedMs - beganMs).padStart(6)} | ${formatMs(same?.beganMs).padStart(7)} ${formatMs(same?.endedMs).padStart(7)} ${formatMs(same && same.endedMs - same.beganMs).padStart(6)}`
  })
  return [`  ${'seconds: began, ended, took'.padEnd(48)} ${'by Lichen'.padStart(22)} | ${'by the script'.padStart(22)}`, ...rows].join('\n')
}

/** The lines of the report. */
export function buildOverheadFigures(made: readonly Making[]): Figure[] {
  const of = (by: Making['by'], workers: number): Making[] => made.filter((making) => making.by === by && making.workers === workers)
  const middleOf = (makings: readonly Making[], field: 'wallS' | 'cpuS' | 'cpuShare' | 'otherShare'): number => medianOf(makings.map((making) => making[field]))
  const middle = (makings: readonly Making[]): number => middleOf(makings, 'wallS')
  const [plan, script, three] = [of('Lichen', 1), of('script', 1), of('Lichen', 3)]
  const line = (what: string, makings: readonly Making[]): Figure => ({
    what, value: middle(makings), unit: 's',
    note: `${makings.length} runs, ${makings.map(({ wallS }) => wallS.toFixed(1)).join(', ')} s; ${middleOf(makings, 'cpuS').toFixed(1)} s of processor time, ${percent(middleOf(makings, 'cpuShare'))} of ${cpus().length} cores; others used ${percent(middleOf(makings, 'otherShare'))}`,
  })
  const least = (makings: readonly Making[]): number => Math.min(...makings.map(({ wallS }) => wallS))
  return [
    line('Kubernetes, 1 control plane + 1 worker, by Lichen', plan),
    line('  the same commands as a plain shell script', script),
    { what: '  overhead of the orchestration', value: middle(plan) / middle(script), unit: '×', target: { atMost: 1.1 }, note: `of the fastest runs ${(least(plan) / least(script)).toPrecision(3)}` },
    { what: '  the same in processor time', value: middleOf(plan, 'cpuS') / middleOf(script, 'cpuS'), unit: '×', note: 'of nodes, agents and server; what else runs on this machine changes it little' },
    line('Kubernetes, 1 control plane + 3 workers, by Lichen', three),
    {
      what: '  three workers beside one', value: middle(three) / middle(plan), unit: '×', target: { atMost: 1.25 },
      note: `each further worker ${((middle(three) - middle(plan)) / 2).toFixed(1)} s, and ${((middleOf(three, 'cpuS') - middleOf(plan, 'cpuS')) / 2).toFixed(1)} s of processor time; ${percent(middleOf(three, 'cpuShare'))} of the time of ${cpus().length} cores, ${(middleOf(three, 'cpuS') / cpus().length).toFixed(1)} s of the wall time, is the processors'`,
    },
  ]
}

/** Of an even number the mean of the middle two: of two runs neither is left out. */
const medianOf = (samples: readonly number[]): number => (quantile(samples, 0.5) + quantile(samples.map((sample) => -sample), 0.5) * -1) / 2
