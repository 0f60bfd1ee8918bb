/**
 * A lab: a few throwaway Debian nodes on a network of their own. This file is what the outside sees; `raise.ts` makes, `clean.ts` removes.
 *
 * 1. `up`, `start`, `kill`, `reboot` and `down` of one lab exclude each other, also between processes (lock file beside the lab's directory).
 */
import { existsSync, mkdirSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { resolve } from 'node:path'
import { LichenError } from '@lichen/core'
import { bootMachine, killMachine, powerOffMachine, readBootId, waitUntilBooted } from './boot.js'
import { haltLab, removeLab } from './clean.js'
import { copyIntoNode, writeIntoNode } from './copy.js'
import { enterLeader, execInNode, type ExecOptions, type ExecResult } from './enter.js'
import { prepareHost, requireRoot } from './host.js'
import { openLock } from './lock.js'
import { findMachine } from './machine.js'
import { buildLabNames, buildNodeNames, type LabNames, type NodeNames } from './names.js'
import { isCacheUsed } from './proxy.js'
import { checkUp, raiseLab, type UpOptions } from './raise.js'
import { readLabList, readState, type NodeEntry } from './state.js'
import { viewLab, viewNode, type LabNode, type LabView } from './view.js'

export interface LabOptions {
  /** Lower-case letters, digits and dashes, at most 32. */
  readonly name: string
  /** Where labs are kept: state, consoles and the nodes' root directories. */
  readonly directory: string
  /** Where base images and Debian packages are kept between labs. */
  readonly cacheDirectory: string
  /** Gets a line for each step that takes time. */
  readonly log?: (line: string) => void
  /** HTTP proxy for fetching packages; the one that the host's apt is configured with when absent. */
  readonly upstreamProxy?: string
}

export interface Lab {
  readonly name: string
  /**
   * Makes and boots what is missing and returns the lab when all nodes asked for have booted. Asking twice changes nothing.
   * @throws LAB_NOT_ROOT, LAB_NOT_DEBIAN, LAB_TOOLS_MISSING, LAB_NO_SPACE, LAB_MIRROR, LAB_BAD_OPTION, LAB_BUSY, LAB_STATE, LAB_NETWORK, LAB_NODE_NOT_BOOTED, LAB_PROGRAM_FAILED.
   */
  up(options: UpOptions): Promise<LabView>
  /** The lab as it is now; undefined when it does not exist. */
  list(): LabView | undefined
  /** One node as it is now. @throws LAB_UNKNOWN_NODE. */
  node(name: string): LabNode
  /** Runs a program in a node as root, without a shell. @throws LAB_UNKNOWN_NODE, LAB_NODE_STOPPED. */
  exec(node: string, argv: readonly string[], options?: ExecOptions): Promise<ExecResult>
  /** Copies a file or directory of the host to the absolute path `to`, running or not. @throws LAB_UNKNOWN_NODE, LAB_BAD_OPTION, LAB_PROGRAM_FAILED. */
  copyIn(node: string, from: string, to: string): Promise<void>
  /** Writes a file of the node, with parents, atomically. `mode` is 0644 when absent. */
  writeIn(node: string, to: string, content: string | Uint8Array, mode?: number): Promise<void>
  /** Power loss: kills every process of the node at once. Its files stay, with what was in the host's page cache. */
  kill(node: string): Promise<void>
  /** Powers the node off in order, and kills it after `timeoutMs` (20 s when absent). */
  powerOff(node: string, timeoutMs?: number): Promise<void>
  /** Boots a node that is off and returns when it has booted; a running one is left alone. */
  start(node: string): Promise<void>
  /** Reboots a node from inside and returns when it is up with a new boot id. @throws LAB_NODE_STOPPED, LAB_NODE_NOT_BOOTED. */
  reboot(node: string): Promise<void>
  /** The id of the node's current boot. @throws LAB_NODE_STOPPED. */
  bootId(node: string): string
  /** Powers all nodes off and takes network and helper processes away; files stay, and `up` boots the same nodes again. @throws LAB_NOT_CLEAN, LAB_BUSY. */
  halt(): Promise<void>
  /** Removes the lab from the host, whatever is left of it; the cache stays. @throws LAB_NOT_CLEAN, LAB_BUSY. */
  down(): Promise<void>
}

/** A database writes its pages before it ends; what takes longer than this is killed. */
const haltTimeoutMs = 20_000

const lockTimeoutMs = 600_000
/** Names of the labs that exist under a directory, sorted. */
export function listLabs(directory: string): string[] {
  return readLabList(resolve(directory))
}

/**
 * A lab by its name, whether it exists or not; nothing is made before `up`.
 * @throws LAB_BAD_OPTION when the name is not allowed.
 */
export function openLab(options: LabOptions): Lab {
  if (!/^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$/.test(options.name)) {
    throw new LichenError('LAB_BAD_OPTION', `lab name "${options.name}": lower-case letters, digits and dashes, at most 32`)
  }
  const names = buildLabNames(options.directory, options.name)
  const cacheDirectory = resolve(options.cacheDirectory)
  const log = options.log ?? (() => undefined)
  const find = (node: string): NodeNames => buildNodeNames(names, node, findEntry(names, node).index)
  const locked = <T>(work: () => Promise<T>): Promise<T> => withLock(names, log, work)
  const onNode = async (node: string, work: (own: NodeNames) => Promise<void>): Promise<void> => {
    const own = find(node)
    await locked(() => work(own))
  }
  return {
    name: options.name,
    up: async (upOptions) => {
      // before anything is installed for it
      const checked = checkUp(upOptions)
      await prepareHost(log)
      return locked(() => raiseLab({ names, cacheDirectory, log, upstreamProxy: options.upstreamProxy }, checked))
    },
    list: () => viewLab(names),
    node: (node) => viewNode(names, findEntry(names, node)),
    exec: async (node, argv, execOptions) => (requireRoot(), execInNode(find(node), node, argv, execOptions)),
    copyIn: (node, from, to) => copyIntoNode(find(node), node, from, to),
    writeIn: (node, to, content, mode = 0o644) => writeIntoNode(find(node), node, to, content, mode),
    kill: (node) => onNode(node, async (own) => void (await killMachine(own))),
    powerOff: (node, timeoutMs = 20_000) =>
      onNode(node, async (own) => {
        if (!(await powerOffMachine(own, timeoutMs))) await killMachine(own)
      }),
    start: (node) => onNode(node, (own) => bootMachine(own, node)),
    reboot: (node) => onNode(node, (own) => rebootNode(own, node)),
    bootId: (node) => {
      const { leader } = findMachine(find(node))
      const bootId = leader && readBootId(leader)
      if (!bootId) throw new LichenError('LAB_NODE_STOPPED', `boot id of ${node}: the node is not running`)
      return bootId
    },
    halt: () => locked(() => haltLab(names, readCacheDirectory(names) ?? cacheDirectory, haltTimeoutMs)),
    down: async () => {
      requireRoot()
      if (!existsSync(resolve(options.directory))) mkdirSync(resolve(options.directory), { recursive: true })
      await withLock(names, log, () => removeLab(names, readCacheDirectory(names) ?? cacheDirectory), true)
    },
  }
}

/**
 * Deletes base images and packages.
 * @throws LAB_BUSY while a lab uses them.
 */
export async function purgeCache(cacheDirectory: string): Promise<void> {
  requireRoot()
  if (isCacheUsed(resolve(cacheDirectory))) throw new LichenError('LAB_BUSY', `${cacheDirectory} is in use by a running lab`)
  await rm(resolve(cacheDirectory), { recursive: true, force: true })
}

async function rebootNode(names: NodeNames, node: string): Promise<void> {
  const { leader } = findMachine(names)
  if (!leader) throw new LichenError('LAB_NODE_STOPPED', `reboot of ${node}: the node is not running`)
  const before = readBootId(leader)
  // the node may be gone before the program can say how it ended
  await enterLeader(leader, names.cgroup, ['systemctl', 'reboot'], {})
  await waitUntilBooted(names, node, { previousBootId: before })
}

function findEntry(names: LabNames, node: string): NodeEntry {
  const nodes = readState(names)?.nodes ?? []
  const entry = nodes.find((candidate) => candidate.name === node)
  if (entry) return entry
  throw new LichenError('LAB_UNKNOWN_NODE', `lab ${names.name} has no node "${node}" (it has ${nodes.map((each) => each.name).join(', ') || 'none'})`)
}

/** The cache that the lab was made with; a lab whose state is unreadable is removed all the same. */
function readCacheDirectory(names: LabNames): string | undefined {
  try {
    return readState(names)?.cacheDirectory
  } catch {
    return undefined
  }
}

async function withLock<T>(names: LabNames, log: (line: string) => void, work: () => Promise<T>, isLast = false): Promise<T> {
  requireRoot()
  mkdirSync(resolve(names.directory, '..'), { recursive: true })
  const lock = (await openLock(names.lockPath, 1000)) ?? (log(`waiting for another program that works on lab ${names.name}`), await openLock(names.lockPath, lockTimeoutMs))
  if (!lock) throw new LichenError('LAB_BUSY', `another program has been working on lab ${names.name} for ten minutes`)
  try {
    return await work()
  } finally {
    await lock.close({ remove: isLast })
  }
}
