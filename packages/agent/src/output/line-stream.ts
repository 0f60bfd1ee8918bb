/**
 * Turns one output of a program into whole lines, ready to leave the node: valid UTF-8, without secrets. Owns the bytes of the line that
 * is not whole yet.
 *
 * 1. What comes out ends with a newline, always.
 * 2. A line that stays open for 100 ms, or grows beyond 64 KiB, is let out in pieces: a piece that is continued ends with ` ⋯`, the one that
 *    goes on begins with `⋯ `. Pieces are never cut inside a character, nor where a secret may have begun.
 * 3. Bytes that are not UTF-8 become U+FFFD.
 * 4. With what comes out goes the place in the pipe right behind it: a stream that begins there (`from`) goes on as if it had been the same.
 */
import { isUtf8 } from 'node:buffer'
import type { Clock, Timer } from '@lichen/core'
import type { Masker } from './masker.js'

/** A prompt without a newline should be seen soon; much shorter, and slow writers' lines fall into pieces. */
const openLineMs = 100
/** The largest piece of an open line. */
export const maxLineBytes = 64 * 1024
const newline = 10
const continuedMark = Buffer.from(' ⋯\n')
const continuesMark = Buffer.from('⋯ ')
const nothing = Buffer.alloc(0)

/** A place in an output: `lines` whole lines behind `position`. `isContinuing`: an open line was let out in part before `position`. */
export interface LinePlace {
  readonly position: number
  readonly lines: number
  readonly isContinuing: boolean
}

export const lineStart: LinePlace = { position: 0, lines: 0, isContinuing: false }

/** See the file header. */
export class LineStream {
  readonly #clock: Clock
  readonly #masker: Masker
  readonly #onLines: (lines: Buffer, place: LinePlace) => void
  #open: Buffer = nothing
  #isContinuing: boolean
  /** Lines at the beginning that came out of an earlier stream already. */
  #skips: number
  /** Position behind everything that was pushed. */
  #end: number
  /** When the open line began, by the clock's `elapsed`. */
  #openedAt = 0
  #timer: Timer | undefined

  /** `onLines` gets one or more whole lines at a time. */
  constructor(clock: Clock, masker: Masker, onLines: (lines: Buffer, place: LinePlace) => void, from: LinePlace = lineStart) {
    this.#clock = clock
    this.#masker = masker
    this.#onLines = onLines
    this.#isContinuing = from.isContinuing
    this.#skips = from.lines
    this.#end = from.position
  }

  /** Takes what was read. `end`: the position behind it, where that is not simply what was pushed before and this. */
  push(bytes: Buffer, end = this.#end + bytes.length): void {
    this.#end = end
    this.#take(bytes)
  }

  #take(bytes: Buffer): void {
    let all = this.#open.length === 0 ? bytes : Buffer.concat([this.#open, bytes])
    const end = all.lastIndexOf(newline) + 1
    if (end > 0) {
      this.#emitLines(all.subarray(0, end), all.length - end)
      all = all.subarray(end)
    }
    if (end > 0 || this.#open.length === 0) this.#openedAt = this.#clock.elapsed()
    this.#open = all
    while (this.#open.length > maxLineBytes) if (!this.#emitPiece(maxLineBytes, 0)) break
    if (this.#open.length > 0) this.#timer ??= this.#clock.after(openLineMs, () => this.#onTimer())
  }

  /** Lets out nothing more, not even what is open: somebody else reads on from the last place. */
  leave(): void {
    this.#timer?.cancel()
    this.#timer = undefined
    this.#open = nothing
  }

  /** The output is over: lets out what is left. */
  end(): void {
    this.#timer?.cancel()
    this.#timer = undefined
    if (this.#open.length === 0) return
    const rest = this.#open
    this.#open = nothing
    this.#emitLines(Buffer.concat([rest, Buffer.from('\n')]), 0)
  }

  #onTimer(): void {
    this.#timer = undefined
    if (this.#open.length === 0) return
    const leftMs = this.#openedAt + openLineMs - this.#clock.elapsed()
    if (leftMs > 1) this.#timer = this.#clock.after(leftMs, () => this.#onTimer())
    else this.#emitPiece(this.#open.length, 0)
  }

  /** Lets out at most `size` bytes of the open line; false when it has to wait for more. `behind`: bytes that were pushed behind the open line. */
  #emitPiece(size: number, behind: number): boolean {
    const candidate = this.#open.subarray(0, size)
    const safe = this.#masker.safeCut(candidate.subarray(0, candidate.length - incompleteBytes(candidate)))
    if (safe <= 0) return false
    const piece = this.#open.subarray(0, safe)
    this.#open = this.#open.subarray(safe)
    this.#emit(Buffer.concat([this.#clean(piece), continuedMark]), this.#open.length + behind, true)
    return true
  }

  #emitLines(lines: Buffer, behind: number): void {
    if (lines.length <= maxLineBytes || !hasLongLine(lines)) return this.#emit(this.#clean(lines), behind)
    for (let start = 0; start < lines.length; ) {
      const end = lines.indexOf(newline, start) + 1
      this.#emitLine(lines.subarray(start, end), behind + lines.length - end)
      start = end
    }
  }

  #emitLine(line: Buffer, behind: number): void {
    this.#open = line.subarray(0, -1)
    while (this.#open.length > maxLineBytes) if (!this.#emitPiece(maxLineBytes, behind + 1)) break
    const rest = Buffer.concat([this.#open, line.subarray(-1)])
    this.#open = nothing
    if (rest.length <= maxLineBytes + 1) return this.#emit(this.#clean(rest), behind)
    // Something that may be a secret is as long as a piece. Masked first, so that no cut can fall into it.
    for (const piece of splitLongLines(this.#clean(rest))) this.#emit(piece, behind)
  }

  #emit(lines: Buffer, behind: number, isContinuing = false): void {
    const whole = this.#isContinuing ? Buffer.concat([continuesMark, lines]) : lines
    this.#isContinuing = isContinuing
    const rest = this.#skips > 0 ? this.#skip(whole) : whole
    if (rest.length > 0) this.#onLines(rest, { position: this.#end - behind, lines: 0, isContinuing })
  }

  #skip(lines: Buffer): Buffer {
    let start = 0
    for (; this.#skips > 0 && start < lines.length; this.#skips--) start = lines.indexOf(newline, start) + 1
    return lines.subarray(start)
  }

  #clean(lines: Buffer): Buffer {
    const text = isUtf8(lines) ? lines : Buffer.from(lines.toString('utf8'), 'utf8')
    return this.#masker.maskBytes(text)
  }
}

/** How many bytes at the end are the beginning of a UTF-8 character whose rest has not come yet (0 to 3). */
export function incompleteBytes(bytes: Buffer): number {
  for (let back = 1; back <= Math.min(3, bytes.length); back++) {
    const byte = bytes[bytes.length - back]!
    if (byte >= 0xc2 && byte < 0xf5) return back < (byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2) ? back : 0
    if (byte < 0x80) return 0
  }
  return 0
}

function hasLongLine(lines: Buffer): boolean {
  for (let start = 0; start < lines.length; ) {
    const end = lines.indexOf(newline, start)
    if (end - start > maxLineBytes) return true
    start = end + 1
  }
  return false
}

function* splitLongLines(lines: Buffer): Generator<Buffer> {
  for (let start = 0; start < lines.length; ) {
    const end = lines.indexOf(newline, start) + 1
    let at = start
    while (end - at > maxLineBytes) {
      const cut = at + maxLineBytes - incompleteBytes(lines.subarray(at, at + maxLineBytes))
      yield Buffer.concat([at > start ? continuesMark : nothing, lines.subarray(at, cut), continuedMark])
      at = cut
    }
    yield at > start ? Buffer.concat([continuesMark, lines.subarray(at, end)]) : lines.subarray(at, end)
    start = end
  }
}
