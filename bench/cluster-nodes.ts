/** Fresh nodes for one cluster or cloud, with Lichen's agent and a server of their own: the demo's way, on the lab of this machine. Owns all of it; what a run left that was killed is found and removed by the next. */
import { existsSync, mkdirSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { buildAgentPackage, createJoinToken, installAgent, runInNode, startServerProcess, waitForNodes, type ServerProcess } from '@lichen/demo'
import { buildLabNames, buildNodeNames, openLab, type Lab } from '@lichen/lab'
import { cacheDirectory } from '../test/lab/lab-fixture.js'
import { readCpuS } from './children.js'
import type { NodeEntrance } from './plain-script.js'

const checkout = dirname(import.meta.dirname)
const labName = 'bench-nodes'
/** Always the same place. */
export const directory = join(checkout, 'build', labName)
const labsDirectory = join(directory, 'labs')
/** A machine with much else to do boots slowly. */
const patienceMs = 240_000

const open = (): Lab => openLab({ name: labName, directory: labsDirectory, cacheDirectory })

/** Takes everything away that a run has made, or left. */
export async function removeNodes(): Promise<void> {
  await open().down()
  rmSync(directory, { recursive: true, force: true })
}

/** What `work` gives; its nodes are taken away when it ends, and when this process is told to end. */
export async function withNodesRemoved<T>(say: (text: string) => void, work: () => Promise<T>): Promise<T> {
  const stop = async (signal: NodeJS.Signals): Promise<void> => {
    say(`${signal}: the nodes are taken away`)
    await removeNodes()
    process.exit(1)
  }
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const
  const onSignal = (name: NodeJS.Signals): void => void stop(name)
  for (const name of signals) process.once(name, onSignal)
  try {
    return await work()
  } finally {
    for (const name of signals) process.off(name, onSignal)
    await removeNodes()
  }
}

export interface Nodes {
  readonly lab: Lab
  readonly server: ServerProcess
  /** Where servers for the nodes listen. */
  readonly gateway: string
  /** Installs the agent on these, and resolves when they are ready. */
  join(names: readonly string[], labelsOf: (node: string) => Readonly<Record<string, string>>): Promise<void>
  /** How a program is run in each. */
  entrances(): ReadonlyMap<string, NodeEntrance>
  /** Seconds of processor time so far, of everything in the nodes and of the server while it runs. */
  cpuS(): number
  /** Ends agents and server: the nodes are the script's now. */
  endLichen(): Promise<void>
}

/** Booted nodes, each with these interfaces beside `host0`, and a server that none of them has joined yet. */
export async function startNodes(names: readonly string[], links: readonly string[] = []): Promise<Nodes> {
  await removeNodes()
  mkdirSync(directory, { recursive: true })
  const lab = open()
  const [view, agent] = await Promise.all([lab.up({ nodes: names, isPrivileged: true, links }), buildAgentPackage(checkout)])
  const cgroupOf = (node: string): string => buildNodeNames(buildLabNames(labsDirectory, labName), node, lab.node(node).index).cgroup
  const leaders = new Map(await Promise.all(names.map(async (node) => [node, findLeader((await runInNode(lab, node, ['readlink', '/proc/self/ns/pid'])).trim())] as const)))
  const server = await startServerProcess({ dataDirectory: join(directory, 'server'), catalogDirectory: join(checkout, 'catalog'), gatewayHost: view.gateway, gatewayPort: 0, env: process.env })
  const joined: string[] = []
  let isServing = true
  return {
    lab,
    server,
    gateway: view.gateway,
    async join(those, labelsOf) {
      const joinToken = await createJoinToken(server, those.length)
      await Promise.all(those.map((node) => installAgent(lab, node, { packagePath: agent.path, gateway: server.gatewayAddress, joinToken, labels: labelsOf(node) })))
      await waitForNodes(server, those, patienceMs)
      joined.push(...those)
    },
    entrances: () => new Map(names.map((node) => [node, { leader: leaders.get(node)!, cgroups: findCgroups(cgroupOf(node)) }])),
    cpuS: () => (isServing ? readCpuS(server.pid) : 0) + names.reduce((sum, node) => sum + readCgroupCpuS(cgroupOf(node)), 0),
    async endLichen() {
      await Promise.all(joined.map((node) => runInNode(lab, node, ['systemctl', 'stop', 'lichen-agent.service'])))
      isServing = false
      await server.stop()
    },
  }
}

/** The pid that has the number 1 in this namespace. */
function findLeader(namespace: string): number {
  for (const pid of readdirSync('/proc').filter((entry) => /^\d+$/.test(entry))) {
    try {
      if (readlinkSync(`/proc/${pid}/ns/pid`) === namespace && /^NSpid:.*\t1$/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))) return Number(pid)
    } catch {
      // It has ended.
    }
  }
  throw new Error(`no process is the first of ${namespace}`)
}

const hierarchies = (): string[] => ['/sys/fs/cgroup', ...readdirSync('/sys/fs/cgroup').map((entry) => join('/sys/fs/cgroup', entry))]

/** Where a process is written that is to be in a cgroup: of cgroup v2 the leaf that the lab has for commands. */
const findCgroups = (name: string): string[] =>
  hierarchies().flatMap((hierarchy) => {
    const leaf = ['exec/cgroup.procs', 'cgroup.procs'].map((file) => join(hierarchy, name, file)).find(existsSync)
    return leaf === undefined ? [] : [leaf]
  })

function readCgroupCpuS(name: string): number {
  for (const hierarchy of hierarchies()) {
    const usage = join(hierarchy, name, 'cpuacct.usage')
    if (existsSync(usage)) return Number(readFileSync(usage, 'utf8')) / 1e9
    const stat = join(hierarchy, name, 'cpu.stat')
    const match = existsSync(stat) ? /^usage_usec (\d+)$/m.exec(readFileSync(stat, 'utf8')) : null
    if (match) return Number(match[1]) / 1e6
  }
  throw new Error(`no cgroup ${name} says how much processor time it has used`)
}

/** Seconds of processor time that this machine has used, of everything on it. */
export function readMachineCpuS(): number {
  const [user, nice, system, , , irq, softirq, steal] = readFileSync('/proc/stat', 'utf8').split('\n')[0]!.trim().split(/\s+/).slice(1).map(Number)
  return (user! + nice! + system! + irq! + softirq! + steal!) / 100
}
