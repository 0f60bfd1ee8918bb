/**
 * One node as a machine of the host: its specification file, the nspawn command line made of it, and the processes that run it now,
 * found in /proc by paths that only this node has.
 */
import { readFileSync } from 'node:fs'
import { basename } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { NodeNames } from './names.js'
import { startDetached } from './program.js'
import { readLeader, readProcesses, type HostProcess } from './processes.js'

/** A link beside `host0`. */
export interface MachineLink {
  /** The interface in the node. */
  readonly name: string
  /** The host's end, on the bridge while the machine runs. */
  readonly veth: string
}

/** What the supervisor needs to run a machine; kept as JSON beside the root directory. */
export interface MachineSpec {
  readonly machine: string
  readonly hostname: string
  readonly root: string
  readonly bridge: string
  readonly veth: string
  readonly cgroup: string
  readonly memoryBytes: number | null
  readonly isPrivileged: boolean
  readonly links: readonly MachineLink[]
}

/** The processes of a machine; each is undefined when it does not run. */
export interface MachineProcesses {
  readonly supervisor: HostProcess | undefined
  readonly nspawn: HostProcess | undefined
  /** The node's pid 1. */
  readonly leader: HostProcess | undefined
}

/** nspawn exits with this code when the machine asked for a reboot and nobody but its caller can start it again. */
export const rebootExitCode = 133

/** SIGRTMIN+4, which systemd as pid 1 takes as "power off" (systemd(1), SIGNALS); real-time signals have no names in Node.js. */
export const powerOffSignal = 38

const supervisorPath = fileURLToPath(new URL('./supervisor.js', import.meta.url))

/** The specification in this file. */
export function readMachineSpec(path: string): MachineSpec {
  const spec = JSON.parse(readFileSync(path, 'utf8')) as Omit<MachineSpec, 'links'> & Partial<MachineSpec>
  // a node that an older version made has no links
  return { ...spec, links: spec.links ?? [] }
}

/** The nspawn command line of a machine (systemd-nspawn(1)). */
export function buildNspawnArguments(spec: MachineSpec): string[] {
  return [
    'systemd-nspawn',
    '--quiet',
    '--boot',
    // the host need not run systemd: no registration, no unit; the cgroup is the one we made
    '--register=no',
    '--keep-unit',
    '--settings=no',
    `--directory=${spec.root}`,
    `--machine=${spec.machine}`,
    `--hostname=${spec.hostname}`,
    `--network-bridge=${spec.bridge}`,
    ...spec.links.map((link) => `--network-veth-extra=${link.veth}:${link.name}`),
    '--resolv-conf=off',
    '--timezone=off',
    '--link-journal=no',
    // a console that the node can print on and nobody types into: what it prints ends in the console file
    '--console=read-only',
    ...(spec.isPrivileged ? privilegedArguments : []),
  ]
}

/** What a kubelet (/dev/kmsg, keyrings for runc, bpf) and OpenStack's network agents (/dev/net/tun) need on top. */
const privilegedArguments = ['--capability=all', '--system-call-filter=@keyring bpf', '--bind=/dev/kmsg', '--bind=/dev/net/tun']

/** The processes that run the machine now. */
export function findMachine(names: NodeNames): MachineProcesses {
  const processes = readProcesses()
  const supervisor = processes.find((candidate) => isSupervisorOf(candidate, names.specPath))
  const candidates = processes.filter((candidate) => isNspawnOf(candidate, names.root))
  // while it starts, nspawn has a child with the same command line: the parent of the others is the one
  const nspawn = candidates.find((candidate) => !candidates.some((other) => other.pid === candidate.parentPid))
  return { supervisor, nspawn, leader: nspawn && readLeader(nspawn) }
}

/** Every process that starts, supervises or is this machine's nspawn, whatever its parent: what must be gone when the node is removed. */
export function findMachineProcesses(names: NodeNames): HostProcess[] {
  return readProcesses().filter((candidate) => isSupervisorOf(candidate, names.specPath) || candidate.argv.includes(`--directory=${names.root}`))
}

function isSupervisorOf(candidate: HostProcess, specPath: string): boolean {
  return basename(candidate.argv[1] ?? '') === 'supervisor.js' && candidate.argv[2] === specPath
}

function isNspawnOf(candidate: HostProcess, root: string): boolean {
  return basename(candidate.argv[0] ?? '') === 'systemd-nspawn' && candidate.argv.includes(`--directory=${root}`)
}

/** Starts the detached supervisor of a machine, which starts the machine. What both print goes to the console file. */
export function startSupervisor(names: NodeNames): void {
  startDetached([process.execPath, supervisorPath, names.specPath], names.consolePath)
}
