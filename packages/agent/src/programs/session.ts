/** Knowing and ending everything that a supervised program started: it all lives in the session that the supervisor leads, outside of the supervisor's own group. */
import { readdirSync, readFileSync } from 'node:fs'
import { type Clock, pauseFor } from '@lichen/core'
import { graceMs } from './process-group.js'

interface Member {
  readonly pid: number
  readonly group: number
}

/** The living processes of the session, but for those of its leader's group: the supervisor itself and what keeps the output. */
export function listMembers(session: number): Member[] {
  const members: Member[] = []
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue
    try {
      const stat = readFileSync(`/proc/${name}/stat`, 'latin1')
      // The program's name (field 2) may hold spaces and brackets: count from behind its last bracket.
      const [state, , group, ofSession] = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
      if (Number(ofSession) === session && Number(group) !== session && state !== 'Z' && state !== 'X') members.push({ pid: Number(name), group: Number(group) })
    } catch {
      // It is gone meanwhile.
    }
  }
  return members
}

/**
 * Ends what runs in the session: SIGTERM to each group in it, SIGKILL after the grace to what is left. Resolves when nothing is left, or right after the forced signal.
 * `isStarting`: true while the supervisor has not come to start the program; it is waited for, as a program that is started after this call would never be ended.
 */
export async function endSession(session: number, clock: Clock, isStarting: () => boolean): Promise<void> {
  const until = clock.elapsed() + graceMs
  const told = new Set<number>()
  for (;;) {
    const members = listMembers(session)
    if (members.length === 0 && !isStarting()) return
    if (clock.elapsed() > until) {
      for (const { pid } of members) signal(pid, 'SIGKILL')
      return
    }
    for (const { group } of members) {
      if (!told.has(group)) signal(-group, 'SIGTERM')
      told.add(group)
    }
    await pauseFor(clock, 25).over
  }
}

/** Sends the signal to the process, or to a group when negative; nothing happens when it is gone, or not ours. */
export function signal(pid: number, name: 'SIGTERM' | 'SIGKILL'): void {
  try {
    process.kill(pid, name)
  } catch {
    // ESRCH, EPERM
  }
}
