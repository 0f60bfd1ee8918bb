/**
 * Where log chunks wait until the engine has them. Owns the files `spool/<number>.log` in the data directory: segments.
 *
 * 1. A chunk is in a file (handed to the kernel) when `append` gives back its place, so the death of the agent does not lose it. It survives the death of the machine
 *    after the next `sync`; before that it must not be sent: a spool that began again below what the engine has would have its new lines taken for old ones.
 * 2. Segments are filled with zeros when they are made, and used in place. So they need no room on a disk that has become full: what programs print goes on being kept as
 *    long as there is a `spare`, and when there is none they wait (`hasRoom`). What comes all the same goes into what is left of the last segment.
 * 3. A segment in which nothing waits any more is used again, or removed. Each use has a number, higher than all before it, and goes on with another one after a restart; every
 *    record carries it, also the one that says that the segment is empty. So chunks are read back in the order in which they were written, and a record with a lower number than the one
 *    before it is of an earlier use: it does not count.
 */
import { join } from 'node:path'
import { crc32 } from 'node:zlib'
import type { AttemptKey, LogStream } from '@lichen/protocol'
import type { Disk, DiskFile } from '../disk/disk.js'
import type { OnWrite } from '../durable-write.js'
import type { Log } from '../log.js'
import { readRecords } from '../journal/record-file.js'
import type { LinePlace } from './line-stream.js'

/** Two are always there, so twice this is taken from the disk of a node that says nothing. Half of it doubles the open files of an engine that is away (256 for 1 GiB). */
const largestSegmentBytes = 4 * 1024 * 1024
/** On small disks. Below it, what several programs print at the moment in which they are made to wait would not fit. */
const smallestSegmentBytes = 512 * 1024
/** Kept for markers that say what was cut, in the last segment that there is room for: some dozens of them. */
const markerBytes = 16 * 1024
const chunkRecord = 1
/** Takes the place of a segment's first record when nothing waits in it: the number of its use, a u32. */
const emptyRecord = 2
/** The number of a segment in a record's head, at most. */
const numberBytes = 32

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

/** Where a chunk lies. */
export interface ChunkPlace {
  readonly segment: Segment
  readonly offset: number
  readonly sizeBytes: number
}

interface Segment {
  readonly path: string
  readonly file: DiskFile
  readonly capacityBytes: number
  /** Of this use of it. */
  number: number
  endBytes: number
  /** Chunks in it that are not released. */
  waiting: number
  isDirty: boolean
  isSyncing: boolean
}

export interface SpoolOptions {
  readonly directory: string
  readonly disk: Disk
  readonly onWrite?: OnWrite | undefined
  readonly log: Log
  /** Of log that may wait: a sixteenth of it is a segment, within bounds. */
  readonly limitBytes: number
}

/** A record's head as it is stored; `use`: the number of the segment's use. */
type StoredHead = ChunkHead & { readonly use: number }

/** A segment as an earlier run left it. */
interface FoundSegment {
  readonly segment: Segment
  readonly chunks: readonly { readonly use: number; readonly head: ChunkHead; readonly place: ChunkPlace }[]
}

/** See the file header. */
export class Spool {
  readonly #options: SpoolOptions
  /** Every segment that chunks are in, and the one that is written to. */
  readonly #segments = new Set<Segment>()
  #current: Segment | undefined
  #spare: Segment | undefined
  #nextNumber = 1
  /** A segment was made since the last sync: so was its name. */
  #hasNewNames = false
  #isFullSaid = false

  private constructor(options: SpoolOptions) {
    this.#options = options
  }

  /** The spool of this directory (made with mode 0700 when missing). `onChunk` is called for each chunk an earlier run left, in the order they were written. */
  static open(options: SpoolOptions, onChunk: (head: ChunkHead, place: ChunkPlace) => void): Spool {
    const { directory, disk } = options
    disk.makeDirectory(directory)
    const spool = new Spool(options)
    const found = disk.list(directory).flatMap((name) => spool.#load(name))
    spool.#goOn(found.filter(({ chunks }) => chunks.length > 0).map(({ segment }) => segment))
    for (const { segment } of found.filter(({ chunks }) => chunks.length === 0)) spool.#retire(segment)
    for (const { head, place } of found.flatMap(({ chunks }) => chunks).sort((a, b) => a.use - b.use)) onChunk(head, place)
    // As with what is in them: an earlier run may have died before their names were synced.
    spool.#hasNewNames = found.length > 0
    spool.makeRoom()
    // Two from the beginning, as far as the disk allows.
    if (spool.#current === undefined) spool.#advance()
    return spool
  }

  /** True while programs may be read from: a segment is ready for when the present one is full, or most of that is left. */
  get hasRoom(): boolean {
    return this.#spare !== undefined || (this.#current !== undefined && this.#current.endBytes < this.#current.capacityBytes / 2)
  }

  /** True when a chunk of this size would be taken, and a marker before it. */
  hasRoomFor(sizeBytes: number): boolean {
    return this.#spare !== undefined || (this.#current !== undefined && this.#current.endBytes + sizeBytes + 2 * markerBytes <= this.#current.capacityBytes)
  }

  /** Makes a spare segment if there is none and the disk has room for it. */
  makeRoom(): void {
    if (this.#spare !== undefined) return
    this.#spare = this.#make()
    if (this.#spare === undefined) this.#warn('ENOSPC: no segment can be made')
    else this.#isFullSaid = false
  }

  /** The place of the chunk; undefined when there is no room for it. `isMarker`: it may take the last of the room. */
  append(head: ChunkHead, parts: readonly Buffer[], sizeBytes: number, isMarker = false): ChunkPlace | undefined {
    const text = JSON.stringify(head)
    for (;;) {
      const segment = this.#segmentFor(11 + Buffer.byteLength(text) + numberBytes + sizeBytes, isMarker)
      if (segment === undefined) return undefined
      try {
        return this.#write(segment, text, parts, sizeBytes)
      } catch (error) {
        // It should not need room, but may (copy-on-write file systems): nothing more goes into it. What was there stays readable.
        this.#warn(String(error))
        segment.endBytes = segment.capacityBytes
      }
    }
  }

  /** The bytes of the chunk. */
  read({ segment, offset, sizeBytes }: ChunkPlace): Buffer {
    return segment.file.read(sizeBytes, offset)
  }

  /** True when the chunk lies in the segment that is written to. */
  isInCurrent(place: ChunkPlace): boolean {
    return place.segment === this.#current
  }

  /** The chunk is not needed any more. */
  release({ segment }: ChunkPlace): void {
    segment.waiting--
    this.#retireIfEmpty(segment)
  }

  /** Resolves when every chunk that was appended before the call is on the disk. One call at a time. Rejects with the error of the file system. */
  async sync(): Promise<void> {
    const { disk, directory } = this.#options
    const dirty = [...this.#segments].filter((segment) => segment.isDirty)
    const directorySync = this.#hasNewNames ? disk.syncDirectory(directory) : undefined
    this.#hasNewNames = false
    for (const segment of dirty) {
      segment.isDirty = false
      segment.isSyncing = true
    }
    try {
      await Promise.all([...dirty.map((segment) => segment.file.sync()), directorySync])
    } finally {
      for (const segment of dirty) {
        segment.isSyncing = false
        this.#retireIfEmpty(segment)
      }
    }
  }

  /** Closes the files; what waits stays in them. No `sync` may be under way. */
  close(): void {
    for (const segment of this.#segments) segment.file.close()
    this.#spare?.file.close()
    this.#segments.clear()
    this.#current = undefined
    this.#spare = undefined
  }

  #write(segment: Segment, head: string, parts: readonly Buffer[], sizeBytes: number): ChunkPlace {
    const text = Buffer.from(`${head.slice(0, -1)},"use":${segment.number}}`, 'utf8')
    const start = Buffer.allocUnsafe(9 + 2 + text.length)
    start.writeUInt32LE(1 + 2 + text.length + sizeBytes, 0)
    start[8] = chunkRecord
    start.writeUInt16LE(text.length, 9)
    text.copy(start, 11)
    let crc = crc32(start.subarray(8))
    for (const part of parts) crc = crc32(part, crc)
    start.writeUInt32LE(crc, 4)
    const length = start.length + sizeBytes
    this.#options.onWrite?.('spool.chunk:before')
    const written = segment.file.write([start, ...parts], segment.endBytes)
    this.#options.onWrite?.('spool.chunk:after')
    segment.isDirty = true
    if (written < length) throw new Error('the disk took only a part of a chunk')
    const place: ChunkPlace = { segment, offset: segment.endBytes + start.length, sizeBytes }
    segment.endBytes += length
    segment.waiting++
    return place
  }

  /** The segment that a record of this size goes into; undefined when there is none. */
  #segmentFor(sizeBytes: number, isMarker: boolean): Segment | undefined {
    const hasRoom = (kept: number): boolean => this.#current !== undefined && this.#current.endBytes + sizeBytes + kept <= this.#current.capacityBytes
    if (hasRoom(0) && (this.#spare !== undefined || isMarker)) return this.#current
    if (!hasRoom(markerBytes)) {
      this.makeRoom()
      if (this.#spare === undefined) return undefined
      this.#advance()
    }
    return this.#current
  }

  /** The spare becomes the segment that is written to, and another one is made. */
  #advance(): void {
    const [before, next] = [this.#current, this.#spare]
    if (next === undefined) return
    this.#spare = undefined
    this.#writeTo(next)
    if (before) this.#retireIfEmpty(before)
    this.makeRoom()
  }

  #writeTo(segment: Segment): void {
    this.#begin(segment)
    this.#current = segment
    this.#segments.add(segment)
  }

  /** Segments with chunks of an earlier run: the last one is written on. */
  #goOn(segments: readonly Segment[]): void {
    for (const segment of segments) this.#segments.add(segment)
    const last = segments.reduce<Segment | undefined>((highest, segment) => (highest !== undefined && highest.number > segment.number ? highest : segment), undefined)
    if (last === undefined || last.endBytes + 2 * markerBytes > last.capacityBytes) return
    last.number = this.#nextNumber++
    this.#current = last
  }

  #begin(segment: Segment): void {
    segment.number = this.#nextNumber++
    segment.endBytes = 0
  }

  #retireIfEmpty(segment: Segment): void {
    if (segment.waiting > 0 || segment.isSyncing || !this.#segments.has(segment)) return
    if (segment !== this.#current) this.#retire(segment)
    // Not after every chunk of a quiet node: each use begins with another number.
    else if (segment.endBytes > 64 * 1024) {
      this.#wipe(segment)
      this.#begin(segment)
    }
  }

  /** Nothing waits in it: it becomes the spare, or goes. The larger one stays. */
  #retire(segment: Segment): void {
    this.#segments.delete(segment)
    const spare = this.#spare
    const isOfUse = spare === undefined || this.#current === undefined || spare.capacityBytes < segment.capacityBytes
    if (segment.capacityBytes < smallestSegmentBytes / 2 || !isOfUse) return this.#remove(segment)
    this.#wipe(segment)
    if (spare === undefined) this.#spare = segment
    // At the start, before there is one that is written to: two that an earlier run left are both of use.
    else if (this.#current === undefined) this.#writeTo(segment)
    else {
      this.#spare = segment
      this.#remove(spare)
    }
  }

  /** So that it is not read again at the next start. Not synced: read again, it would only be sent again. */
  #wipe(segment: Segment): void {
    const record = Buffer.alloc(9 + 4)
    record.writeUInt32LE(1 + 4, 0)
    record[8] = emptyRecord
    record.writeUInt32LE(segment.number, 9)
    record.writeUInt32LE(crc32(record.subarray(8)), 4)
    try {
      segment.file.write([record], 0)
    } catch (error) {
      this.#warn(String(error))
    }
  }

  #remove(segment: Segment): void {
    segment.file.close()
    this.#options.disk.remove(segment.path)
  }

  /** A new segment, as large as the disk allows while as much again stays free for others; undefined when that is too little. */
  #make(): Segment | undefined {
    const { directory, disk, limitBytes } = this.#options
    let capacityBytes = Math.min(largestSegmentBytes, Math.max(smallestSegmentBytes, Math.floor(limitBytes / 16)))
    const freeBytes = disk.freeBytes(directory)
    while (capacityBytes * 2 > freeBytes) {
      capacityBytes /= 2
      if (capacityBytes < smallestSegmentBytes / 2) return undefined
    }
    const path = join(directory, `${this.#nextNumber++}.log`)
    let file: DiskFile | undefined
    try {
      file = disk.open(path, 'replace')
      for (let filled = 0; filled < capacityBytes; ) filled += file.fill(capacityBytes - filled, filled)
      this.#hasNewNames = true
      return { path, file, capacityBytes, number: 0, endBytes: 0, waiting: 0, isDirty: false, isSyncing: false }
    } catch (error) {
      file?.close()
      disk.remove(path)
      this.#warn(String(error))
      return undefined
    }
  }

  #warn(error: string): void {
    if (this.#isFullSaid) return
    this.#isFullSaid = true
    this.#options.log.error({ directory: this.#options.directory, error }, 'the disk has no room for more of the task log; programs have to wait with what they print')
  }

  /** What stands in the file of this name; nothing when it is none of ours. */
  #load(name: string): FoundSegment[] {
    const named = Number(/^(\d+)\.log$/.exec(name)?.[1] ?? 0)
    if (named === 0) return []
    const { disk, directory } = this.#options
    const path = join(directory, name)
    // To be written in place.
    const file = disk.open(path, 'keep')
    // An earlier run may have died before it was synced.
    const segment: Segment = { path, file, capacityBytes: file.sizeBytes, number: named, endBytes: 0, waiting: 0, isDirty: true, isSyncing: false }
    const chunks: FoundSegment['chunks'][number][] = []
    segment.endBytes = readRecords(disk, path, (type, payload, { offset }) => {
      if (type === emptyRecord) {
        segment.number = Math.max(named, payload.readUInt32LE(0))
        return false
      }
      const headBytes = payload.readUInt16LE(0)
      const { use, ...head } = JSON.parse(payload.toString('utf8', 2, 2 + headBytes)) as StoredHead
      if (chunks.length > 0 && use < segment.number) return false
      segment.number = use
      chunks.push({ use, head, place: { segment, offset: offset + 2 + headBytes, sizeBytes: payload.length - 2 - headBytes } })
      return true
    })
    segment.waiting = chunks.length
    this.#nextNumber = Math.max(this.#nextNumber, named + 1, segment.number + 1)
    return [{ segment, chunks }]
  }
}
