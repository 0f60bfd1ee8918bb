/**
 * The task log of one attempt: collects lines of its commands into chunks for the outbox. Owns the chunk that is open and the count of bytes.
 *
 * 1. A chunk holds whole lines of one command and one stream, at most 64 KiB, and is closed 20 ms after its first line at the latest.
 * 2. Output beyond the limit is not lost unseen: the first `headBytes` pass, a marker says so, and when the command ends a second marker says how
 *    much was cut, followed by the last `tailBytes`. Lines of the agent itself always pass.
 */
import { type AttemptKey, attemptKeyText, LogStream } from '@lichen/protocol'
import { maxLineBytes } from './line-stream.js'
import type { Masker } from './masker.js'
import type { Outbox } from './outbox.js'

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

/** See the file header. */
export class AttemptLog {
  readonly #key: AttemptKey
  readonly #outbox: Outbox
  readonly #now: () => number
  readonly #limits: LogLimits
  readonly masker: Masker
  readonly #keyText: string
  #parts: Buffer[] = []
  #size = 0
  #stream: LogStream = LogStream.AGENT
  #command = 0
  #openedAt = 0
  #timer: NodeJS.Timeout | undefined
  /** Bytes of commands' output that passed. */
  #passed = 0
  #lost = 0
  #tail: { lines: Buffer[]; sizeBytes: number; cutBytes: number; stream: LogStream } | undefined

  constructor(options: { key: AttemptKey; outbox: Outbox; now: () => number; limits: LogLimits; masker: Masker }) {
    this.#key = options.key
    this.#outbox = options.outbox
    this.#now = options.now
    this.#limits = options.limits
    this.masker = options.masker
    this.#keyText = attemptKeyText(options.key)
  }

  /** Index of the command whose lines follow. */
  beginCommand(command: number): void {
    this.#close()
    this.#command = command
  }

  /** The command's output is over: writes what was kept from its end, with the count of what was cut. */
  endCommand(): void {
    const tail = this.#tail
    this.#tail = undefined
    if (!tail) return
    if (tail.cutBytes > 0) this.say(`… ${tail.cutBytes} bytes cut …`)
    for (const lines of tail.lines) this.#put(tail.stream, lines)
  }

  /** One or more whole lines of the command's output, masked already. */
  write(stream: LogStream, lines: Buffer): void {
    if (this.#tail) return this.#keepTail(stream, lines)
    const room = this.#limits.headBytes - this.#passed
    if (lines.length <= room) {
      this.#passed += lines.length
      return this.#put(stream, lines)
    }
    const cut = lines.lastIndexOf(newline, Math.max(0, room - 1)) + 1
    if (cut > 0 && room > 0) this.#put(stream, lines.subarray(0, cut))
    this.#passed = this.#limits.headBytes
    this.say(`… the output is longer than ${this.#limits.headBytes} bytes: of what follows only the last ${this.#limits.tailBytes} bytes are kept, and shown when the command ends …`)
    this.#tail = { lines: [], sizeBytes: 0, cutBytes: 0, stream }
    this.#keepTail(stream, room > 0 ? lines.subarray(cut) : lines)
  }

  /** Lines of the agent itself: headings, markers, notes. Masked here; a newline is added. */
  say(text: string): void {
    this.#put(LogStream.AGENT, Buffer.from(`${this.masker.maskText(text)}\n`, 'utf8'))
  }

  /** Closes what is open: nothing more comes, or what came must not be waited for. */
  close(): void {
    this.#close()
    clearTimeout(this.#timer)
    this.#timer = undefined
  }

  #put(stream: LogStream, lines: Buffer): void {
    if (stream !== this.#stream) {
      this.#close()
      this.#stream = stream
    }
    for (let rest = lines; rest.length > 0; ) {
      if (this.#size + rest.length <= maxChunkBytes) {
        this.#take(rest)
        break
      }
      const cut = rest.lastIndexOf(newline, maxChunkBytes - this.#size - 1) + 1
      if (cut > 0) {
        this.#take(rest.subarray(0, cut))
        rest = rest.subarray(cut)
      } else if (this.#size === 0) {
        // One line as long as a chunk, with its marks: it goes alone.
        const end = rest.indexOf(newline) + 1
        this.#take(rest.subarray(0, end))
        rest = rest.subarray(end)
      }
      this.#close()
    }
  }

  #take(lines: Buffer): void {
    if (this.#size === 0) this.#openedAt = this.#now()
    this.#parts.push(lines)
    this.#size += lines.length
    if (this.#size >= maxChunkBytes) this.#close()
    else this.#timer ??= setTimeout(() => this.#onTimer(), closeAfterMs)
  }

  #onTimer(): void {
    this.#timer = undefined
    this.#close()
  }

  #close(): void {
    if (this.#size === 0) return
    const head = { key: this.#key, position: this.#outbox.endPosition(this.#keyText), command: this.#command, stream: this.#stream, at: this.#openedAt }
    const isKept = this.#outbox.append(head, this.#parts, this.#size)
    if (!isKept) this.#lost += this.#size
    this.#parts = []
    this.#size = 0
    if (isKept && this.#lost > 0) {
      const lost = this.#lost
      this.#lost = 0
      this.say(`… ${lost} bytes cut: the disk of the node is full …`)
    }
  }

  #keepTail(stream: LogStream, lines: Buffer): void {
    const tail = this.#tail!
    tail.stream = stream
    tail.lines.push(lines)
    tail.sizeBytes += lines.length
    while (tail.sizeBytes > this.#limits.tailBytes && tail.lines.length > 0) this.#dropOldest(tail)
  }

  #dropOldest(tail: { lines: Buffer[]; sizeBytes: number; cutBytes: number }): void {
    const oldest = tail.lines[0]!
    const excess = tail.sizeBytes - this.#limits.tailBytes
    const cut = excess >= oldest.length ? oldest.length : oldest.indexOf(newline, excess - 1) + 1
    tail.sizeBytes -= cut
    tail.cutBytes += cut
    if (cut >= oldest.length) tail.lines.shift()
    // Copied, so that a small rest does not hold a large buffer.
    else tail.lines[0] = Buffer.from(oldest.subarray(cut))
  }
}
