/**
 * What the orchestration of a Kubernetes cluster costs: the same plan by Lichen and as a plain shell script (bench/plain-script.ts) on fresh nodes of the lab, in turns; and one worker beside three.
 * Each run has nodes of its own. The script is made of the graph that Lichen would carry out on the very nodes, so it does the same.
 */
import { cpus } from 'node:os'
import { callApi } from '@lichen/demo'
import { buildKubernetesPlan } from '../test/kubernetes/kubernetes-plan.js'
import { buildKubePackages, type KubePackages } from '../test/kubernetes/packages/build.js'
import { serveDirectory } from '../test/kubernetes/serve-directory.js'
import { cacheDirectory } from '../test/lab/lab-fixture.js'
import { removeNodes, startNodes, withNodesRemoved } from './cluster-nodes.js'
import { buildComparison, buildRatioFigures, buildTimeFigure, describe, type Making, measureMaking, selectMakings } from './making.js'
import { buildPlainScript, type Graph } from './plain-script.js'
import { findUnchanged, runPlan } from './plan-run.js'
import { runScript } from './script-run.js'
import type { Figure } from './table.js'

/** A cluster takes about a minute; one that takes this long is not measured any more. */
const limitMs = 600_000

export interface OverheadOptions {
  /** Of one worker by Lichen and by the script, each. */
  readonly runs: number
  /** No cluster is begun later than this. */
  readonly budgetMs: number
  readonly say: (text: string) => void
}

const describeSize = (workers: number): string => (workers === 1 ? '1 worker' : `${workers} workers`)

/** All clusters that were made. @throws when one was not */
export async function makeClusters({ runs, budgetMs, say }: OverheadOptions): Promise<Making[]> {
  const log = (line: string): void => say(`  ${line}`)
  const kube = await buildKubePackages({ cacheDirectory, log })
  const begun = performance.now()
  const made: Making[] = []
  const wasThere = new Set<string>()
  const make = async (by: Making['by'], workers: number): Promise<void> => {
    const making = await makeCluster(kube, by, workers, wasThere, log)
    say(`  ${describe(making)}`)
    made.push(making)
  }
  await withNodesRemoved(say, async () => {
    for (let run = 0; run < runs; run++) {
      // In turns, and the other way round each time. The first is Lichen's: it tells what a node has already.
      for (const by of run % 2 === 0 ? (['Lichen', 'script'] as const) : (['script', 'Lichen'] as const)) await make(by, 1)
      // Three workers once in any case, and as often as the others when there is time.
      if (run === 0 || performance.now() - begun < budgetMs) await make('Lichen', 3)
    }
  })
  say(buildComparison(made, describeSize(1)))
  return made
}

async function makeCluster(kube: KubePackages, by: Making['by'], workers: number, wasThere: Set<string>, log: (line: string) => void): Promise<Making> {
  const names = ['cp', ...Array.from({ length: workers }, (_, index) => `w${index + 1}`)]
  const nodes = await startNodes(names)
  const files = await serveDirectory(nodes.gateway, kube.directory)
  try {
    await nodes.join(names, (node) => ({ cluster: 'demo', role: node === 'cp' ? 'control-plane' : 'worker' }))
    const plan = buildKubernetesPlan(kube, files.url, { version: kube.versions[0]! })
    // One pod on each worker.
    const request = { kind: 'apply', plan: JSON.parse(JSON.stringify(plan).replace('replicas: 2', `replicas: ${workers}`)) as object }
    const graph = await callApi<Graph>(nodes.server, 'POST', '/v1/previews', request)
    if (by === 'script') await nodes.endLichen()
    return await measureMaking(nodes, by, describeSize(workers), async () => {
      if (by === 'script') return await runScript(buildPlainScript(graph, nodes.entrances(), wasThere), { limitMs, log })
      const run = await runPlan(nodes.server, request, { limitMs, log })
      for (const place of findUnchanged(run.actions)) wasThere.add(place)
      return run
    })
  } finally {
    await files.close()
    await nodes.server.stop()
    await removeNodes()
  }
}

/** The lines of the report. */
export function buildOverheadFigures(made: readonly Making[]): Figure[] {
  const [plan, script, three] = [selectMakings(made, 'Lichen', describeSize(1)), selectMakings(made, 'script', describeSize(1)), selectMakings(made, 'Lichen', describeSize(3))]
  return [
    buildTimeFigure('Kubernetes, 1 control plane + 1 worker, by Lichen', plan),
    buildTimeFigure('  the same commands as a plain shell script', script),
    ...buildRatioFigures('overhead of the orchestration', plan, script, 1.1),
    buildTimeFigure('Kubernetes, 1 control plane + 3 workers, by Lichen', three),
    {
      what: '  three workers beside one', value: three.middle('wallS') / plan.middle('wallS'), unit: '×', target: { atMost: 1.25 },
      note: `each further worker ${((three.middle('wallS') - plan.middle('wallS')) / 2).toFixed(1)} s, and ${((three.middle('cpuS') - plan.middle('cpuS')) / 2).toFixed(1)} s of processor time; ${Math.round(three.middle('cpuShare') * 100)} % of the time of ${cpus().length} cores, ${(three.middle('cpuS') / cpus().length).toFixed(1)} s of the wall time, is the processors'`,
    },
  ]
}
