/** The disk of the machine. */
import { closeSync, existsSync, fdatasync, fdatasyncSync, fstatSync, fsyncSync, mkdirSync, openSync, readdirSync, readSync, renameSync, rmSync, statfsSync, writeSync, writevSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import type { Disk, DiskFile, OpenMode } from './disk.js'

const flags: { readonly [Mode in OpenMode]: string } = { read: 'r', replace: 'w+', keep: 'r+' }

/** The machine's own file systems, as a disk. */
export const nodeDisk: Disk = {
  makeDirectory(path) {
    // The topmost that was missing: the entry that a power cut could take, with all below it.
    const made = mkdirSync(path, { recursive: true, mode: 0o700 })
    if (made === undefined) return
    for (let directory = resolve(path); directory !== dirname(resolve(made)); ) syncNow((directory = dirname(directory)))
  },
  list: (path) => (existsSync(path) ? readdirSync(path) : []),
  open: (path, mode) => new NodeFile(openFile(path, mode)),
  rename: renameSync,
  remove: (path) => rmSync(path, { force: true }),
  exists: existsSync,
  async syncDirectory(path) {
    const directory = await open(path, 'r')
    try {
      await directory.sync()
    } finally {
      await directory.close()
    }
  },
  syncDirectoryNow: syncNow,
  freeBytes(path) {
    const { bavail, bsize } = statfsSync(path)
    return bavail * bsize
  },
}

function syncNow(path: string): void {
  const fd = openSync(path, 'r')
  try {
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
}

function openFile(path: string, mode: OpenMode): number {
  // Made first and then opened: with the flag that does both (`a+`) the kernel ignores the position of a write.
  if (mode === 'keep') closeSync(openSync(path, 'a', 0o600))
  return openSync(path, flags[mode], 0o600)
}

// 1 MiB at once, in one system call, out of little memory.
const zeros = Buffer.alloc(64 * 1024)
const zerosAtOnce: readonly Buffer[] = Array<Buffer>(16).fill(zeros)

class NodeFile implements DiskFile {
  readonly #fd: number

  constructor(fd: number) {
    this.#fd = fd
  }

  write(parts: readonly Buffer[], position: number): number {
    const [only] = parts
    if (parts.length === 1 && only) return writeSync(this.#fd, only, 0, only.length, position)
    return writevSync(this.#fd, parts, position)
  }

  fill(sizeBytes: number, position: number): number {
    const whole = Math.min(Math.floor(sizeBytes / zeros.length), zerosAtOnce.length)
    return whole > 0 ? writevSync(this.#fd, zerosAtOnce.slice(0, whole), position) : writeSync(this.#fd, zeros, 0, sizeBytes, position)
  }

  read(sizeBytes: number, position: number): Buffer {
    const bytes = Buffer.allocUnsafe(sizeBytes)
    return bytes.subarray(0, readSync(this.#fd, bytes, 0, sizeBytes, position))
  }

  sync(): Promise<void> {
    return new Promise((resolve, reject) => fdatasync(this.#fd, (error) => (error ? reject(error) : resolve())))
  }

  syncNow(): void {
    fdatasyncSync(this.#fd)
  }

  get sizeBytes(): number {
    return fstatSync(this.#fd).size
  }

  close(): void {
    closeSync(this.#fd)
  }
}
