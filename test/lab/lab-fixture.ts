import { execFileSync } from 'node:child_process'
import { accessSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import { buildLabNames, openLab, type Lab } from '@lichen/lab'

/** Base image and packages are shared by all runs, as users share them: only the first run ever pays for them. */
export const cacheDirectory = process.env['LICHEN_LAB_CACHE'] ?? '/var/cache/lichen-lab'

/** Why real nodes cannot be made here, or false. With CI=true nothing real is skipped: the test then fails instead. */
export function skipReason(): string | false {
  if (process.env['CI'] === 'true') return false
  if (process.getuid?.() !== 0) return 'real nodes need root'
  if (!hasProgram('systemd-nspawn') && !hasProgram('apt-get')) return 'no systemd-nspawn, and no apt to install it with'
  return false
}

/** A directory for labs and a lab in it, removed after the test whatever happened. */
export function startLab(t: Test, name: string, directory = makeDirectory(t)): { lab: Lab; directory: string } {
  const lab = openLab({ name, directory, cacheDirectory, log: (line) => t.comment(line) })
  t.teardown(() => lab.down())
  return { lab, directory }
}

/** A temporary directory, removed after the labs in it. */
export function makeDirectory(t: Test): string {
  const directory = mkdtempSync(join(tmpdir(), 'lichen-lab-test-'))
  // teardowns run last first: the directory goes after the labs in it
  t.teardown(() => rmSync(directory, { recursive: true, force: true }))
  return directory
}

/** What is on the host of a lab, found without the lab's own code: by reading /proc, the links, the cgroups, the mounts and the files. */
export function findOnHost(directory: string, name: string): Record<'processes' | 'links' | 'cgroups' | 'mounts' | 'files', string[]> {
  const { id } = buildLabNames(directory, name)
  const labDirectory = join(directory, name)
  const cgroups = readFileSync('/proc/self/mountinfo', 'utf8').split('\n').filter((line) => / - cgroup2? /.test(line)).map((line) => line.split(' ')[4] ?? '')
  const nspawn = '/run/systemd/nspawn/propagate'
  return {
    processes: readdirSync('/proc').filter((pid) => /^\d+$/.test(pid) && readQuietly(`/proc/${pid}/cmdline`).includes(`${labDirectory}/`)),
    links: execFileSync('ip', ['-brief', 'link'], { encoding: 'utf8' }).split('\n').filter((line) => line.includes(id)),
    cgroups: cgroups.flatMap((mount) => readdirSync(mount).filter((entry) => entry.includes(id)).map((entry) => join(mount, entry))),
    mounts: readFileSync('/proc/self/mountinfo', 'utf8').split('\n').filter((line) => line.includes(`${labDirectory}/`)),
    files: [
      ...(existsSync(directory) ? readdirSync(directory).filter((entry) => entry.startsWith(name)) : []),
      ...(existsSync(nspawn) ? readdirSync(nspawn).filter((entry) => entry.includes(id)) : []),
    ],
  }
}

/** The answer of `findOnHost` when nothing of a lab is there. */
export const nothing = { processes: [], links: [], cgroups: [], mounts: [], files: [] }

/** Pids of this lab whose command line has this word in its program or script name. */
export function findPids(directory: string, name: string, word: string): number[] {
  return findOnHost(directory, name)
    .processes.filter((pid) => readQuietly(`/proc/${pid}/cmdline`).split('\0').slice(0, 2).some((argument) => argument.includes(word)))
    .map(Number)
}

function readQuietly(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}

function hasProgram(name: string): boolean {
  return ['/usr/bin', '/usr/sbin', '/bin', '/sbin'].some((directory) => {
    try {
      accessSync(join(directory, name))
      return true
    } catch {
      return false
    }
  })
}
