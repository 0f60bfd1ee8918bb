/** Processes of this machine, as /proc tells of them. */
import { readFileSync, readdirSync, readlinkSync } from 'node:fs'

export interface ProcessEntry {
  readonly pid: number
  readonly parent: number
  /** `R`, `S`, `T`, `Z`, … (proc(5)). */
  readonly state: string
  readonly argv: readonly string[]
  /** HOME of its environment; undefined when it has none or may not be looked at. */
  readonly home: string | undefined
}

function readProcess(pid: number): ProcessEntry | undefined {
  try {
    // After the name in brackets, which may hold anything: state, then the parent.
    const [state, parent] = readFileSync(`/proc/${pid}/stat`, 'utf8').replace(/^.*\) /s, '').split(' ')
    const argv = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').slice(0, -1)
    return { pid, parent: Number(parent), state: state ?? '', argv, home: readHome(pid) }
  } catch {
    return undefined
  }
}

function readHome(pid: number): string | undefined {
  try {
    return readFileSync(`/proc/${pid}/environ`, 'latin1').split('\0').find((entry) => entry.startsWith('HOME='))?.slice('HOME='.length)
  } catch {
    return undefined
  }
}

/** All processes that can be read, zombies left out. */
export const listProcesses = (): ProcessEntry[] =>
  readdirSync('/proc').filter((name) => /^\d+$/.test(name)).flatMap((name) => readProcess(Number(name)) ?? []).filter(({ state }) => state !== 'Z' && state !== 'X')

/** Processes whose HOME is the directory or below it: whatever a run starts has one of its directories as HOME, and so has whatever that starts. */
export const listAtHome = (directory: string): ProcessEntry[] => listProcesses().filter(({ home, pid }) => pid !== process.pid && home !== undefined && (home === directory || home.startsWith(`${directory}/`)))

/** Sends the signal; false when there is no such process any more. */
export function signalProcess(pid: number, signal: NodeJS.Signals | 0): boolean {
  try {
    process.kill(pid, signal)
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false
    throw error
  }
}

/** When the process began, in clock ticks since the boot: with its id it names a process for ever. Undefined when it is gone. */
export function readStartTime(pid: number): string | undefined {
  try {
    return readFileSync(`/proc/${pid}/stat`, 'utf8').replace(/^.*\) /s, '').split(' ')[19]
  } catch {
    return undefined
  }
}

/** The network namespace of a process, e.g. `net:[4026531840]`. */
export const readNetworkNamespace = (pid: number | 'self'): string => readlinkSync(`/proc/${pid}/ns/net`)
