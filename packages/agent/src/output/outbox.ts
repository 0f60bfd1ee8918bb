/**
 * What waits to be sent and acknowledged: chunks of log and results, attempt by attempt. Owns the order in which they leave; not the stream.
 *
 * 1. Chunks of an attempt leave in order of position; its result leaves after its last chunk, so that who sees the result can have the whole log.
 * 2. Attempts take turns, one chunk each: a talkative one does not hold up another's result.
 * 3. After `rewind` everything unacknowledged is sent again, from the position that was acknowledged.
 * 4. The last chunk of an attempt without a result stays in the spool even when acknowledged: after a restart it tells where the log goes on.
 * 5. `aheadBytes` counts what is spooled and not acknowledged, of all attempts together. A little below the limit programs are not read from any more (`whenRoom`): they wait.
 *    What comes all the same (programs that were being read, lines of the agent) is refused at the limit, and its log says so.
 */
import { type AttemptKey, attemptKeyText } from '@lichen/protocol'
import { type ChunkHead, type ChunkPlace, type LogSource, Spool, type SpoolOptions } from './spool.js'

/** Between the point where programs have to wait and the limit: several of them may be in the middle of a read. A quarter of very small limits. */
const maxReserveBytes = 16 * 1024 * 1024
/** Unsent chunks kept in memory too, to spare reading them back. */
const memoryBytes = 2 * 1024 * 1024

/** A chunk in the outbox. */
export interface Chunk {
  readonly head: ChunkHead
  readonly place: ChunkPlace
  /** Its bytes while memory allows; otherwise they are read from the spool. */
  data: Buffer | undefined
}

interface Line {
  readonly keyText: string
  readonly key: AttemptKey
  chunks: Chunk[]
  /** Index in `chunks` of the first one that is not sent. */
  unsent: number
  /** Position after the last chunk, or what the engine says it has, if that is more (after a power cut took the end of the spool). */
  endPosition: number
  /** See invariant 4. */
  anchor: ChunkPlace | undefined
  /** Of the last chunk. */
  source: LogSource | undefined
  isResultReady: boolean
  isResultSent: boolean
  isQueued: boolean
}

/** What is to be sent next. */
export type Outgoing = { readonly type: 'log'; readonly chunk: Chunk } | { readonly type: 'result'; readonly keyText: string }

/** See the file header. */
export class Outbox {
  readonly #spool: Spool
  readonly #limitBytes: number
  readonly #lines = new Map<string, Line>()
  #turns: Line[] = []
  #memoryBytes = 0
  #aheadBytes = 0
  #onRoom: (() => void)[] = []
  /** Called when something new can be sent. */
  onReady: () => void = () => {}

  /** The outbox over the spool of this directory, with what an earlier run left in it. */
  constructor(options: SpoolOptions & { readonly limitBytes: number }) {
    this.#limitBytes = options.limitBytes
    this.#spool = Spool.open(options, (head, place) => this.#add(head, place, undefined))
  }

  /** Where the attempt's log ends: the position of its next chunk. */
  endPosition(keyText: string): number {
    return this.#lines.get(keyText)?.endPosition ?? 0
  }

  /** Up to where the output of the attempt's running program is spooled; undefined when nothing of it is. */
  sourceOf(keyText: string): LogSource | undefined {
    return this.#lines.get(keyText)?.source
  }

  /** True while processes may be read from. */
  get hasRoom(): boolean {
    return this.#aheadBytes < this.#limitBytes - Math.min(maxReserveBytes, this.#limitBytes / 4)
  }

  /** Calls back once when there is room again. */
  whenRoom(callback: () => void): void {
    this.#onRoom.push(callback)
  }

  /**
   * Spools the chunk and queues it. Gives back where it stands: `memory` when the disk is full, `nowhere` when memory is full too or the limit is reached, and it is lost. `isMarker`: the limit does not
   * count, as it says what was lost. Behind a chunk in memory
   * all of the attempt's are kept there until the engine has it: what is on the disk must have no hole when the agent is started again.
   */
  append(head: ChunkHead, parts: readonly Buffer[], sizeBytes: number, isMarker = false): 'disk' | 'memory' | 'nowhere' {
    if (!isMarker && this.#aheadBytes + sizeBytes > this.#limitBytes) return 'nowhere'
    const isBehindMemory = this.#lines.get(attemptKeyText(head.key))?.chunks.at(-1)?.place.memory !== undefined
    const place = this.#spool.append(head, parts, sizeBytes, isBehindMemory)
    if (!place) return 'nowhere'
    let data: Buffer | undefined
    if (!place.memory && this.#memoryBytes + sizeBytes <= memoryBytes) {
      this.#memoryBytes += sizeBytes
      data = parts.length === 1 ? parts[0] : Buffer.concat(parts)
    }
    this.#add(head, place, data)
    this.onReady()
    return place.memory ? 'memory' : 'disk'
  }

  /** The result of this attempt is journaled: it is sent after the attempt's log. */
  queueResult(key: AttemptKey): void {
    const line = this.#line(key, attemptKeyText(key))
    this.#dropAnchor(line)
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
      if (chunk && chunk.place.sizeBytes > logBytes) {
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
    if (line.isResultReady || line.chunks.length > count) this.#dropAnchor(line)
    line.chunks.splice(0, count)
    line.unsent = Math.max(0, line.unsent - count)
    line.endPosition = Math.max(line.endPosition, position)
    this.#aheadBytes -= freed
    this.#forget(line)
    if (this.hasRoom) for (const callback of this.#onRoom.splice(0)) callback()
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
  close(): void {
    this.#spool.close()
  }

  #add(head: ChunkHead, place: ChunkPlace, data: Buffer | undefined): void {
    const line = this.#line(head.key, attemptKeyText(head.key))
    this.#dropAnchor(line)
    line.chunks.push({ head, place, data })
    line.endPosition = head.position + place.sizeBytes
    line.source = head.source
    this.#aheadBytes += place.sizeBytes
    this.#queue(line)
  }

  #line(key: AttemptKey, keyText: string): Line {
    const known = this.#lines.get(keyText)
    if (known) return known
    const line: Line = { keyText, key, chunks: [], unsent: 0, endPosition: 0, anchor: undefined, source: undefined, isResultReady: false, isResultSent: false, isQueued: false }
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
    if (line.isResultSent && !line.isResultReady && line.chunks.length === 0) this.#lines.delete(line.keyText)
  }
}
