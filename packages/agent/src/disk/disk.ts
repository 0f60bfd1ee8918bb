/**
 * Port: the disk under journal, spool and identity. Small, and honest about when something is on the disk: what was written and not synced survives the
 * death of this process, not that of the machine. Calls block, as those of a file system do; only `sync` takes long enough to be waited for.
 *
 * Errors are those of the file system, with its codes (ENOSPC, EIO, ENOENT…).
 */

/** `read`: must be there. `replace`: made, or emptied when it is there. `keep`: made when it is not there; its content stays. */
export type OpenMode = 'read' | 'replace' | 'keep'

/** An open file. Positions and sizes in bytes. */
export interface DiskFile {
  /** Writes the parts one after the other from `position`; gives back how many bytes the disk took: fewer than given when it became full. */
  write(parts: readonly Buffer[], position: number): number
  /** Writes zeros from `position`; gives back how many the disk took: fewer than `sizeBytes` when it became full, and at most as many as are written at once. */
  fill(sizeBytes: number, position: number): number
  /** The bytes from `position`: fewer than `sizeBytes` at the end of the file. */
  read(sizeBytes: number, position: number): Buffer
  /** Resolves when everything written before the call is on the disk. */
  sync(): Promise<void>
  /** As `sync`, but blocks. */
  syncNow(): void
  /** Bytes from its beginning to its end. */
  readonly sizeBytes: number
  close(): void
}

export interface Disk {
  /** Makes the directory and its parents where they are missing, for the owner alone; durably. */
  makeDirectory(path: string): void
  /** Names of what is in the directory, in no order; none when there is no such directory. */
  list(path: string): string[]
  /** Files are made for the owner alone (mode 0600). */
  open(path: string, mode: OpenMode): DiskFile
  /** Puts one file in another's place, in one step; durable after `syncDirectory`. */
  rename(from: string, to: string): void
  /** Removes a file; nothing happens when there is none. */
  remove(path: string): void
  exists(path: string): boolean
  /** Resolves when what was made, renamed and removed in the directory is on the disk. */
  syncDirectory(path: string): Promise<void>
  /** As `syncDirectory`, but blocks. */
  syncDirectoryNow(path: string): void
  /** What may still be written on the file system of this directory. */
  freeBytes(path: string): number
}

/** Whether this is the error of a disk, or a share of it, that is full. */
export const isNoSpace = (error: unknown): boolean => ['ENOSPC', 'EDQUOT'].includes((error as NodeJS.ErrnoException | undefined)?.code ?? '')

const pieceBytes = 64 * 1024

/** The whole file. Throws ENOENT when there is none. */
export function readWhole(disk: Disk, path: string): Buffer {
  const file = disk.open(path, 'read')
  try {
    const pieces: Buffer[] = []
    for (let position = 0; ; ) {
      const piece = file.read(pieceBytes, position)
      if (piece.length === 0) return Buffer.concat(pieces)
      pieces.push(piece)
      position += piece.length
    }
  } finally {
    file.close()
  }
}

/** Puts `content` at the path durably, in one step: who reads it sees the old or the new content, also after a power cut. */
export function replaceDurably(disk: Disk, path: string, content: Buffer): void {
  const file = disk.open(`${path}.new`, 'replace')
  try {
    for (let written = 0; written < content.length; ) written += file.write([content.subarray(written)], written)
    file.syncNow()
  } finally {
    file.close()
  }
  disk.rename(`${path}.new`, path)
  disk.syncDirectoryNow(path.slice(0, path.lastIndexOf('/')) || '/')
}
