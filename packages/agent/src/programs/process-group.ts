/** Knowing and ending the process groups that commands started: every process of ours leads a group of its own, so that its children end with it. */
import { readdirSync, readFileSync } from 'node:fs'
import { type Clock, pauseFor } from '@lichen/core'
import type { ProcessMark } from '../journal/records.js'

/** Time between the polite signal and the forced one. apt and databases need some seconds to stop cleanly; an operator's cancel should not take much longer. */
export const graceMs = 5000

/** Id of the current boot. */
export function readBootId(): string {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
  } catch {
    return 'unknown'
  }
}

/** The mark of a process that runs now; undefined when it is gone. */
export function markProcess(pid: number, bootId: string): ProcessMark | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    // The program's name (field 2) may hold spaces and brackets: count from behind its last bracket.
    const startTime = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]
    return startTime === undefined ? undefined : { pid, startTime, bootId }
  } catch {
    return undefined
  }
}

/** Sends the signal to the whole group; false when no process is left in it. */
export function signalGroup(pid: number, signal: 'SIGTERM' | 'SIGKILL' | 0): boolean {
  try {
    process.kill(-pid, signal)
    return true
  } catch (error) {
    // EPERM: it exists but may not be signalled (a process that changed its user, and we are not root).
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}

/** Ends the group: SIGTERM now, SIGKILL after the grace to what is left of it. Resolves when it is gone, or right after the forced signal. */
export async function endGroup(pid: number, clock: Clock): Promise<void> {
  const until = clock.elapsed() + graceMs
  signalGroup(pid, 'SIGTERM')
  while (signalGroup(pid, 0) && hasLiveMember(pid)) {
    if (clock.elapsed() > until) {
      signalGroup(pid, 'SIGKILL')
      return
    }
    await pauseFor(clock, 25).over
  }
}

/** False when only zombies are left in the group: signals still find those, and it is for the system's init to take them away, at its leisure. */
function hasLiveMember(group: number): boolean {
  return readdirSync('/proc').some((name) => {
    if (!/^\d+$/.test(name)) return false
    try {
      const stat = readFileSync(`/proc/${name}/stat`, 'utf8')
      const [state, , processGroup] = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
      return Number(processGroup) === group && state !== 'Z' && state !== 'X'
    } catch {
      return false
    }
  })
}

/** Ends a group that an earlier run of the agent left behind; false when the mark's group is long gone (or its number belongs to another process now). */
export async function endStrayGroup(mark: ProcessMark, bootId: string, clock: Clock): Promise<boolean> {
  if (mark.bootId !== bootId || !isSameGroup(mark)) return false
  await endGroup(mark.pid, clock)
  return true
}

/** True when the leader is the marked process, or is gone while others of its group live on (a group's number is not given away before the last has left). */
function isSameGroup(mark: ProcessMark): boolean {
  const leader = markProcess(mark.pid, mark.bootId)
  return leader ? leader.startTime === mark.startTime : signalGroup(mark.pid, 0)
}
