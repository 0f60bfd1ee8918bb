/**
 * An append-only file of records with group commit. Owns one open file and the bytes not yet handed to the kernel; knows nothing
 * of what the records mean.
 *
 * 1. A record is whole or absent: `u32 length, u32 CRC-32 of type and payload, u8 type, payload` (little endian; length counts type and payload).
 *    Reading stops at the first length of 0 or wrong CRC: that is the end, torn or not.
 * 2. `append` hands the record to the kernel before it returns, so it survives the death of this process; `flush` makes it survive the death of the machine.
 * 3. Any number of `flush` calls share one fdatasync; a flush covers every record appended before the call.
 * 4. The file is filled with zeros ahead of its end. That keeps its size still, so that fdatasync need not commit file system metadata, and it keeps
 *    room for results on a disk that has become full (`hasRoom`).
 */
import { crc32 } from 'node:zlib'
import type { Clock } from '@lichen/core'
import { type Disk, type DiskFile, isNoSpace } from '../disk/disk.js'

/** Bytes filled with zeros at a time: 1 MiB is some thousand small records, and is written in under a millisecond. */
const fillBytes = 1024 * 1024
/** Room kept for the results of what was accepted: several results with their diffs. */
const reservedBytes = 512 * 1024
const headerBytes = 9
/** Longer than any record (an order is bounded by gRPC's 4 MiB message limit); a larger length is garbage. */
const maxRecordBytes = 64 * 1024 * 1024
/** Read at once. A journal or segment is mostly zeros, which are not worth more. */
const pieceBytes = 64 * 1024
const zeros = Buffer.alloc(pieceBytes)

/** Where the payload of a record lies in its file. */
export interface RecordPlace {
  readonly offset: number
  readonly sizeBytes: number
}

interface Waiter {
  resolve(): void
  reject(error: unknown): void
}

/** See the file header. */
export class RecordFile {
  readonly #file: DiskFile
  readonly #clock: Clock
  /** End of the records. */
  #end: number
  /** End of what is filled with zeros. */
  #filled: number
  #waiters: Waiter[] = []
  #isSyncing = false
  #isClosed = false

  private constructor(file: DiskFile, clock: Clock, end: number, filled: number) {
    this.#file = file
    this.#clock = clock
    this.#end = end
    this.#filled = filled
  }

  /** A new, empty file at `path`; one that stands there is overwritten. */
  static create(disk: Disk, path: string, clock: Clock): RecordFile {
    const file = new RecordFile(disk.open(path, 'replace'), clock, 0, 0)
    file.#fill()
    return file
  }

  /** The file at `path`, to be written on behind its records, which end there (`readRecords`). Needs no room on the disk. */
  static resume(disk: Disk, path: string, clock: Clock, endBytes: number): RecordFile {
    const file = disk.open(path, 'keep')
    const { sizeBytes } = file
    // What a power cut left behind a torn record must not come back when another record takes the place of that one.
    for (let at = endBytes; at < sizeBytes; ) at += file.fill(sizeBytes - at, at)
    file.syncNow()
    return new RecordFile(file, clock, endBytes, sizeBytes)
  }

  /** Bytes of records. */
  get sizeBytes(): number {
    return this.#end
  }

  /** True while a record of this size could be appended and the reserve for results would still stand. */
  hasRoom(sizeBytes: number): boolean {
    const needed = this.#end + sizeBytes + headerBytes + reservedBytes
    if (needed > this.#filled) this.#fill(needed)
    return needed <= this.#filled
  }

  /**
   * Where the record's payload now lies. It survives the death of this process, not of the machine: see `flush`.
   * Throws the error of the file system (ENOSPC, EIO); nothing is appended then.
   */
  append(type: number, payload: Buffer): RecordPlace {
    const record = Buffer.allocUnsafe(headerBytes + payload.length)
    record.writeUInt32LE(payload.length + 1, 0)
    record[8] = type
    payload.copy(record, headerBytes)
    record.writeUInt32LE(crc32(record.subarray(8)), 4)
    if (this.#end + record.length > this.#filled) this.#fill(this.#end + record.length)
    writeWhole(this.#file, record, this.#end)
    const place = { offset: this.#end + headerBytes, sizeBytes: payload.length }
    this.#end += record.length
    return place
  }

  /** Resolves when everything appended so far is on the disk. Rejects with the error of fdatasync. */
  flush(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#waiters.push({ resolve, reject })
      if (this.#isSyncing) return
      this.#isSyncing = true
      // One turn of the event loop later: what arrives together is flushed together.
      this.#clock.soon(() => this.#sync())
    })
  }

  /** As `flush`, but blocks; for the short moment in which one file takes another's place. */
  flushNow(): void {
    this.#file.syncNow()
  }

  /** The payload that lies there. */
  read(place: RecordPlace): Buffer {
    return this.#file.read(place.sizeBytes, place.offset)
  }

  /** Closes the file. Flushes that wait are answered first. */
  async close(): Promise<void> {
    if (this.#isClosed) return
    await this.flush()
    this.#isClosed = true
    this.#file.close()
  }

  /** Closes a file that nobody needs. */
  abandon(): void {
    this.#isClosed = true
    this.#file.close()
  }

  #sync(): void {
    const batch = this.#waiters
    this.#waiters = []
    const next = (): void => {
      if (this.#waiters.length > 0) this.#sync()
      else this.#isSyncing = false
    }
    this.#file.sync().then(
      () => {
        for (const waiter of batch) waiter.resolve()
        next()
      },
      (error: unknown) => {
        for (const waiter of batch) waiter.reject(error)
        next()
      },
    )
  }

  /** Fills zeros up to `target` and a step further, as far as the disk allows. */
  #fill(target = 0): void {
    const until = Math.max(target, this.#end) + fillBytes
    try {
      while (this.#filled < until) this.#filled += this.#file.fill(until - this.#filled, this.#filled)
    } catch (error) {
      if (!isNoSpace(error)) throw error
    }
  }
}

function writeWhole(file: DiskFile, bytes: Buffer, position: number): void {
  for (let written = 0; written < bytes.length; ) written += file.write([written === 0 ? bytes : bytes.subarray(written)], position + written)
}

/** Gets each record and where its payload lies; false ends the reading, and the record does not count. */
export type OnRecord = (type: number, payload: Buffer, place: RecordPlace) => boolean

/**
 * Calls `onRecord` for every whole record of the file, in order, and gives back where the last one ends: what follows is zeros, a torn record, or what was there before.
 * Reads in pieces: the file may be larger than what should be in memory at once.
 */
export function readRecords(disk: Disk, path: string, onRecord: OnRecord): number {
  const file = disk.open(path, 'read')
  try {
    const reader = new PieceReader(file, 0)
    for (let end = 0; ; ) {
      const header = reader.peek(headerBytes)
      if (header.length < headerBytes) return end
      const length = header.readUInt32LE(0)
      if (length === 0 || length > maxRecordBytes) return end
      const record = reader.peek(8 + length)
      if (record.length < 8 + length || crc32(record.subarray(8)) !== record.readUInt32LE(4)) return end
      if (!onRecord(record[8]!, Buffer.from(record.subarray(headerBytes)), { offset: end + headerBytes, sizeBytes: length - 1 })) return end
      reader.skip(8 + length)
      end += 8 + length
    }
  } finally {
    file.close()
  }
}

/** How many bytes from there to the file's end are not zero: those of a torn record, or of damage. */
export function countTornBytes(disk: Disk, path: string, from: number): number {
  const file = disk.open(path, 'read')
  try {
    return new PieceReader(file, from).countNonZero()
  } finally {
    file.close()
  }
}

/** Sequential reads with a look ahead. */
class PieceReader {
  readonly #file: DiskFile
  #buffer: Buffer = Buffer.alloc(0)
  #position: number

  constructor(file: DiskFile, from: number) {
    this.#file = file
    this.#position = from
  }

  /** The next `size` bytes, fewer at the end of the file. */
  peek(size: number): Buffer {
    if (this.#buffer.length < size) {
      const piece = this.#file.read(Math.max(size - this.#buffer.length, pieceBytes), this.#position)
      this.#position += piece.length
      this.#buffer = this.#buffer.length === 0 ? piece : Buffer.concat([this.#buffer, piece])
    }
    return this.#buffer.subarray(0, size)
  }

  skip(size: number): void {
    this.#buffer = this.#buffer.subarray(size)
  }

  countNonZero(): number {
    let count = 0
    for (;;) {
      const piece = this.peek(pieceBytes)
      if (piece.length === 0) return count
      if (!piece.equals(zeros.subarray(0, piece.length))) for (const byte of piece) if (byte !== 0) count++
      this.skip(piece.length)
    }
  }
}
