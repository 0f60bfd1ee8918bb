/**
 * Names and paths of a lab, all derived from its directory and its name, so that what a lab left behind can be found
 * and removed even when its state file is lost.
 *
 * 1. Interface names have at most 15 characters (IFNAMSIZ): `vb-` + id (7) + `-` + index (up to 9999) is 15, and so is id + `-` + index + `-` + number of a
 *    further link (up to 99).
 * 2. Two labs have different ids unless directory and name are the same (24 bits of a hash, checked against bridges by `openBridge`).
 */
import { createHash } from 'node:crypto'
import { join, resolve } from 'node:path'

/** Names and paths of one lab. */
export interface LabNames {
  readonly name: string
  /** `l` and six hexadecimal digits. */
  readonly id: string
  readonly bridge: string
  readonly directory: string
  readonly statePath: string
  readonly lockPath: string
  readonly nodesDirectory: string
  readonly proxySpecPath: string
  readonly proxyLogPath: string
}

/** Names and paths of one node of a lab. */
export interface NodeNames {
  readonly machine: string
  /** The host's end of `host0`, the link that every node has. */
  readonly veth: string
  readonly cgroup: string
  readonly directory: string
  readonly root: string
  readonly specPath: string
  readonly consolePath: string
}

/** Names and paths of the lab `name` kept under `baseDirectory`; the same input gives the same names for ever. */
export function buildLabNames(baseDirectory: string, name: string): LabNames {
  const base = resolve(baseDirectory)
  const directory = join(base, name)
  const id = 'l' + createHash('sha256').update(`${base}\0${name}`).digest('hex').slice(0, 6)
  return {
    name,
    id,
    bridge: `${id}-br`,
    directory,
    statePath: join(directory, 'lab.json'),
    lockPath: join(base, `${name}.lock`),
    nodesDirectory: join(directory, 'nodes'),
    proxySpecPath: join(directory, 'package-proxy.json'),
    proxyLogPath: join(directory, 'package-proxy.log'),
  }
}

/** Names and paths of a node; `index` is the node's number in the lab, from 1, which never changes. */
export function buildNodeNames(lab: LabNames, node: string, index: number): NodeNames {
  const machine = `${lab.id}-${index}`
  const directory = join(lab.nodesDirectory, node)
  return {
    machine,
    veth: `${vethPrefix(lab)}${index}`,
    cgroup: `${cgroupPrefix(lab)}${index}`,
    directory,
    root: join(directory, 'root'),
    specPath: join(directory, 'machine.json'),
    consolePath: join(directory, 'console.log'),
  }
}

/** The host's end of a further link of a node; `number` is its place among the node's links, from 1. */
export function buildLinkName(lab: LabNames, index: number, number: number): string {
  return `${lab.id}-${index}-${number}`
}

/** What the names of the host's ends of `host0` begin with, in all nodes of a lab. The name is nspawn's: `vb-` and the machine. */
export function vethPrefix(lab: LabNames): string {
  return `vb-${lab.id}-`
}

/** Whether this is the name of the host's end of a further link, of any node of the lab. */
export function isLinkName(lab: LabNames, name: string): boolean {
  return name.startsWith(`${lab.id}-`) && /^\d+-\d+$/.test(name.slice(lab.id.length + 1))
}

/** What the names of all cgroups of a lab's nodes begin with. */
export function cgroupPrefix(lab: LabNames): string {
  return `lichen-lab-${lab.id}-`
}
