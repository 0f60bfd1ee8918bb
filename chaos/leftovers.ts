/**
 * The directory of a run, and what killed runs left: their processes, mounts, networks and directories. Each run has a directory with a file that names its
 * process; when that is gone, the next run clears up after it.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { labDirectoryOf, openLabOf } from './machine.js'
import { pause } from './patience.js'
import { listAtHome, readStartTime, signalProcess } from './processes.js'
import { removeNetwork } from './network.js'

export interface RunDirectory {
  /** Three letters or digits that no other run has now. */
  readonly id: string
  readonly path: string
}

/** Base images and packages, shared with the demo and the end-to-end tests. */
export const labCacheDirectory = process.env['LICHEN_LAB_CACHE'] ?? '/var/cache/lichen-lab'

const userOf = (): number => process.getuid?.() ?? 0
const base = join(tmpdir(), `lichen-chaos-${userOf()}`)

/** A new directory of this run. */
export function makeRunDirectory(): RunDirectory {
  mkdirSync(base, { recursive: true })
  for (;;) {
    const id = Math.floor(Math.random() * 36 ** 3).toString(36).padStart(3, '0')
    const path = join(base, id)
    try {
      mkdirSync(path)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EEXIST') continue
      throw error
    }
    writeFileSync(join(path, 'owner'), `${process.pid} ${readStartTime(process.pid)}`)
    return { id, path }
  }
}

function isOwned(path: string): boolean {
  try {
    const [pid, startTime] = readFileSync(join(path, 'owner'), 'utf8').split(' ')
    return readStartTime(Number(pid)) === startTime
  } catch {
    return false
  }
}

/** Ends every process of the run, whatever started it. @throws when one does not go */
export async function endProcesses(path: string): Promise<void> {
  for (let round = 0; round < 200; round++) {
    const left = listAtHome(path)
    if (left.length === 0) return
    // Again and again: what was starting another process at that moment shows in the next round.
    for (const { pid } of left) signalProcess(pid, 'SIGKILL')
    await pause(25)
  }
  throw new Error(`processes of ${path} do not end: ${listAtHome(path).map(({ pid, argv }) => `${pid} ${argv.slice(0, 3).join(' ')}`).join('; ')}`)
}

function unmountBelow(path: string): void {
  const mounts = readFileSync('/proc/self/mountinfo', 'utf8').split('\n').map((line) => line.split(' ')[4] ?? '').filter((mount) => mount.startsWith(`${path}/`))
  for (const mount of mounts.sort((a, b) => b.length - a.length)) spawnSync('umount', ['--lazy', mount])
}

/** Ends and removes all that there is of a run, apart from its directory when `keepsFiles`. */
export async function removeRun({ id, path }: RunDirectory, keepsFiles: boolean): Promise<void> {
  if (existsSync(labDirectoryOf(path))) await openLabOf(path, labCacheDirectory).down()
  await endProcesses(path)
  unmountBelow(path)
  if (userOf() === 0) removeNetwork(id)
  rmSync(join(path, 'owner'), { force: true })
  if (!keepsFiles) rmSync(path, { recursive: true, force: true })
}

/** Clears up after runs that were killed. Directories that a run kept on purpose (it failed) stay. */
export async function removeLeftovers(): Promise<void> {
  mkdirSync(base, { recursive: true })
  for (const id of readdirSync(base)) {
    const path = join(base, id)
    if (isOwned(path)) continue
    const isKept = !readdirSync(path).includes('owner')
    if (!isKept) await removeRun({ id, path }, false)
  }
}

export type Teardown = (undo: () => Promise<void> | void) => void

/**
 * What `work` gives, done in a directory of its own, with everything of it gone afterwards, whatever happened; first what killed runs left. `isKept`: whether the files stay.
 * @throws what `work` throws, with the place of its files, which stay unless `signal` was aborted
 */
export async function withRunDirectory<T>(signal: AbortSignal, work: (run: RunDirectory, teardown: Teardown) => Promise<{ readonly value: T; readonly isKept: boolean }>): Promise<T> {
  await removeLeftovers()
  const run = makeRunDirectory()
  const undo: (() => Promise<void> | void)[] = []
  let isKept = !signal.aborted
  try {
    const { value, isKept: keeps } = await work(run, (step) => void undo.push(step))
    isKept = keeps
    return value
  } catch (error) {
    isKept = !signal.aborted
    throw new Error(`${error instanceof Error ? error.message : String(error)}${isKept ? `; its files are in ${run.path}` : ''}`, { cause: error })
  } finally {
    for (const step of undo.reverse()) await step()
    await removeRun(run, isKept)
  }
}
