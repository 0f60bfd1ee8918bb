/**
 * Removing a lab, whatever state it is in: state file lost, supervisors and nspawn killed, a builder dead half-way. Nothing is taken from pid files;
 * everything is found by names and paths that only this lab has (`names.ts`).
 *
 * 1. Processes first, then what they hold: links, cgroups, mounts, files. The directory goes last, so that an interrupted removal can be repeated.
 * 2. At the end it looks again and fails if anything is left; it never says "removed" on trust.
 */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { basename, join } from 'node:path'
import { LichenError } from '@lichen/core'
import { stopAptCacher } from './apt-cacher.js'
import { findCgroups, readCgroupPids, removeCgroup } from './cgroup.js'
import { closeFirewall } from './firewall.js'
import { powerOffSignal } from './machine.js'
import { cgroupPrefix, type LabNames } from './names.js'
import { closeNetwork, findLinks } from './network.js'
import { readLeader, readProcess, readProcesses, signalProcess, waitUntilGone, type HostProcess } from './processes.js'
import { runProgram } from './program.js'
import { isCacheUsed } from './proxy.js'

/** Time for a node to power off before it is killed. A bare node takes half a second; its files are deleted anyway. */
const powerOffTimeoutMs = 2000

/** What nspawn keeps outside the machine's directory. */
const nspawnRunDirectories = ['/run/systemd/nspawn/propagate', '/run/systemd/nspawn/unix-export']

/**
 * Ends everything of a lab that runs or is set up on the host: machines (in order, killed after `powerOffMs`), helper processes, network, firewall
 * rules, cgroups and mounts. Files stay, so that the same nodes can be booted again.
 * @throws LAB_NOT_CLEAN when something is left.
 */
export async function haltLab(names: LabNames, cacheDirectory: string, powerOffMs: number): Promise<void> {
  await stopLab(names, powerOffMs)
  await stopAptCacher(cacheDirectory, () => isCacheUsed(cacheDirectory))
  const left = findRunning(names)
  if (left.length > 0) throw new LichenError('LAB_NOT_CLEAN', `stopping lab ${names.name}: still there: ${left.join(', ')}`)
}

async function stopLab(names: LabNames, powerOffMs: number): Promise<void> {
  await powerOffAll(names, powerOffMs)
  for (let round = 0; round < 5; round++) {
    const living = findLabProcesses(names)
    if (living.length === 0) break
    for (const process of living) signalProcess(process, 'SIGKILL')
    await waitUntilGone(living, 5000)
  }
  await closeNetwork(names)
  await closeFirewall(names.bridge)
  for (const cgroup of findCgroups(cgroupPrefix(names))) removeCgroup(cgroup)
  for (const mount of findMounts(names)) await runProgram(['umount', '--lazy', mount])
}

/**
 * Removes all of a lab from the host; a lab that does not exist is no error. Its package cache is stopped when no other lab uses it.
 * @throws LAB_NOT_CLEAN when something could not be removed.
 */
export async function removeLab(names: LabNames, cacheDirectory: string): Promise<void> {
  await stopLab(names, powerOffTimeoutMs)
  // stays within the file system: were something of the host still mounted in a node, it would not be deleted
  await Promise.all(removable(names).map((path) => runProgram(['rm', '-rf', '--one-file-system', path])))
  await runProgram(['rm', '-rf', '--one-file-system', names.directory])
  await stopAptCacher(cacheDirectory, () => isCacheUsed(cacheDirectory))
  const left = findRemains(names)
  if (left.length > 0) throw new LichenError('LAB_NOT_CLEAN', `removing lab ${names.name}: still there: ${left.join(', ')}`)
}

/** Everything of a lab that is on the host now, in words; empty when there is nothing. */
export function findRemains(names: LabNames): string[] {
  return [
    ...findRunning(names),
    ...removable(names).map((path) => `directory ${path}`),
    ...(existsSync(names.directory) ? [`directory ${names.directory}`] : []),
  ]
}

function findRunning(names: LabNames): string[] {
  return [
    ...findLabProcesses(names).map((process) => `process ${process.pid} (${process.argv.slice(0, 3).join(' ')})`),
    ...findLinks(names).map((link) => `network link ${link}`),
    ...findCgroups(cgroupPrefix(names)).map((cgroup) => `cgroup ${cgroup}`),
    ...findMounts(names).map((mount) => `mount ${mount}`),
  ]
}

async function powerOffAll(names: LabNames, timeoutMs: number): Promise<void> {
  const running = findLabProcesses(names).filter((process) => basename(process.argv[0] ?? '') === 'systemd-nspawn')
  const leaders = running.map(readLeader).filter((leader) => leader !== undefined)
  for (const leader of leaders) signalProcess(leader, powerOffSignal)
  // nspawn ends a moment after its machine and then leaves nothing behind
  await waitUntilGone(leaders.length > 0 ? running : [], timeoutMs)
}

/** Supervisors, package proxy and nspawn by their arguments, and whatever is in a cgroup of the lab. */
function findLabProcesses(names: LabNames): HostProcess[] {
  const inside = `${names.directory}/`
  const programs = ['supervisor.js', 'package-proxy.js']
  const byArguments = readProcesses().filter(
    ({ argv }) =>
      (programs.includes(basename(argv[1] ?? '')) && argv[2]?.startsWith(inside)) || argv.some((argument) => argument.startsWith(`--directory=${inside}`)),
  )
  const known = new Set(byArguments.map((process) => process.pid))
  const byCgroup = findCgroups(cgroupPrefix(names))
    .flatMap(readCgroupPids)
    .filter((pid) => !known.has(pid))
    .map(readProcess)
    .filter((process) => process !== undefined)
  return [...byArguments, ...byCgroup]
}

/** Mount points below the lab's directory, innermost first. */
function findMounts(names: LabNames): string[] {
  return readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map((line) => (line.split(' ')[4] ?? '').replace(/\\(\d{3})/g, (_, octal: string) => String.fromCharCode(parseInt(octal, 8))))
    .filter((path) => path.startsWith(`${names.directory}/`))
    .sort((a, b) => b.length - a.length)
}

/** What can be deleted side by side: each node's own directory, and what nspawn keeps in /run for its machine. */
function removable(names: LabNames): string[] {
  const nodes = existsSync(names.nodesDirectory) ? readdirSync(names.nodesDirectory).map((node) => join(names.nodesDirectory, node)) : []
  const machines = nspawnRunDirectories
    .filter((directory) => existsSync(directory))
    .flatMap((directory) => readdirSync(directory).filter((entry) => entry.startsWith(`${names.id}-`)).map((entry) => join(directory, entry)))
  return [...nodes, ...nodes.flatMap(findImageLock), ...machines]
}

/** nspawn locks a root directory also by its inode; the file stays when it is killed. */
function findImageLock(nodeDirectory: string): string[] {
  const root = statSync(join(nodeDirectory, 'root'), { throwIfNoEntry: false })
  const path = root && `/run/systemd/nspawn/locks/inode-${root.dev}:${root.ino}`
  return path && existsSync(path) ? [path] : []
}
