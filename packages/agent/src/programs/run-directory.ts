/**
 * What is kept of one supervised program: a directory with the supervisor's `state`, the files of output, and `base`, which says what of the output is given up already.
 *
 * 1. The name of the directory holds the version of this format and the boot: `1.<boot>.<name>`. An agent leaves alone what another version made and it cannot read.
 * 2. Positions count bytes from the beginning of an output, whatever of it is still there. A file that nobody needs any more is removed after `base` says where the
 *    next one begins.
 * 3. All of it is for the owner alone (0700, 0600): output is not masked yet.
 */
import { closeSync, existsSync, mkdirSync, openSync, readdirSync, readFileSync, readSync, rmdirSync, statSync, unlinkSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import type { OutputName, OutputPositions } from './programs.js'
import { parseState, stateBytes, type SupervisorState } from './supervisor-script.js'

/** Of stdout kept to the end when it is asked for: the most that an output value may be, and one byte more to see that it is longer. */
export const keptStartBytes = 64 * 1024 + 1
/** Numbers of two files and positions, with room to grow; a file of this size from the beginning, so that a full disk does not matter. */
const baseBytes = 256
const outputs: readonly OutputName[] = ['stdout', 'stderr']

interface Base {
  /** Number of the first file that counts. */
  file: number
  /** Position of its first byte. */
  position: number
}

type Bases = { readonly [Name in OutputName]: Base }

/** See the file header. */
export class RunDirectory {
  readonly path: string
  readonly #bases: Bases
  readonly #keepsStart: boolean

  private constructor(path: string, keepsStart: boolean, bases: Bases) {
    this.path = path
    this.#keepsStart = keepsStart
    this.#bases = bases
  }

  /** A new directory. Throws the error of the file system, with nothing left behind. */
  static make(path: string, keepsStart: boolean): RunDirectory {
    mkdirSync(path, { mode: 0o700 })
    try {
      const newlines = Buffer.alloc(stateBytes, '\n')
      writeFileSync(join(path, 'base'), ' '.repeat(baseBytes), { mode: 0o600 })
      for (const name of ['state', 'stdout.dd', 'stderr.dd']) writeFileSync(join(path, name), newlines, { mode: 0o600 })
      if (keepsStart) writeFileSync(join(path, 'start'), '', { mode: 0o600 })
      return new RunDirectory(path, keepsStart, { stdout: { file: 0, position: 0 }, stderr: { file: 0, position: 0 } })
    } catch (error) {
      removeRun(path)
      throw error
    }
  }

  /** The directory as an earlier run of the agent left it. */
  static open(path: string): RunDirectory {
    const start: Base = { file: 0, position: 0 }
    const text = existsSync(join(path, 'base')) ? readFileSync(join(path, 'base'), 'utf8').trim() : ''
    const bases = text === '' ? { stdout: { ...start }, stderr: { ...start } } : (JSON.parse(text) as { stdout: Base; stderr: Base })
    return new RunDirectory(path, existsSync(join(path, 'start')), bases)
  }

  readState(): SupervisorState {
    try {
      return parseState(readFileSync(join(this.path, 'state'), 'utf8'))
    } catch {
      return parseState('')
    }
  }

  /** A file that holds the program's input, open for reading, and gone from the directory. */
  openInput(text: string): number {
    const path = join(this.path, 'stdin')
    const fd = openSync(path, 'wx+', 0o600)
    unlinkSync(path)
    const bytes = Buffer.from(text, 'utf8')
    try {
      // With a position: the file's own stays at its beginning, from where the program reads.
      for (let written = 0; written < bytes.length; ) written += writeSync(fd, bytes, written, bytes.length - written, written)
      return fd
    } catch (error) {
      closeSync(fd)
      throw error
    }
  }

  /** The file in which the byte at this position lies, or will lie, and where that file begins: the first one, when it is gone already. */
  find(name: OutputName, position: number): { readonly file: number; readonly start: number } {
    let { file, position: start } = this.#bases[name]
    while (existsSync(this.file(name, file + 1))) {
      const next = start + statSync(this.file(name, file)).size
      if (next > position) break
      file++
      start = next
    }
    return { file, start }
  }

  file(name: OutputName, number: number): string {
    return join(this.path, `${name}.${number}`)
  }

  /** Gives back the space of files that end at or before these positions; the last file of an output stays. */
  release(before: OutputPositions): void {
    for (const name of outputs) this.#releaseOutput(name, before[name])
  }

  /** Up to `sizeBytes` of what is there of the output, from `position`. */
  read(name: OutputName, position: number, sizeBytes: number): Buffer {
    const pieces: Buffer[] = []
    let [at, left] = [position, sizeBytes]
    const take = (path: string, start: number): void => {
      const bytes = readFile(path, at - start, left)
      pieces.push(bytes)
      at += bytes.length
      left -= bytes.length
    }
    const base = this.#bases[name]
    if (name === 'stdout' && this.#keepsStart && at < base.position) take(join(this.path, 'start'), 0)
    let start = base.position
    for (let number = base.file; left > 0 && existsSync(this.file(name, number)); number++) {
      const size = statSync(this.file(name, number)).size
      if (at >= start && at < start + size) take(this.file(name, number), start)
      start += size
    }
    return Buffer.concat(pieces)
  }

  #releaseOutput(name: OutputName, before: number): void {
    const base = this.#bases[name]
    for (;;) {
      const [path, next] = [this.file(name, base.file), this.file(name, base.file + 1)]
      if (!existsSync(next)) return
      const size = statSync(path).size
      if (base.position + size > before) return
      if (name === 'stdout' && this.#keepsStart) this.#keepStart(base.position, path)
      base.file++
      base.position += size
      // In place, in one write: there may be no room for a second file.
      writeAt(join(this.path, 'base'), Buffer.from(JSON.stringify(this.#bases).padEnd(baseBytes), 'utf8'), 0)
      unlinkSync(path)
    }
  }

  /** Copies what the file has of the first bytes. At its place: a crash between this and `base` only makes it be copied again. */
  #keepStart(position: number, path: string): void {
    if (position >= keptStartBytes) return
    writeAt(join(this.path, 'start'), readFile(path, 0, keptStartBytes - position), position)
  }
}

function writeAt(path: string, bytes: Buffer, position: number): void {
  const fd = openSync(path, 'r+')
  try {
    writeSync(fd, bytes, 0, bytes.length, position)
  } finally {
    closeSync(fd)
  }
}

/** Removes the directory with what is in it. */
export function removeRun(path: string): void {
  if (!existsSync(path)) return
  for (const name of readdirSync(path)) unlinkSync(join(path, name))
  rmdirSync(path)
}

function readFile(path: string, position: number, sizeBytes: number): Buffer {
  const fd = openSync(path, 'r')
  try {
    const bytes = Buffer.allocUnsafe(sizeBytes)
    let size = 0
    for (let read = -1; read !== 0 && size < sizeBytes; size += read) read = readSync(fd, bytes, size, sizeBytes - size, position + size)
    return bytes.subarray(0, size)
  } finally {
    closeSync(fd)
  }
}
