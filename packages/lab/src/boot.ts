/** Starting, waiting for, powering off and killing one machine. */
import { existsSync, readFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { LichenError } from '@lichen/core'
import { readCgroupPids } from './cgroup.js'
import { enterLeader } from './enter.js'
import { findMachine, findMachineProcesses, powerOffSignal, readMachineSpec, startSupervisor } from './machine.js'
import type { NodeNames } from './names.js'
import { connectLinks } from './network.js'
import { readProcess, signalProcess, waitUntilGone, type HostProcess } from './processes.js'

/** A bare node boots in one second; this is for a host with many of them booting, or a node full of services. */
export const bootTimeoutMs = 120_000

/**
 * Starts the machine if it does not run, and returns when its systemd has started everything ("running", or "degraded" when a unit failed).
 * @throws LAB_NODE_NOT_BOOTED after `timeoutMs`, or when the machine ends; the message has the last lines of its console.
 */
export async function bootMachine(names: NodeNames, node: string, timeoutMs = bootTimeoutMs): Promise<void> {
  let isStarted = false
  const start = async (): Promise<boolean> => {
    if (isStarted) return false
    isStarted = true
    // a machine that lost its supervisor would not come back from a reboot: it starts again under a new one
    if (findMachine(names).nspawn) await killMachine(names)
    startSupervisor(names)
    return true
  }
  if (!findMachine(names).supervisor) await start()
  // one that runs now may be powering off, and is started when it has ended
  await waitUntilBooted(names, node, { timeoutMs, startAgain: start })
}

export interface BootWait {
  /** Waits for another boot than this one. */
  readonly previousBootId?: string | undefined
  readonly timeoutMs?: number
  /** Called when the machine has ended; gives back whether it was started again. */
  readonly startAgain?: () => Promise<boolean>
}

/** Waits until the machine has booted. @throws LAB_NODE_NOT_BOOTED. */
export async function waitUntilBooted(names: NodeNames, node: string, options: BootWait): Promise<void> {
  const timeoutMs = options.timeoutMs ?? bootTimeoutMs
  const deadline = performance.now() + timeoutMs
  let startedAt = performance.now()
  while (performance.now() < deadline) {
    const { supervisor, leader } = findMachine(names)
    if (!supervisor) {
      // a moment passes between the start of a supervisor and its appearance with its own command line
      if (await options.startAgain?.()) startedAt = performance.now()
      else if (performance.now() - startedAt > 2000) throw notBooted(names, node, 'it ended while booting')
    }
    if (leader && readBootId(leader) !== options.previousBootId && hasSystemdSocket(leader)) {
      const state = await enterLeader(leader, names.cgroup, ['systemctl', 'is-system-running', '--wait'], { timeoutMs: deadline - performance.now() }).catch(() => undefined)
      if (/^(running|degraded)$/.test(state?.stdout.trim() ?? '')) return openLinks(names)
    }
    await delay(40)
  }
  throw notBooted(names, node, `it is not up after ${Math.round(timeoutMs / 1000)} s`)
}

/** The supervisor does the same, but perhaps a moment later; and whoever took a link off the bridge gets it back with the next `up`. */
async function openLinks(names: NodeNames): Promise<void> {
  const { bridge, links } = readMachineSpec(names.specPath)
  await connectLinks(bridge, links.map((link) => link.veth))
}

/** The boot id of the machine with this pid 1: a new one for each boot; undefined when it is gone. */
export function readBootId(leader: HostProcess): string | undefined {
  try {
    return readFileSync(`/proc/${leader.pid}/root/proc/sys/kernel/random/boot_id`, 'utf8').trim()
  } catch {
    return undefined
  }
}

/** Asks the machine to power off and waits; gives back whether it was off within `timeoutMs`. */
export async function powerOffMachine(names: NodeNames, timeoutMs: number): Promise<boolean> {
  const { supervisor, nspawn, leader } = findMachine(names)
  if (!nspawn || !leader) return !nspawn && !supervisor
  signalProcess(leader, powerOffSignal)
  // the supervisor too: were it still there, the next start would take the machine for one that boots
  return (await waitUntilGone(supervisor ? [supervisor, nspawn] : [nspawn], timeoutMs)).length === 0
}

/**
 * Power loss: kills the supervisor, nspawn and every process of the machine, whatever is left of them. Gives back pids that live on, which only
 * happens to a process that is stuck in the kernel.
 */
export async function killMachine(names: NodeNames): Promise<number[]> {
  let left: HostProcess[] = []
  for (let round = 0; round < 3; round++) {
    const members = readCgroupPids(names.cgroup).map(readProcess).filter((process) => process !== undefined)
    // the supervisor first: it could start the machine again
    const targets = [...findMachineProcesses(names), ...members]
    if (targets.length === 0) return []
    for (const target of targets) signalProcess(target, 'SIGKILL')
    left = await waitUntilGone(targets, 5000)
  }
  return left.map((process) => process.pid)
}

function hasSystemdSocket(leader: HostProcess): boolean {
  return existsSync(`/proc/${leader.pid}/root/run/systemd/private`)
}

function notBooted(names: NodeNames, node: string, found: string): LichenError {
  const console = existsSync(names.consolePath) ? readLastLines(readFileSync(names.consolePath, 'utf8')) : ''
  return new LichenError('LAB_NODE_NOT_BOOTED', `boot of ${node}: ${found}; console: ${console || 'empty'}`)
}

/** The last three lines that say something, as one. What a console has besides its lines are carriage returns, colours and movements of a cursor. */
export function readLastLines(console: string): string {
  const lines = console.replace(/\u001b\[[0-?]*[ -/]*[@-~]/g, '').split(/[\r\n]+/).map((line) => line.replace(/[\u0000-\u001f\u007f-\u009f]+/g, ' ').trim())
  return lines.filter((line) => line !== '').slice(-3).join(' | ')
}
