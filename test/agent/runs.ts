/** What commands leave running when their agent has stopped: tests end it. */
import { readdirSync, readFileSync } from 'node:fs'

/** Pids of the sessions whose supervisor keeps its files under this directory, with everything in them. */
export function listRuns(directory: string): number[] {
  const processes = readdirSync('/proc').filter((name) => /^\d+$/.test(name)).flatMap((name) => readProcess(Number(name)))
  const sessions = new Set(processes.filter(({ command }) => command.includes(`lichen-run\0${directory}/`)).map(({ session }) => session))
  return processes.filter(({ session }) => sessions.has(session)).map(({ pid }) => pid)
}

/** Ends all of it. */
export function endRuns(directory: string): void {
  for (const pid of listRuns(directory)) {
    try {
      process.kill(pid, 'SIGKILL')
    } catch {
      // It has ended meanwhile.
    }
  }
}

function readProcess(pid: number): { pid: number; session: number; command: string }[] {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
    return [{ pid, session: Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[3]), command: readFileSync(`/proc/${pid}/cmdline`, 'latin1') }]
  } catch {
    return []
  }
}
