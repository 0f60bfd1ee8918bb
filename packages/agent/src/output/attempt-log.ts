/**
 * The task log of one attempt: collects lines of its commands into chunks for the outbox. Owns the chunk that is open and the count of bytes.
 *
 * 1. A chunk holds whole lines of one command and one stream, at most 64 KiB, and is closed 20 ms after its first line at the latest.
 * 2. Output beyond the limit is not lost unseen: the first `headBytes` pass, a marker says so, and when the command ends a second marker says how
 *    much was cut, followed by the last `tailBytes`. Lines of the agent itself always pass.
 * 3. Every chunk says up to where the running program's output is in it and the ones before (`LogSource`), exactly: to the line. So an agent that is started again
 *    reads on from there, and no line is lost or doubled.
 * 4. A chunk that there is no room for is cut. Nothing comes after it before a marker that counts what was cut; until that stands, the program's output is not given
 *    up and no chunk says that it was read: an agent that is killed before reads it again.
 */
import type { Clock, Timer } from '@lichen/core'
import { type AttemptKey, attemptKeyText, LogStream } from '@lichen/protocol'
import type { OutputName, OutputPositions } from '../programs/programs.js'
import { type LinePlace, lineStart, maxLineBytes } from './line-stream.js'
import type { Masker } from './masker.js'
import type { Outbox } from './outbox.js'
import type { LogSource } from './spool.js'

/** A tailing client should see a line within 50 ms; half of it would double the messages of chatty programs. */
const closeAfterMs = 20
/** gRPC messages beyond this gain nothing in throughput. */
const maxChunkBytes = maxLineBytes
const newline = 10

/** How much of an attempt's output is kept. */
export interface LogLimits {
  /** Kept from the beginning: where the first error stands. */
  readonly headBytes: number
  /** Kept from the end of each command beyond it: where the last error stands. */
  readonly tailBytes: number
}

export const defaultLogLimits: LogLimits = { headBytes: 32 * 1024 * 1024, tailBytes: 256 * 1024 }

interface TailLines {
  readonly stream: LogStream
  lines: Buffer
  readonly place: LinePlace | undefined
}

interface Tail {
  entries: TailLines[]
  sizeBytes: number
  cutBytes: number
}

/** See the file header. */
export class AttemptLog {
  readonly #key: AttemptKey
  readonly #outbox: Outbox
  readonly #clock: Clock
  readonly #limits: LogLimits
  readonly masker: Masker
  readonly #keyText: string
  #parts: Buffer[] = []
  #size = 0
  #stream: LogStream = LogStream.AGENT
  #command = 0
  #openedAt = 0
  #timer: Timer | undefined
  /** Bytes of commands' output that passed. */
  #passed: number
  /** Bytes that were cut for want of room since the last marker, and up to where the program's output is in them. */
  #lost: { sizeBytes: number; source: LogSource | undefined } | undefined
  #tail: Tail | undefined
  #run: string | undefined
  /** Up to where the running program's output was taken into chunks, closed or not. */
  #taken: Record<OutputName, LinePlace> = { stdout: lineStart, stderr: lineStart }
  /** Up to where its chunks are spooled, or its lines are in the tail. */
  #kept: Record<OutputName, number> = { stdout: 0, stderr: 0 }

  constructor(options: { key: AttemptKey; outbox: Outbox; clock: Clock; limits: LogLimits; masker: Masker }) {
    this.#key = options.key
    this.#outbox = options.outbox
    this.#clock = options.clock
    this.#limits = options.limits
    this.masker = options.masker
    this.#keyText = attemptKeyText(options.key)
    const source = this.#outbox.sourceOf(this.#keyText)
    this.#passed = source?.passed ?? 0
    if (source === undefined) return
    // Every chunk says how far the program was read, those of the agent's own lines too: one of them may be the last that is kept.
    this.#run = source.run
    this.#taken = { stdout: source.stdout, stderr: source.stderr }
  }

  /** Index of the command whose lines follow. */
  beginCommand(command: number): void {
    this.#close()
    this.#command = command
  }

  /** The output that follows is this program's. Gives back up to where an earlier run of the agent took it: its beginning, when it is new. */
  beginRun(run: string): Readonly<Record<OutputName, LinePlace>> {
    this.#close()
    const source = this.#outbox.sourceOf(this.#keyText)
    const { stdout, stderr } = source?.run === run ? source : { stdout: lineStart, stderr: lineStart }
    this.#run = run
    this.#taken = { stdout, stderr }
    this.#kept = { stdout: stdout.position, stderr: stderr.position }
    return { stdout, stderr }
  }

  /**
   * Before these positions the running program's output is not needed any more: it is spooled, was cut, or is in the tail. (The death of the agent takes the tail with it, and
   * the marker counts it as cut: a program must not wait for a tail that grows only when it prints.)
   */
  get releasable(): OutputPositions {
    return { ...this.#kept }
  }

  /** The command's output is over: writes what was kept from its end, with the count of what was cut. */
  endCommand(): void {
    const tail = this.#tail
    this.#tail = undefined
    if (!tail) return
    if (tail.cutBytes > 0) this.say(`… ${tail.cutBytes} bytes cut …`)
    for (const { stream, lines, place } of tail.entries) this.#put(stream, lines, place)
  }

  /** One or more whole lines of the command's output, masked already. `place`: the place behind them in the output of the running program. */
  write(stream: LogStream, lines: Buffer, place?: LinePlace): void {
    if (!this.#tail && this.#passed >= this.#limits.headBytes) this.#beginTail()
    if (this.#tail) return this.#keepTail(stream, lines, place)
    const room = this.#limits.headBytes - this.#passed
    if (lines.length <= room) {
      this.#passed += lines.length
      return this.#put(stream, lines, place)
    }
    const cut = lines.lastIndexOf(newline, Math.max(0, room - 1)) + 1
    if (cut > 0 && room > 0) this.#put(stream, lines.subarray(0, cut), this.#placeAfter(stream, lines.subarray(0, cut), place))
    this.#passed = this.#limits.headBytes
    this.say(`… the output is longer than ${this.#limits.headBytes} bytes: of what follows only the last ${this.#limits.tailBytes} bytes are kept, and shown when the command ends …`)
    this.#beginTail()
    this.#keepTail(stream, room > 0 ? lines.subarray(cut) : lines, place)
  }

  /** So many bytes of the running program's output are not there any more. */
  skip(sizeBytes: number): void {
    if (!this.#tail && this.#passed >= this.#limits.headBytes) this.#beginTail()
    if (this.#tail) this.#tail.cutBytes += sizeBytes
    else this.say(`… ${sizeBytes} bytes cut …`)
  }

  /** Lines of the agent itself: headings, markers, notes. Masked here; a newline is added. */
  say(text: string): void {
    this.#put(LogStream.AGENT, Buffer.from(`${this.masker.maskText(text)}\n`, 'utf8'), undefined)
  }

  /** Closes what is open: nothing more comes, or what came must not be waited for. */
  close(): void {
    this.#close()
    this.#timer?.cancel()
    this.#timer = undefined
  }

  /** Closes what is open, and says what was cut if anything was; false while there is no room even for that. */
  settle(): boolean {
    this.close()
    return this.#markLost(true)
  }

  #put(stream: LogStream, lines: Buffer, place: LinePlace | undefined): void {
    if (stream !== this.#stream) {
      this.#close()
      this.#stream = stream
    }
    for (let rest = lines; rest.length > 0; ) {
      if (this.#size + rest.length <= maxChunkBytes) {
        this.#take(rest, place)
        break
      }
      const cut = rest.lastIndexOf(newline, maxChunkBytes - this.#size - 1) + 1
      // A line as long as a chunk, with its marks, goes alone.
      const end = cut > 0 ? cut : this.#size === 0 ? rest.indexOf(newline) + 1 : 0
      if (end > 0) {
        const part = rest.subarray(0, end)
        rest = rest.subarray(end)
        this.#take(part, rest.length === 0 ? place : this.#placeAfter(stream, part, place))
      }
      this.#close()
    }
  }

  #take(lines: Buffer, place: LinePlace | undefined): void {
    if (this.#size === 0) this.#openedAt = this.#clock.now()
    this.#parts.push(lines)
    this.#size += lines.length
    if (place) this.#taken[nameOf(this.#stream)] = place
    if (this.#size >= maxChunkBytes) this.#close()
    else this.#timer ??= this.#clock.after(closeAfterMs, () => this.#onTimer())
  }

  /** The place behind these lines, which are only the first of what ends at `place`. */
  #placeAfter(stream: LogStream, lines: Buffer, place: LinePlace | undefined): LinePlace | undefined {
    if (!place) return undefined
    const before = this.#taken[nameOf(stream)]
    return { ...before, lines: before.lines + countLines(lines) }
  }

  #onTimer(): void {
    this.#timer = undefined
    this.#close()
  }

  #close(): void {
    if (this.#size === 0) return
    const source: LogSource | undefined = this.#run === undefined ? undefined : { run: this.#run, ...this.#taken, passed: this.#passed }
    const [parts, sizeBytes] = [this.#parts, this.#size]
    this.#parts = []
    this.#size = 0
    if (this.#hasRoomFor(sizeBytes) && this.#markLost(false) && this.#append(this.#stream, parts, sizeBytes, source)) {
      if (source && !this.#tail) this.#kept = positionsOf(source)
      return
    }
    // A program that waits prints nothing that would be another occasion for the marker.
    if (this.#lost === undefined) this.#outbox.whenRoom(() => this.#markLost(false))
    this.#lost = { sizeBytes: (this.#lost?.sizeBytes ?? 0) + sizeBytes, source }
  }

  /** Whether to try: a marker that another loss follows at once would be one of many. */
  #hasRoomFor(sizeBytes: number): boolean {
    return this.#lost === undefined || this.#outbox.hasRoomFor(sizeBytes)
  }

  #append(stream: LogStream, parts: readonly Buffer[], sizeBytes: number, source: LogSource | undefined, isMarker = false): boolean {
    const position = this.#outbox.endPosition(this.#keyText)
    return this.#outbox.append({ key: this.#key, position, command: this.#command, stream, at: this.#openedAt, ...(source && { source }) }, parts, sizeBytes, isMarker)
  }

  /** Says how much was cut, if anything was; false when there is no room for that. `isForced`: it may take the last of the room. */
  #markLost(isForced: boolean): boolean {
    const lost = this.#lost
    if (lost === undefined) return true
    const marker = Buffer.from(`… ${lost.sizeBytes} bytes cut: there was no room for them on the node …\n`, 'utf8')
    if (!this.#append(LogStream.AGENT, [marker], marker.length, lost.source, isForced)) return false
    this.#lost = undefined
    if (lost.source && lost.source.run === this.#run && !this.#tail) this.#kept = positionsOf(lost.source)
    return true
  }

  #beginTail(): void {
    this.#tail = { entries: [], sizeBytes: 0, cutBytes: 0 }
  }

  #keepTail(stream: LogStream, lines: Buffer, place: LinePlace | undefined): void {
    const tail = this.#tail!
    tail.entries.push({ stream, lines, place })
    if (place) this.#kept[nameOf(stream)] = place.position
    tail.sizeBytes += lines.length
    while (tail.sizeBytes > this.#limits.tailBytes && tail.entries.length > 0) this.#dropOldest(tail)
  }

  #dropOldest(tail: Tail): void {
    const oldest = tail.entries[0]!
    const excess = tail.sizeBytes - this.#limits.tailBytes
    const cut = excess >= oldest.lines.length ? oldest.lines.length : oldest.lines.indexOf(newline, excess - 1) + 1
    tail.sizeBytes -= cut
    tail.cutBytes += cut
    if (cut >= oldest.lines.length) tail.entries.shift()
    // Copied, so that a small rest does not hold a large buffer.
    else oldest.lines = Buffer.from(oldest.lines.subarray(cut))
  }
}

const positionsOf = ({ stdout, stderr }: LogSource): OutputPositions => ({ stdout: stdout.position, stderr: stderr.position })

const nameOf = (stream: LogStream): OutputName => (stream === LogStream.STDERR ? 'stderr' : 'stdout')

function countLines(lines: Buffer): number {
  let count = 0
  for (let at = lines.indexOf(newline); at >= 0; at = lines.indexOf(newline, at + 1)) count++
  return count
}
