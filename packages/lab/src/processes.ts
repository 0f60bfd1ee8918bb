/**
 * What runs on the host, read from /proc each time it is asked. The lab keeps no pid files: a process is ours when one of its arguments is
 * exactly a path that only this lab has, so a stale or reused pid can never be taken for one of ours.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'

/** A process, told apart from a later one with the same pid by its start time. */
export interface HostProcess {
  readonly pid: number
  readonly parentPid: number
  /** Clock ticks after boot at which it started. */
  readonly startTicks: number
  readonly argv: readonly string[]
}

/** The process with this pid, or undefined when there is none or it is dead and only waits to be reaped. */
export function readProcess(pid: number): HostProcess | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    if (fields[0] === 'Z' || fields[0] === 'X') return undefined
    const argv = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').slice(0, -1)
    return { pid, parentPid: Number(fields[1]), startTicks: Number(fields[19]), argv }
  } catch {
    return undefined
  }
}

/** All processes that live now. */
export function readProcesses(): HostProcess[] {
  const found: HostProcess[] = []
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry)) continue
    const process = readProcess(Number(entry))
    if (process) found.push(process)
  }
  return found
}

/** Whether this very process (not another with its pid) still lives. */
export function isAlive(process: HostProcess): boolean {
  return readProcess(process.pid)?.startTicks === process.startTicks
}

/** Sends a signal to this very process; a process that is gone is no error. */
export function signalProcess(target: HostProcess, signal: NodeJS.Signals | number): void {
  if (!isAlive(target)) return
  try {
    process.kill(target.pid, signal)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}

/** Waits until the processes are gone, at most `timeoutMs`. Gives back those that still live. */
export async function waitUntilGone(processes: readonly HostProcess[], timeoutMs: number): Promise<HostProcess[]> {
  const deadline = performance.now() + timeoutMs
  for (;;) {
    const left = processes.filter(isAlive)
    if (left.length === 0 || performance.now() >= deadline) return left
    await delay(20)
  }
}

/** The pid 1 of the pid namespace below an nspawn process, or undefined while it is still being set up. */
export function readLeader(nspawn: HostProcess): HostProcess | undefined {
  for (const pid of childPids(nspawn.pid)) {
    try {
      const nested = /^NSpid:\s*(.*)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]?.split(/\s+/) ?? []
      if (nested.length > 1 && nested.at(-1) === '1') return readProcess(pid)
    } catch {
      continue
    }
  }
  return undefined
}

function childPids(pid: number): number[] {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').filter(Boolean).map(Number)
  } catch {
    return readProcesses().filter((process) => process.parentPid === pid).map((process) => process.pid)
  }
}
