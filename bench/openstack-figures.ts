/**
 * What the orchestration of a whole cloud costs: examples/openstack.yaml on nodes of the lab, by Lichen and as a plain shell script (bench/plain-script.ts), in turns; one more compute node, by each on the cloud
 * that it made; and what it takes Lichen to find that nothing has to change.
 * Each cloud has nodes of its own. All three have booted when it is begun, the third without an agent, so that both find the same machine beside them.
 */
import { generateKeyPairSync } from 'node:crypto'
import { callApi } from '@lichen/demo'
import { cacheDirectory } from '../test/lab/lab-fixture.js'
import { buildGuestImage, type GuestImage, guestImageProperties } from '../test/openstack/guest-image/build.js'
import { buildOpenstackPlan } from '../test/openstack/openstack-plan.js'
import { type Nodes, removeNodes, startNodes, withNodesRemoved } from './cluster-nodes.js'
import { buildComparison, buildRatioFigures, buildTimeFigure, describe, type Making, measureMaking, medianOf, selectMakings } from './making.js'
import { buildPlainScript, type Graph, selectNode } from './plain-script.js'
import { findUnchanged, type PlanRun, runPlan } from './plan-run.js'
import { runScript } from './script-run.js'
import type { Figure } from './table.js'

/** A cloud takes about ten minutes; one that takes this long is not measured any more. */
const limitMs = 2_400_000

const cloud = '1 control + 1 compute node'
const growth = 'one more compute node'
const further = 'compute2'

/** A new compute node is of use when it has been looked for. The default, 10 s, is a wait by chance that is larger than what is to be told apart; below 2 s there is no less. */
const discoverIntervalS = 2

const images = { disk: '/root/guest.raw', kernel: '/root/vmlinuz', initrd: '/root/initrd', properties: guestImageProperties }

const labelsOf = (node: string): Readonly<Record<string, string>> => ({ role: node === 'control' ? 'control' : 'compute' })

export interface CloudOptions {
  /** Clouds by Lichen and by the script, each. */
  readonly runs: number
  /** How often each of Lichen's is applied again with nothing to change. */
  readonly looks: number
  readonly say: (text: string) => void
}

export interface CloudFigures {
  readonly made: readonly Making[]
  /** Seconds of each apply that had nothing to change. */
  readonly unchangedS: readonly number[]
}

/** All clouds that were made. @throws when one was not */
export async function makeClouds({ runs, looks, say }: CloudOptions): Promise<CloudFigures> {
  const log = (line: string): void => say(`  ${line}`)
  const image = await buildGuestImage({ cacheDirectory, log })
  const made: Making[] = []
  const unchangedS: number[] = []
  const wasThere = new Set<string>()
  await withNodesRemoved(say, async () => {
    for (let run = 0; run < runs; run++) {
      // In turns, and the other way round each time. The first is Lichen's: it tells what a node has already.
      for (const by of run % 2 === 0 ? (['Lichen', 'script'] as const) : (['script', 'Lichen'] as const)) {
        const makings = await withCloudNodes(image, (nodes, request) => (by === 'Lichen' ? makeByLichen(nodes, request, { looks, wasThere, unchangedS, log }) : makeByScript(nodes, request, wasThere, log)))
        for (const making of makings) say(`  ${describe(making)}`)
        made.push(...makings)
      }
    }
  })
  for (const what of [cloud, growth]) say(buildComparison(made, what))
  return { made, unchangedS }
}

/** `work` with three nodes, two of which have joined, and the request that makes a cloud of all that are there. */
async function withCloudNodes(image: GuestImage, work: (nodes: Nodes, request: object) => Promise<Making[]>): Promise<Making[]> {
  const nodes = await startNodes(['control', 'compute', further], ['eth1'])
  try {
    await nodes.join(['control', 'compute'], labelsOf)
    for (const [from, to] of [[image.diskPath, images.disk], [image.kernelPath, images.kernel], [image.initrdPath, images.initrd]] as const) await nodes.lab.copyIn('control', from, to)
    const prefix = nodes.lab.node('control').address.replace(/\.\d+$/, '')
    return await work(nodes, { kind: 'apply', plan: buildOpenstackPlan({ prefix, publicKey: makePublicKey(), image: images, with: { nova: { discoverIntervalS } } }) })
  } finally {
    await nodes.server.stop()
    await removeNodes()
  }
}

interface LichenOptions {
  readonly looks: number
  /** Gets what the nodes had already. */
  readonly wasThere: Set<string>
  readonly unchangedS: number[]
  readonly log: (line: string) => void
}

async function makeByLichen(nodes: Nodes, request: object, { looks, wasThere, unchangedS, log }: LichenOptions): Promise<Making[]> {
  // What no script can be made of is known before a cloud is made, which takes long.
  buildPlainScript(await callApi<Graph>(nodes.server, 'POST', '/v1/previews', request), nodes.entrances(), new Set())
  const apply = (): Promise<PlanRun> => runPlan(nodes.server, request, { limitMs, log })
  const made = await measureMaking(nodes, 'Lichen', cloud, async () => {
    const run = await apply()
    for (const place of findUnchanged(run.actions)) wasThere.add(place)
    return run
  })
  for (let look = 0; look < looks; look++) {
    const { wallS, reason } = await apply()
    if (!reason.includes('nothing had to change')) throw new Error(`applied again, the cloud is not as it was: ${reason}`)
    log(`applied again: ${wallS.toFixed(2)} s`)
    unchangedS.push(wallS)
  }
  await nodes.join([further], labelsOf)
  const grown = await measureMaking(nodes, 'Lichen', growth, async () => {
    const run = await apply()
    for (const place of findUnchanged(run.actions.filter(({ node }) => node === further))) wasThere.add(place)
    return run
  })
  return [made, grown]
}

async function makeByScript(nodes: Nodes, request: object, wasThere: ReadonlySet<string>, log: (line: string) => void): Promise<Making[]> {
  const preview = (): Promise<Graph> => callApi<Graph>(nodes.server, 'POST', '/v1/previews', request)
  const graph = await preview()
  await nodes.join([further], labelsOf)
  const ownGraph = selectNode(await preview(), further)
  await nodes.endLichen()
  const run = (of: Graph) => runScript(buildPlainScript(of, nodes.entrances(), wasThere), { limitMs, log })
  return [await measureMaking(nodes, 'script', cloud, () => run(graph)), await measureMaking(nodes, 'script', growth, () => run(ownGraph))]
}

/** As OpenSSH writes it (RFC 8709, section 4): nobody logs in with it. */
function makePublicKey(): string {
  const { x } = generateKeyPairSync('ed25519').publicKey.export({ format: 'jwk' })
  const parts = [Buffer.from('ssh-ed25519'), Buffer.from(x!, 'base64url')]
  return `ssh-ed25519 ${Buffer.concat(parts.flatMap((part) => [Buffer.from([0, 0, 0, part.length]), part])).toString('base64')}`
}

/** The lines of the report. */
export function buildCloudFigures({ made, unchangedS }: CloudFigures): Figure[] {
  const [plan, script] = [selectMakings(made, 'Lichen', cloud), selectMakings(made, 'script', cloud)]
  const [planGrowth, scriptGrowth] = [selectMakings(made, 'Lichen', growth), selectMakings(made, 'script', growth)]
  return [
    buildTimeFigure(`OpenStack, ${cloud}, by Lichen`, plan),
    buildTimeFigure('  the same commands as a plain shell script', script),
    ...buildRatioFigures('overhead of the orchestration', plan, script, 1.1),
    buildTimeFigure(`OpenStack, ${growth}, by Lichen`, planGrowth),
    buildTimeFigure('  its own commands as a plain shell script', scriptGrowth),
    ...buildRatioFigures('one more compute node beside its own install time', planGrowth, scriptGrowth, 1.05),
    { what: 'no-change apply of the whole cloud', value: medianOf(unchangedS), unit: 's', target: { atMost: 5 }, note: `${unchangedS.length} ${unchangedS.length === 1 ? 'run' : 'runs'}, ${unchangedS.map((seconds) => seconds.toFixed(2)).join(', ')} s; each node looks at all it has` },
  ]
}
