/** Child programs of the benchmarks: started, heard line by line, ended. */
import { type ChildProcess, spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'

const here = import.meta.dirname
const profile = process.env['LICHEN_BENCH_PROFILE']

/** Options of `node` under which a child writes a processor profile, when LICHEN_BENCH_PROFILE names a directory. */
export const profileOptions: readonly string[] = profile ? ['--cpu-prof', `--cpu-prof-dir=${profile}`] : []

export interface Child {
  readonly process: ChildProcess
  readonly pid: number
  /** The first JSON line (also of the past) that this is true for. Rejects when the child ends before. */
  hear(isIt: (line: any) => boolean): Promise<any>
  /** Forgets the lines so far. */
  forget(): void
  /** Resolves when it is gone. */
  end(signal: NodeJS.Signals): Promise<void>
}

/** A TypeScript program of this directory. */
export function startProgram(file: string, args: readonly string[]): Child {
  return watchChild(file, spawn(process.execPath, [...profileOptions, '--import=tsx', join(here, file), ...args], { stdio: ['pipe', 'pipe', 'inherit'] }))
}

/** A child with its standard output as a pipe; lines that are no JSON are heard as text. */
export function watchChild(name: string, child: ChildProcess): Child {
  const waiting = new Set<{ readonly isIt: (line: any) => boolean; readonly resolve: (line: any) => void; readonly reject: (error: Error) => void }>()
  let heard: any[] = []
  createInterface({ input: child.stdout! }).on('line', (text) => {
    const line: unknown = text.startsWith('{') ? JSON.parse(text) : text
    heard.push(line)
    for (const one of waiting) {
      if (!one.isIt(line)) continue
      waiting.delete(one)
      one.resolve(line)
    }
  })
  const isGone = (): boolean => child.exitCode !== null || child.signalCode !== null
  child.once('exit', (code, signal) => {
    for (const one of waiting) one.reject(new Error(`${name} ended with ${code ?? signal}`))
    waiting.clear()
  })
  return {
    process: child,
    pid: child.pid!,
    hear: (isIt) =>
      new Promise((resolve, reject) => {
        const found = heard.find(isIt)
        if (found !== undefined) return resolve(found)
        if (isGone()) return reject(new Error(`${name} has ended`))
        waiting.add({ isIt, resolve, reject })
      }),
    forget: () => void (heard = []),
    async end(signal) {
      if (isGone()) return
      const gone = new Promise((resolve) => child.once('exit', resolve))
      child.kill(signal)
      await gone
    },
  }
}

/** Seconds of processor time that the process has used, of all its threads. */
export function readCpuS(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').replace(/^.*\) /s, '').split(' ')
  // utime and stime, in ticks of 10 ms (proc(5); USER_HZ is 100 everywhere that Node.js runs).
  return (Number(fields[11]) + Number(fields[12])) / 100
}

/** Resident memory of the process in MiB. */
export const readRssMiB = (pid: number): number => Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) / 1024

/** Waits until it is true, or says what was waited for. */
export async function until(what: string, isTrue: () => boolean | Promise<boolean>, timeoutMs = 60_000): Promise<void> {
  const end = performance.now() + timeoutMs
  while (!(await isTrue())) {
    if (performance.now() > end) throw new Error(`${what}: not within ${timeoutMs} ms`)
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}
