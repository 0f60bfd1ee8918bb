/**
 * A cgroup of its own for each machine, in every hierarchy of the host: with it a node's memory can be limited, and every process of a
 * node can be found even when all its ancestors were killed. systemd need not run on the host, and is not asked.
 *
 * Layouts: unified (one cgroup2 mount, Debian 12's default), and the older one with a mount per controller, with or without a cgroup2 beside
 * it. In a cgroup2 tree a group with children holds no processes itself: nspawn makes `supervisor` and `payload` below ours, and
 * commands sent into the node live in `exec`.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

interface Hierarchy {
  readonly directory: string
  readonly isUnified: boolean
}

/** The cgroup mounts of the host that can be written, in the order they were mounted. */
export function readHierarchies(): Hierarchy[] {
  const found: Hierarchy[] = []
  for (const line of readFileSync('/proc/self/mountinfo', 'utf8').split('\n')) {
    const [mount, filesystem] = line.split(' - ')
    const fields = mount?.split(' ') ?? []
    const type = filesystem?.split(' ')[0]
    const isWritable = fields[5]?.split(',').includes('rw') === true
    if (isWritable && fields[4] && (type === 'cgroup' || type === 'cgroup2')) found.push({ directory: fields[4], isUnified: type === 'cgroup2' })
  }
  return found
}

/** Makes the cgroup in every hierarchy; gives back the `cgroup.procs` files a process joins to be in it. Asking twice is fine. */
export function openCgroup(name: string, memoryBytes: number | undefined): string[] {
  let isLimited = memoryBytes === undefined
  const joins: string[] = []
  for (const hierarchy of readHierarchies()) {
    const group = join(hierarchy.directory, name)
    if (hierarchy.isUnified) enableControllers(hierarchy.directory)
    try {
      mkdirSync(group, { recursive: true })
    } catch {
      continue // a hierarchy that is closed to us: the node shares it with the host
    }
    copyCpuset(hierarchy.directory, group)
    if (memoryBytes !== undefined && limitMemory(group, memoryBytes)) isLimited = true
    joins.push(join(group, 'cgroup.procs'))
  }
  if (!isLimited) throw new Error(`the memory of ${name} cannot be limited: this host has no cgroup memory controller that can be written`)
  return joins
}

/** The `cgroup.procs` files that a command sent into a running node joins. */
export function openExecCgroup(name: string): string[] {
  const joins: string[] = []
  for (const hierarchy of readHierarchies()) {
    const group = join(hierarchy.directory, name)
    if (!existsSync(group)) continue
    const leaf = hierarchy.isUnified ? join(group, 'exec') : group
    if (hierarchy.isUnified) mkdirSync(leaf, { recursive: true })
    joins.push(join(leaf, 'cgroup.procs'))
  }
  return joins
}

/** The same program, started inside the cgroups with these `cgroup.procs` files. */
export function joinCgroups(joins: readonly string[], argv: readonly string[]): [string, ...string[]] {
  const script = 'n=$1; shift; while [ "$n" -gt 0 ]; do echo $$ > "$1" || exit 125; shift; n=$((n-1)); done; exec "$@"'
  return ['sh', '-c', script, 'join-cgroups', String(joins.length), ...joins, ...argv]
}

/** Pids of every process in the cgroup or below it, in any hierarchy. */
export function readCgroupPids(name: string): number[] {
  const pids = new Set<number>()
  for (const directory of groupDirectories(name)) {
    for (const line of readText(join(directory, 'cgroup.procs')).split('\n')) if (Number(line) > 0) pids.add(Number(line))
  }
  return [...pids]
}

/** Removes the cgroup with everything below it, in every hierarchy. Gives back the directories that are still in use. */
export function removeCgroup(name: string): string[] {
  const left: string[] = []
  for (const directory of groupDirectories(name)) {
    try {
      rmdirSync(directory)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') left.push(directory)
    }
  }
  return left
}

/** Names of the cgroups at the top of any hierarchy that begin with `prefix`. */
export function findCgroups(prefix: string): string[] {
  const names = new Set<string>()
  for (const { directory } of readHierarchies()) {
    for (const name of readdirSync(directory)) if (name.startsWith(prefix)) names.add(name)
  }
  return [...names]
}

/** Deepest first, so that they can be removed in this order. */
function groupDirectories(name: string): string[] {
  const found: string[] = []
  const walk = (directory: string): void => {
    try {
      for (const entry of readdirSync(directory, { withFileTypes: true })) if (entry.isDirectory()) walk(join(directory, entry.name))
    } catch {
      return
    }
    found.push(directory)
  }
  for (const hierarchy of readHierarchies()) walk(join(hierarchy.directory, name))
  return found
}

/** A new cpuset has neither cores nor memory nodes, and no process can join it until it has both. */
function copyCpuset(parent: string, group: string): void {
  for (const file of ['cpuset.cpus', 'cpuset.mems']) {
    const isEmptyV1 = existsSync(join(parent, file)) && existsSync(join(group, 'cgroup.clone_children')) && readText(join(group, file)).trim() === ''
    if (isEmptyV1) writeFileSync(join(group, file), readText(join(parent, file)))
  }
  if (existsSync(join(parent, 'cpuset.cpus')) && existsSync(join(group, 'cgroup.clone_children'))) writeFileSync(join(group, 'cgroup.clone_children'), '1')
}

/** Sets the limit for memory and for memory with swap, so that a full node meets its end and does not push the host into swapping. */
function limitMemory(group: string, bytes: number): boolean {
  if (existsSync(join(group, 'memory.max'))) {
    writeFileSync(join(group, 'memory.max'), String(bytes))
    tryWrite(join(group, 'memory.swap.max'), '0')
    return true
  }
  if (!existsSync(join(group, 'memory.limit_in_bytes'))) return false
  tryWrite(join(group, 'memory.memsw.limit_in_bytes'), '-1')
  writeFileSync(join(group, 'memory.limit_in_bytes'), String(bytes))
  tryWrite(join(group, 'memory.memsw.limit_in_bytes'), String(bytes))
  return true
}

function enableControllers(directory: string): void {
  for (const controller of readText(join(directory, 'cgroup.controllers')).trim().split(' ').filter(Boolean)) {
    tryWrite(join(directory, 'cgroup.subtree_control'), `+${controller}`)
  }
}

function tryWrite(path: string, text: string): void {
  try {
    if (existsSync(path)) writeFileSync(path, text)
  } catch {
    // a controller that this kernel or this host does not let us have: the node goes without
  }
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}
