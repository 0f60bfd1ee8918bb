/**
 * Where log chunks wait until the engine has them. Owns the files `spool/<number>.log` in the data directory.
 *
 * 1. A chunk is in a file (handed to the kernel) before it is sent: so the death of the agent loses no line that it had closed into a chunk, and the
 *    positions it goes on with afterwards are never below what the engine has. A power cut may lose the last lines; the journal's results it cannot.
 * 2. Small and large logs share segments of 8 MiB: no file is made for an attempt. A segment is deleted when every chunk in it is acknowledged.
 * 3. On a full disk chunks stay in memory (up to 4 MiB, then the log is cut with a marker); the agent's death then loses them.
 */
import { join } from 'node:path'
import { crc32 } from 'node:zlib'
import type { AttemptKey, LogStream } from '@lichen/protocol'
import type { Disk, DiskFile } from '../disk/disk.js'
import type { OnWrite } from '../durable-write.js'
import type { Log } from '../log.js'
import { readRecords } from '../journal/record-file.js'
import type { LinePlace } from './line-stream.js'

/** Large enough that bulk output makes few files, small enough that a slow attempt holds little of others' space. */
const segmentBytes = 8 * 1024 * 1024
/** Log that may stand in memory alone while the disk is full. */
const memoryOnlyBytes = 4 * 1024 * 1024
const chunkRecord = 1

/** What a chunk of log says of itself. */
export interface ChunkHead {
  readonly key: AttemptKey
  /** Bytes of the attempt's log before it. */
  readonly position: number
  readonly command: number
  readonly stream: LogStream
  /** When its first line was read, ms since the epoch. */
  readonly at: number
  /** Up to where the output of the running program is in this and earlier chunks: an agent that is started again goes on from here. */
  readonly source?: LogSource | undefined
}

/** Places in the outputs of one supervised program. */
export interface LogSource {
  /** Name of the program. */
  readonly run: string
  readonly stdout: LinePlace
  readonly stderr: LinePlace
  /** Bytes of commands' output that passed in this attempt. */
  readonly passed: number
}

/** Where a chunk lies; `memory` when the disk was full. */
export interface ChunkPlace {
  readonly segment: Segment | undefined
  readonly offset: number
  readonly sizeBytes: number
  readonly memory: Buffer | undefined
}

interface Segment {
  readonly path: string
  readonly file: DiskFile
  sizeBytes: number
  /** Chunks in it that are not acknowledged. */
  waiting: number
}

export interface SpoolOptions {
  readonly directory: string
  readonly disk: Disk
  readonly onWrite?: OnWrite | undefined
  readonly log: Log
}

/** See the file header. */
export class Spool {
  readonly #options: SpoolOptions
  /** Every segment whose file is open. */
  readonly #segments = new Set<Segment>()
  #current: Segment | undefined
  #nextNumber = 1
  #memoryBytes = 0

  private constructor(options: SpoolOptions) {
    this.#options = options
  }

  /** The spool of this directory (made with mode 0700 when missing). `onChunk` is called for each chunk an earlier run left, in the order they were written. */
  static open(options: SpoolOptions, onChunk: (head: ChunkHead, place: ChunkPlace) => void): Spool {
    const { directory, disk } = options
    disk.makeDirectory(directory)
    const spool = new Spool(options)
    const numbers = disk.list(directory).map((name) => Number(/^(\d+)\.log$/.exec(name)?.[1])).filter((number) => number > 0)
    for (const number of numbers.sort((a, b) => a - b)) {
      spool.#load(join(directory, `${number}.log`), onChunk)
      spool.#nextNumber = number + 1
    }
    return spool
  }

  /** The place of the chunk; undefined when the disk is full and memory for it too. */
  append(head: ChunkHead, parts: readonly Buffer[], sizeBytes: number, inMemory = false): ChunkPlace | undefined {
    if (inMemory) return this.#keepInMemory(undefined, parts, sizeBytes)
    const text = Buffer.from(JSON.stringify(head), 'utf8')
    const start = Buffer.allocUnsafe(9 + 2 + text.length)
    start.writeUInt32LE(1 + 2 + text.length + sizeBytes, 0)
    start[8] = chunkRecord
    start.writeUInt16LE(text.length, 9)
    text.copy(start, 11)
    let crc = crc32(start.subarray(8))
    for (const part of parts) crc = crc32(part, crc)
    start.writeUInt32LE(crc, 4)
    try {
      return this.#write(start, parts, sizeBytes)
    } catch (error) {
      return this.#keepInMemory(error, parts, sizeBytes)
    }
  }

  /** The bytes of the chunk. */
  read(place: ChunkPlace): Buffer {
    if (place.memory) return place.memory
    return place.segment!.file.read(place.sizeBytes, place.offset)
  }

  /** The chunk is acknowledged (or its log is given up). */
  release(place: ChunkPlace): void {
    if (place.memory) this.#memoryBytes -= place.sizeBytes
    const { segment } = place
    if (!segment || --segment.waiting > 0) return
    if (segment !== this.#current) this.#remove(segment)
    else if (segment.sizeBytes > 64 * 1024) {
      // Nothing waits any more: the segment starts over, so that a quiet node holds no old output.
      segment.file.truncate(0)
      segment.sizeBytes = 0
    }
  }

  /** Closes the files; what waits stays in them. */
  close(): void {
    for (const segment of this.#segments) segment.file.close()
    this.#segments.clear()
    this.#current = undefined
  }

  #write(start: Buffer, parts: readonly Buffer[], sizeBytes: number): ChunkPlace {
    const segment = this.#segmentFor()
    const length = start.length + sizeBytes
    this.#options.onWrite?.('spool.chunk:before')
    const written = segment.file.write([start, ...parts], segment.sizeBytes)
    this.#options.onWrite?.('spool.chunk:after')
    if (written < length) throw Object.assign(new Error('the disk took only a part'), { code: 'ENOSPC' })
    const place: ChunkPlace = { segment, offset: segment.sizeBytes + start.length, sizeBytes, memory: undefined }
    segment.sizeBytes += length
    segment.waiting++
    return place
  }

  #keepInMemory(error: unknown, parts: readonly Buffer[], sizeBytes: number): ChunkPlace | undefined {
    if (this.#memoryBytes === 0 && error !== undefined) this.#options.log.error({ directory: this.#options.directory, error: String(error) }, 'log lines cannot be written to the spool; they are kept in memory')
    if (this.#memoryBytes + sizeBytes > memoryOnlyBytes) return undefined
    this.#memoryBytes += sizeBytes
    return { segment: undefined, offset: 0, sizeBytes, memory: Buffer.concat(parts) }
  }

  #segmentFor(): Segment {
    const current = this.#current
    if (current && current.sizeBytes < segmentBytes) return current
    const path = join(this.#options.directory, `${this.#nextNumber++}.log`)
    this.#current = { path, file: this.#options.disk.open(path, 'replace'), sizeBytes: 0, waiting: 0 }
    this.#segments.add(this.#current)
    if (current && current.waiting === 0) this.#remove(current)
    return this.#current
  }

  #remove(segment: Segment): void {
    this.#segments.delete(segment)
    segment.file.close()
    this.#options.disk.remove(segment.path)
  }

  #load(path: string, onChunk: (head: ChunkHead, place: ChunkPlace) => void): void {
    const { disk } = this.#options
    const segment: Segment = { path, file: disk.open(path, 'read'), sizeBytes: 0, waiting: 0 }
    this.#segments.add(segment)
    let offset = 0
    readRecords(disk, path, (_type, payload) => {
      const headBytes = payload.readUInt16LE(0)
      const head = JSON.parse(payload.toString('utf8', 2, 2 + headBytes)) as ChunkHead
      const sizeBytes = payload.length - 2 - headBytes
      segment.waiting++
      onChunk(head, { segment, offset: offset + 9 + 2 + headBytes, sizeBytes, memory: undefined })
      offset += 9 + payload.length
    })
    segment.sizeBytes = offset
    if (segment.waiting === 0) this.#remove(segment)
  }
}
