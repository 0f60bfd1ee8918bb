/**
 * An append-only file of records with group commit. Owns one file descriptor and the bytes not yet handed to the kernel; knows nothing
 * of what the records mean.
 *
 * 1. A record is whole or absent: `u32 length, u32 CRC-32 of type and payload, u8 type, payload` (little endian; length counts type and payload).
 *    Reading stops at the first length of 0 or wrong CRC: that is the end, torn or not.
 * 2. `append` hands the record to the kernel before it returns, so it survives the death of this process; `flush` makes it survive the death of the machine.
 * 3. Any number of `flush` calls share one fdatasync; a flush covers every record appended before the call.
 * 4. The file is filled with zeros ahead of its end. That keeps its size still, so that fdatasync need not commit file system metadata, and it keeps
 *    room for results on a disk that has become full (`hasRoom`).
 */
import { closeSync, fdatasync, fdatasyncSync, openSync, readSync, writeSync } from 'node:fs'
import { crc32 } from 'node:zlib'

/** Bytes filled with zeros at a time: 1 MiB is some thousand small records, and is written in under a millisecond. */
const fillBytes = 1024 * 1024
/** Room kept for the results of what was accepted: several results with their diffs. */
const reservedBytes = 512 * 1024
const headerBytes = 9
/** Longer than any record (an order is bounded by gRPC's 4 MiB message limit); a larger length is garbage. */
const maxRecordBytes = 64 * 1024 * 1024
/** A batch of records up to this size is written at once. */
const zeros = Buffer.alloc(64 * 1024)

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
  readonly #fd: number
  /** End of the records. */
  #end: number
  /** End of what is filled with zeros. */
  #filled: number
  #waiters: Waiter[] = []
  #isSyncing = false
  #isClosed = false

  private constructor(fd: number, end: number, filled: number) {
    this.#fd = fd
    this.#end = end
    this.#filled = filled
  }

  /** A new, empty file at `path` (mode 0600); one that stands there is overwritten. */
  static create(path: string): RecordFile {
    const file = new RecordFile(openSync(path, 'w+', 0o600), 0, 0)
    file.#fill()
    return file
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
    writeWhole(this.#fd, record, this.#end)
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
      setImmediate(() => this.#sync())
    })
  }

  /** As `flush`, but blocks; for the short moment in which one file takes another's place. */
  flushNow(): void {
    fdatasyncSync(this.#fd)
  }

  /** The payload that lies there. */
  read(place: RecordPlace): Buffer {
    const payload = Buffer.allocUnsafe(place.sizeBytes)
    readSync(this.#fd, payload, 0, place.sizeBytes, place.offset)
    return payload
  }

  /** Closes the file. Flushes that wait are answered first. */
  async close(): Promise<void> {
    if (this.#isClosed) return
    await this.flush()
    this.#isClosed = true
    closeSync(this.#fd)
  }

  #sync(): void {
    const batch = this.#waiters
    this.#waiters = []
    fdatasync(this.#fd, (error) => {
      for (const waiter of batch) {
        if (error) waiter.reject(error)
        else waiter.resolve()
      }
      if (this.#waiters.length > 0) this.#sync()
      else this.#isSyncing = false
    })
  }

  /** Fills zeros up to `target` and a step further, as far as the disk allows. */
  #fill(target = 0): void {
    const until = Math.max(target, this.#end) + fillBytes
    try {
      while (this.#filled < until) this.#filled += writeSync(this.#fd, zeros, 0, Math.min(zeros.length, until - this.#filled), this.#filled)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error
    }
  }
}

function writeWhole(fd: number, bytes: Buffer, position: number): void {
  for (let written = 0; written < bytes.length; ) written += writeSync(fd, bytes, written, bytes.length - written, position + written)
}

/**
 * Calls `onRecord` for every whole record of the file, in order, and gives back how many bytes that are not zero follow the last one (a torn
 * record, or damage). Reads in pieces: the file may be larger than what should be in memory at once.
 */
export function readRecords(path: string, onRecord: (type: number, payload: Buffer) => void): { readonly droppedBytes: number } {
  const fd = openSync(path, 'r')
  try {
    return readAll(fd, onRecord)
  } finally {
    closeSync(fd)
  }
}

function readAll(fd: number, onRecord: (type: number, payload: Buffer) => void): { readonly droppedBytes: number } {
  const reader = new PieceReader(fd)
  for (;;) {
    const header = reader.peek(headerBytes)
    if (header.length < headerBytes) return { droppedBytes: reader.countNonZero() }
    const length = header.readUInt32LE(0)
    if (length === 0 || length > maxRecordBytes) return { droppedBytes: reader.countNonZero() }
    const record = reader.peek(8 + length)
    if (record.length < 8 + length || crc32(record.subarray(8)) !== record.readUInt32LE(4)) return { droppedBytes: reader.countNonZero() }
    onRecord(record[8]!, Buffer.from(record.subarray(headerBytes)))
    reader.skip(8 + length)
  }
}

/** Sequential reads with a look ahead. */
class PieceReader {
  readonly #fd: number
  #buffer: Buffer = Buffer.alloc(0)
  #position = 0

  constructor(fd: number) {
    this.#fd = fd
  }

  /** The next `size` bytes, fewer at the end of the file. */
  peek(size: number): Buffer {
    if (this.#buffer.length < size) {
      const piece = Buffer.allocUnsafe(Math.max(size - this.#buffer.length, 256 * 1024))
      const read = readSync(this.#fd, piece, 0, piece.length, this.#position)
      this.#position += read
      this.#buffer = Buffer.concat([this.#buffer, piece.subarray(0, read)])
    }
    return this.#buffer.subarray(0, size)
  }

  skip(size: number): void {
    this.#buffer = this.#buffer.subarray(size)
  }

  countNonZero(): number {
    let count = 0
    for (;;) {
      const piece = this.peek(64 * 1024)
      if (piece.length === 0) return count
      for (const byte of piece) if (byte !== 0) count++
      this.skip(piece.length)
    }
  }
}
