/** The disk of the machine. */
import { closeSync, existsSync, fdatasync, fdatasyncSync, fsyncSync, ftruncateSync, mkdirSync, openSync, readdirSync, readSync, renameSync, rmSync, writeSync, writevSync } from 'node:fs'
import type { Disk, DiskFile, OpenMode } from './disk.js'

const flags: { readonly [Mode in OpenMode]: string } = { read: 'r', replace: 'w+', keep: 'r+' }

/** The machine's own file systems, as a disk. */
export const nodeDisk: Disk = {
  makeDirectory: (path) => void mkdirSync(path, { recursive: true, mode: 0o700 }),
  list: (path) => (existsSync(path) ? readdirSync(path) : []),
  open: (path, mode) => new NodeFile(openFile(path, mode)),
  rename: renameSync,
  remove: (path) => rmSync(path, { force: true }),
  exists: existsSync,
  syncDirectory(path) {
    const fd = openSync(path, 'r')
    try {
      fsyncSync(fd)
    } finally {
      closeSync(fd)
    }
  },
}

function openFile(path: string, mode: OpenMode): number {
  // Made first and then opened: with the flag that does both (`a+`) the kernel ignores the position of a write.
  if (mode === 'keep') closeSync(openSync(path, 'a', 0o600))
  return openSync(path, flags[mode], 0o600)
}

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

  truncate(sizeBytes: number): void {
    ftruncateSync(this.#fd, sizeBytes)
  }

  close(): void {
    closeSync(this.#fd)
  }
}
