/**
 * Making a lab, step by step: mirror, network, firewall, package proxy, base image, roots, boot. Each step is in its own file and can be repeated: what is there
 * is kept, what is missing is made. The caller holds the lab's lock.
 */
import { existsSync } from 'node:fs'
import { LichenError } from '@lichen/core'
import { startAptCacher } from './apt-cacher.js'
import { openBaseImage } from './base-image.js'
import { bootMachine } from './boot.js'
import { openFirewall } from './firewall.js'
import { requireSpace } from './host.js'
import { openLock } from './lock.js'
import type { MachineSpec } from './machine.js'
import { readMirror, type Mirror } from './mirror.js'
import { buildLinkName, buildNodeNames, type LabNames } from './names.js'
import { chooseNetwork, openBridge } from './network.js'
import { makeNodeRoot, writeHosts } from './node-root.js'
import { chooseProxyPort, startPackageProxy } from './proxy.js'
import { readState, replaceFile, writeState, type LabState, type NodeEntry } from './state.js'
import { viewState, type LabView } from './view.js'

export interface UpOptions {
  /** How many nodes there shall be at least (`node-1`, `node-2`, …), or their names. Nodes that exist beyond these stay. */
  readonly nodes: number | readonly string[]
  /** Limit of memory of each node that is made now, in bytes. */
  readonly memoryBytes?: number
  /** Gives nodes that are made now all capabilities, /dev/kmsg, /dev/net/tun, keyrings and bpf, as a kubelet or network agent needs. */
  readonly isPrivileged?: boolean
  /**
   * Names of links that nodes made now get beside `host0`, e.g. `prov0`: interfaces on the lab's bridge that are up and have no address. Lower-case letters,
   * digits and dashes, at most 15, a letter first. For programs that want an interface for themselves, as neutron for its provider network.
   */
  readonly links?: readonly string[]
}

/** What `up` was asked for, with nothing in it that is not allowed. */
export interface CheckedUp extends UpOptions {
  readonly nodes: readonly string[]
  readonly links: readonly string[]
}

/** Addresses run from .11 to .254. */
const maximumNodes = 244

/** Measured: a node takes 150 MB, and installing a service into it easily as much again. */
const nodeSizeBytes = 600e6

/** Nobody needs more, and a name of the host's end has room for two digits. */
const maximumLinks = 9

/** `lo` and `host0` are there already; the kernel keeps settings of all interfaces and of future ones under the names `all` and `default`. */
const takenLinks = ['lo', 'host0', 'all', 'default']

const networkLockPath = '/run/lichen-lab-network.lock'

/** Where and how a lab is made. */
export interface Raise {
  readonly names: LabNames
  readonly cacheDirectory: string
  readonly log: (line: string) => void
  readonly upstreamProxy: string | undefined
}

/**
 * What `up` is asked for, each name once.
 * @throws LAB_BAD_OPTION when a name or a count is not allowed.
 */
export function checkUp(options: UpOptions): CheckedUp {
  return { ...options, nodes: checkNodeNames(options.nodes), links: checkLinkNames(options.links ?? []) }
}

/**
 * The lab with all nodes asked for booted. Nodes beyond these are left as they are.
 * @throws LAB_NO_SPACE, LAB_MIRROR, LAB_BAD_OPTION, LAB_BUSY, LAB_STATE, LAB_NETWORK, LAB_NODE_NOT_BOOTED, LAB_PROGRAM_FAILED.
 */
export async function raiseLab(raise: Raise, options: CheckedUp): Promise<LabView> {
  const { names, log } = raise
  const wanted = options.nodes
  const found = await readMirror(log)
  const mirror: Mirror = raise.upstreamProxy ? { ...found, upstreamProxy: raise.upstreamProxy } : found
  const state = addNodes(names, await openNetwork(raise), wanted, options)
  for (const rule of await openFirewall(names.bridge)) log(`firewall rule added: ${rule}`)
  await startPackageProxy(names, {
    address: state.gateway,
    port: state.proxyPort,
    cacheDirectory: raise.cacheDirectory,
    upstreamProxy: mirror.upstreamProxy ?? null,
  })
  const cache = startCache(raise.cacheDirectory, mirror)
  const base = await openBaseImage({ cacheDirectory: raise.cacheDirectory, mirror, proxy: `${state.gateway}:${state.proxyPort}`, log })
  await Promise.all(state.nodes.map((node) => makeNode(base, names, state, node, mirror)))
  // after all roots are there, so that the first node that boots already knows the last one
  for (const node of state.nodes) writeHosts(buildNodeNames(names, node.name, node.index).root, state.nodes)
  await Promise.all(state.nodes.filter((node) => wanted.includes(node.name)).map((node) => bootMachine(buildNodeNames(names, node.name, node.index), node.name)))
  await cache
  return viewState(names, state)
}

/** The lab's state with its bridge in place: the network is chosen once and remembered, under a lock against other labs that choose. */
async function openNetwork(raise: Raise): Promise<LabState> {
  const { names } = raise
  const lock = await openLock(networkLockPath, 60_000)
  if (!lock) throw new LichenError('LAB_BUSY', 'another lab has been choosing its network for a minute')
  try {
    const state = readState(names) ?? (await chooseState(raise))
    await openBridge(names, state.gateway)
    if (state.proxyPort !== 0) return state
    const complete = { ...state, proxyPort: await chooseProxyPort(state.gateway) }
    writeState(names, complete)
    return complete
  } finally {
    await lock.close({ remove: true })
  }
}

/** Remembered before the bridge is made; the proxy's port is chosen when its address exists. */
async function chooseState(raise: Raise): Promise<LabState> {
  const { names, cacheDirectory } = raise
  const network = await chooseNetwork(names.id)
  const state: LabState = { version: 1, name: names.name, id: names.id, cacheDirectory, network, gateway: `${network}.1`, proxyPort: 0, nodes: [] }
  writeState(names, state)
  return state
}

function addNodes(names: LabNames, state: LabState, wanted: readonly string[], options: CheckedUp): LabState {
  const missing = wanted.filter((name) => !state.nodes.some((node) => node.name === name))
  if (missing.length === 0) return state
  if (state.nodes.length + missing.length > maximumNodes) throw new LichenError('LAB_BAD_OPTION', `a lab has at most ${maximumNodes} nodes`)
  requireSpace(names.directory, nodeSizeBytes * missing.length, `${missing.length} more node(s)`)
  const highest = Math.max(0, ...state.nodes.map((node) => node.index))
  const added = missing.map((name, offset): NodeEntry => {
    const index = highest + 1 + offset
    return {
      name,
      index,
      address: `${state.network}.${index + 10}`,
      ...(options.memoryBytes === undefined ? {} : { memoryBytes: options.memoryBytes }),
      isPrivileged: options.isPrivileged ?? false,
      ...(options.links.length === 0 ? {} : { links: options.links }),
    }
  })
  const next = { ...state, nodes: [...state.nodes, ...added] }
  writeState(names, next)
  return next
}

async function makeNode(base: string, names: LabNames, state: LabState, node: NodeEntry, mirror: Mirror): Promise<void> {
  const own = buildNodeNames(names, node.name, node.index)
  if (!existsSync(own.root)) await makeNodeRoot(base, own, state, node, mirror)
  const spec: MachineSpec = {
    machine: own.machine,
    hostname: node.name,
    root: own.root,
    bridge: names.bridge,
    veth: own.veth,
    cgroup: own.cgroup,
    memoryBytes: node.memoryBytes ?? null,
    isPrivileged: node.isPrivileged,
    links: (node.links ?? []).map((name, place) => ({ name, veth: buildLinkName(names, node.index, place + 1) })),
  }
  replaceFile(own.specPath, JSON.stringify(spec, null, 2) + '\n')
}

/** The proxy starts the cache by itself; starting it here as well makes a cache that cannot start an error of `up`. */
async function startCache(cacheDirectory: string, mirror: Mirror): Promise<void> {
  try {
    await startAptCacher(cacheDirectory, mirror.upstreamProxy)
  } catch (error) {
    throw new LichenError('LAB_PROGRAM_FAILED', (error as Error).message, { cause: error })
  }
}

function checkNodeNames(nodes: number | readonly string[]): string[] {
  const wanted = typeof nodes === 'number' ? Array.from({ length: nodes }, (_, i) => `node-${i + 1}`) : [...new Set(nodes)]
  if (typeof nodes === 'number' && !(Number.isInteger(nodes) && nodes >= 1 && nodes <= maximumNodes)) {
    throw new LichenError('LAB_BAD_OPTION', `nodes: ${nodes}: a whole number from 1 to ${maximumNodes}`)
  }
  for (const name of wanted) {
    if (!/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/.test(name) || name === 'localhost') {
      throw new LichenError('LAB_BAD_OPTION', `node name "${name}": lower-case letters, digits and dashes, at most 63`)
    }
  }
  return wanted
}

function checkLinkNames(links: readonly string[]): string[] {
  const wanted = [...new Set(links)]
  for (const name of wanted) {
    if (!/^[a-z][a-z0-9-]{0,14}$/.test(name)) throw new LichenError('LAB_BAD_OPTION', `link name "${name}": a lower-case letter, then letters, digits and dashes, at most 15 characters in all`)
    if (takenLinks.includes(name)) throw new LichenError('LAB_BAD_OPTION', `link name "${name}": every node has an interface or a setting of this name already`)
  }
  if (wanted.length > maximumLinks) throw new LichenError('LAB_BAD_OPTION', `links: ${wanted.length} of them: a node has at most ${maximumLinks} beside host0`)
  return wanted
}
