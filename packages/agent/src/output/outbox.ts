/**
 * What waits to be sent and acknowledged: chunks of log and results, attempt by attempt. Owns the order in which they leave and when the spool is synced; not the stream.
 *
 * 1. Chunks of an attempt leave in order of position; its result leaves after its last chunk, so that who sees the result can have the whole log.
 * 2. Attempts take turns, one chunk each: a talkative one does not hold up another's result.
 * 3. After `rewind` everything unacknowledged is sent again, from the position that was acknowledged.
 * 4. A chunk leaves only when it is on the disk, so no power cut takes what the engine has. One sync at a time, and each covers everything spooled before it began.
 * 5. The last acknowledged chunk of an attempt without a result stays in the spool (its anchor): after a restart it tells where the log goes on. When the disk is full and nothing but
 *    anchors hold a segment, their heads are written again elsewhere.
 * 6. `aheadBytes` counts what is spooled and not acknowledged, of all attempts together. A little below the limit, or when the disk is full and little room is left, programs are not
 *    read from any more (`whenRoom`): they wait. What comes all the same (programs that were being read, lines of the agent) is refused at the limit, and its log says so.
 */
import type { Clock, Timer } from '@lichen/core'
import { type AttemptKey, attemptKeyText, LogStream } from '@lichen/protocol'
import { type ChunkHead, type ChunkPlace, type LogSource, Spool, type SpoolOptions } from './spool.js'

/** Between the point where programs have to wait and the limit: several of them may be in the middle of a read. A quarter of very small limits. */
const maxReserveBytes = 16 * 1024 * 1024
/** Unsent chunks kept in memory too, to spare reading them back. */
const memoryBytes = 2 * 1024 * 1024
/** How often a full disk is looked at again while programs wait. */
const roomPollMs = 1000

/** A chunk in the outbox. */
export interface Chunk {
  readonly head: ChunkHead
  readonly place: ChunkPlace
  /** It is on the disk when as many chunks as this are. */
  readonly ordinal: number
  /** Its bytes while memory allows; otherwise they are read from the spool. */
  data: Buffer | undefined
}

interface Line {
  readonly keyText: string
  readonly key: AttemptKey
  chunks: Chunk[]
  /** Index in `chunks` of the first one that is not sent. */
  unsent: number
  /** Position after the last chunk. Never below what the engine has: it only gets what is on the disk. */
  endPosition: number
  /** See invariant 5. */
  anchor: ChunkPlace | undefined
  /** Of the last chunk. */
  source: LogSource | undefined
  /** The attempt is over, and the engine has its result: only chunks are left. */
  isOver: boolean
  isResultReady: boolean
  isResultSent: boolean
  isQueued: boolean
}

/** What an outbox is opened with. */
export interface OutboxOptions extends SpoolOptions {
  readonly clock: Clock
  /** The spool cannot be synced: what is in it may be gone after a power cut, and the program should end. */
  readonly onFatal: (error: unknown) => void
}

/** What is to be sent next. */
export type Outgoing = { readonly type: 'log'; readonly chunk: Chunk } | { readonly type: 'result'; readonly keyText: string }

/** See the file header. */
export class Outbox {
  readonly #spool: Spool
  readonly #clock: Clock
  readonly #onFatal: (error: unknown) => void
  readonly #limitBytes: number
  readonly #lines = new Map<string, Line>()
  #turns: Line[] = []
  #memoryBytes = 0
  #aheadBytes = 0
  #onRoom: (() => void)[] = []
  #roomPoll: Timer | undefined
  /** Chunks ever spooled, and how many of them are on the disk. */
  #spooled = 0
  #synced = 0
  #syncing: Promise<void> | undefined
  #waiters: { readonly ordinal: number; resolve(): void; reject(error: unknown): void }[] = []
  #failure: unknown
  #isClosed = false
  /** Called when something new can be sent. */
  onReady: () => void = () => {}

  /** The outbox over the spool of this directory, with what an earlier run left in it. */
  constructor(options: OutboxOptions) {
    this.#clock = options.clock
    this.#onFatal = options.onFatal
    this.#limitBytes = options.limitBytes
    this.#spool = Spool.open(options, (head, place) => (place.sizeBytes === 0 ? this.#addAnchor(head, place) : this.#add(head, place, undefined)))
    // An earlier run may have died between writing and syncing.
    if (this.#spooled > 0) this.#syncSoon()
  }

  /** Where the attempt's log ends: the position of its next chunk. */
  endPosition(keyText: string): number {
    return this.#lines.get(keyText)?.endPosition ?? 0
  }

  /** Up to where the output of the attempt's running program is spooled; undefined when nothing of it is. */
  sourceOf(keyText: string): LogSource | undefined {
    return this.#lines.get(keyText)?.source
  }

  /** After a start: what an earlier run left of attempts that are not these is only to be sent. */
  keepPositions(keyTexts: ReadonlySet<string>): void {
    for (const line of this.#lines.values()) {
      if (keyTexts.has(line.keyText)) continue
      line.isOver = true
      this.#dropAnchor(line)
      this.#forget(line)
    }
  }

  /** True while processes may be read from. */
  get hasRoom(): boolean {
    return this.#spool.hasRoom && this.#aheadBytes < this.#limitBytes - Math.min(maxReserveBytes, this.#limitBytes / 4)
  }

  /** True when a chunk of this size would be taken, and a marker before it. */
  hasRoomFor(sizeBytes: number): boolean {
    return this.#aheadBytes + sizeBytes < this.#limitBytes && this.#spool.hasRoomFor(sizeBytes)
  }

  /** True while it is the disk that has no room. */
  get isDiskFull(): boolean {
    return !this.#spool.hasRoom
  }

  /** Calls back once when there is room again. */
  whenRoom(callback: () => void): void {
    this.#onRoom.push(callback)
    this.#roomPoll ??= this.#clock.every(roomPollMs, () => this.#makeRoom())
  }

  /** Spools the chunk and queues it; false when there is no room for it, and it is lost. `isMarker`: it says what was lost, so the limit does not count. */
  append(head: ChunkHead, parts: readonly Buffer[], sizeBytes: number, isMarker = false): boolean {
    if (!isMarker && this.#aheadBytes + sizeBytes > this.#limitBytes) return false
    const place = this.#spool.append(head, parts, sizeBytes, isMarker)
    if (!place) return false
    let data: Buffer | undefined
    if (this.#memoryBytes + sizeBytes <= memoryBytes) {
      this.#memoryBytes += sizeBytes
      data = parts.length === 1 ? parts[0] : Buffer.concat(parts)
    }
    this.#add(head, place, data)
    this.#syncSoon()
    return true
  }

  /** Resolves when everything spooled so far is on the disk. Rejects when it cannot be put there. */
  flush(): Promise<void> {
    if (this.#synced >= this.#spooled) return Promise.resolve()
    if (this.#failure !== undefined) return Promise.reject(this.#failure as Error)
    this.#syncSoon()
    return new Promise((resolve, reject) => this.#waiters.push({ ordinal: this.#spooled, resolve, reject }))
  }

  /** The result of this attempt is journaled: it is sent after the attempt's log. */
  queueResult(key: AttemptKey): void {
    const line = this.#line(key, attemptKeyText(key))
    this.#dropAnchor(line)
    line.isOver = false
    line.isResultReady = true
    line.isResultSent = false
    this.#queue(line)
    this.onReady()
  }

  /** What to send next, or undefined. `logBytes`: how much log may be sent now; results pass when their attempt's log has been sent. */
  next(logBytes: number): Outgoing | undefined {
    for (let tries = this.#turns.length; tries > 0; tries--) {
      const line = this.#turns.shift()!
      const chunk = line.chunks[line.unsent]
      if (chunk && (chunk.place.sizeBytes > logBytes || chunk.ordinal > this.#synced)) {
        this.#turns.push(line)
        continue
      }
      line.isQueued = false
      if (chunk) {
        line.unsent++
        this.#queue(line)
        return { type: 'log', chunk }
      }
      if (line.isResultReady && !line.isResultSent) {
        line.isResultSent = true
        return { type: 'result', keyText: line.keyText }
      }
    }
    return undefined
  }

  /** The chunk's bytes, for the one time it is sent on this stream. */
  take(chunk: Chunk): Buffer {
    const data = chunk.data ?? this.#spool.read(chunk.place)
    this.#dropData(chunk)
    return data
  }

  /** The engine has the attempt's log up to `position`. Gives back how many bytes that frees. */
  acknowledgeLog(keyText: string, position: number): number {
    const line = this.#lines.get(keyText)
    if (!line) return 0
    let count = 0
    let freed = 0
    for (const chunk of line.chunks) {
      if (chunk.head.position + chunk.place.sizeBytes > position) break
      count++
      freed += chunk.place.sizeBytes
      this.#dropData(chunk)
      this.#dropAnchor(line)
      line.anchor = chunk.place
    }
    if (line.isResultReady || line.isOver) this.#dropAnchor(line)
    line.chunks.splice(0, count)
    line.unsent = Math.max(0, line.unsent - count)
    this.#aheadBytes -= freed
    this.#forget(line)
    if (this.#onRoom.length > 0) this.#makeRoom()
    return freed
  }

  /** The engine has the attempt's result. */
  acknowledgeResult(keyText: string): void {
    const line = this.#lines.get(keyText)
    if (!line) return
    line.isResultReady = false
    this.#forget(line)
  }

  /** A new stream: everything unacknowledged is to be sent again. */
  rewind(): void {
    this.#turns = []
    for (const line of this.#lines.values()) {
      line.unsent = 0
      line.isResultSent = false
      line.isQueued = false
      this.#queue(line)
    }
  }

  /** Closes the spool's files; what waits stays in them. */
  async close(): Promise<void> {
    this.#isClosed = true
    this.#roomPoll?.cancel()
    await this.#syncing
    this.#spool.close()
  }

  #add(head: ChunkHead, place: ChunkPlace, data: Buffer | undefined): void {
    const line = this.#line(head.key, attemptKeyText(head.key))
    line.chunks.push({ head, place, ordinal: ++this.#spooled, data })
    line.endPosition = head.position + place.sizeBytes
    line.source = head.source
    this.#aheadBytes += place.sizeBytes
    this.#queue(line)
  }

  /** The head alone of a chunk that the engine has. */
  #addAnchor(head: ChunkHead, place: ChunkPlace): void {
    const line = this.#line(head.key, attemptKeyText(head.key))
    this.#dropAnchor(line)
    line.anchor = place
    line.endPosition = head.position
    line.source = head.source
    this.#spooled++
  }

  #syncSoon(): void {
    // A turn of the event loop later: what arrives together is synced together.
    this.#syncing ??= new Promise<void>((resolve) => this.#clock.soon(resolve)).then(() => this.#sync())
  }

  async #sync(): Promise<void> {
    try {
      while (this.#synced < this.#spooled && !this.#isClosed) {
        const ordinal = this.#spooled
        await this.#spool.sync()
        this.#synced = ordinal
        const isOver = this.#waiters.findIndex((waiter) => waiter.ordinal > ordinal)
        for (const waiter of this.#waiters.splice(0, isOver < 0 ? this.#waiters.length : isOver)) waiter.resolve()
        this.onReady()
      }
    } catch (error) {
      this.#failure = error
      for (const waiter of this.#waiters.splice(0)) waiter.reject(error)
      // Not tried again: the kernel gives up what it could not write, and would say that all is well (fsync(2), EIO).
      this.#onFatal(error)
      return
    }
    this.#syncing = undefined
  }

  /** Looks for room, and tells those who wait for it when there is. */
  #makeRoom(): void {
    if (!this.#spool.hasRoom) this.#spool.makeRoom()
    if (!this.#spool.hasRoom) this.#moveAnchors()
    if (!this.hasRoom) return
    this.#roomPoll?.cancel()
    this.#roomPoll = undefined
    for (const callback of this.#onRoom.splice(0)) callback()
  }

  /** Writes the heads of anchors that may hold a segment by themselves into the one that is written to. */
  #moveAnchors(): void {
    const left: ChunkPlace[] = []
    for (const line of this.#lines.values()) {
      const { anchor, key, chunks, endPosition: position, source } = line
      if (anchor === undefined || chunks.length > 0 || this.#spool.isInCurrent(anchor)) continue
      const place = this.#spool.append({ key, position, command: 0, stream: LogStream.AGENT, at: 0, source }, [], 0)
      if (place === undefined) break
      this.#spooled++
      left.push(anchor)
      line.anchor = place
    }
    if (left.length === 0) return
    // Not before the new ones are on the disk.
    this.flush().then(() => {
      for (const place of left) this.#spool.release(place)
    }, () => {})
  }

  #line(key: AttemptKey, keyText: string): Line {
    const known = this.#lines.get(keyText)
    if (known) return known
    const line: Line = { keyText, key, chunks: [], unsent: 0, endPosition: 0, anchor: undefined, source: undefined, isOver: false, isResultReady: false, isResultSent: false, isQueued: false }
    this.#lines.set(keyText, line)
    return line
  }

  #queue(line: Line): void {
    const hasWork = line.unsent < line.chunks.length || (line.isResultReady && !line.isResultSent)
    if (line.isQueued || !hasWork) return
    line.isQueued = true
    this.#turns.push(line)
  }

  #dropAnchor(line: Line): void {
    if (line.anchor) this.#spool.release(line.anchor)
    line.anchor = undefined
  }

  #dropData(chunk: Chunk): void {
    if (chunk.data) this.#memoryBytes -= chunk.place.sizeBytes
    chunk.data = undefined
  }

  /** A line whose attempt runs is kept for its position even when empty; it is forgotten with the result. */
  #forget(line: Line): void {
    const isDone = line.isOver || (line.isResultSent && !line.isResultReady)
    if (isDone && line.chunks.length === 0) this.#lines.delete(line.keyText)
  }
}
