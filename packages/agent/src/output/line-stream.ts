/**
 * Turns one output pipe of a process into whole lines, ready to leave the node: valid UTF-8, without secrets. Owns the bytes of the line that
 * is not whole yet.
 *
 * 1. What comes out ends with a newline, always.
 * 2. A line that stays open for 100 ms, or grows beyond 64 KiB, is let out in pieces: a piece that is continued ends with ` ⋯`, the one that
 *    goes on begins with `⋯ `. Pieces are never cut inside a character, nor where a secret may have begun.
 * 3. Bytes that are not UTF-8 become U+FFFD.
 */
import { isUtf8 } from 'node:buffer'
import type { Masker } from './masker.js'

/** A prompt without a newline should be seen soon; much shorter, and slow writers' lines fall into pieces. */
const openLineMs = 100
/** The largest piece of an open line. */
export const maxLineBytes = 64 * 1024
const newline = 10
const continuedMark = Buffer.from(' ⋯\n')
const continuesMark = Buffer.from('⋯ ')
const nothing = Buffer.alloc(0)

/** See the file header. */
export class LineStream {
  readonly #masker: Masker
  readonly #onLines: (lines: Buffer) => void
  #open: Buffer = nothing
  #isContinuing = false
  /** When the open line began, by performance.now(). */
  #openedAt = 0
  #timer: NodeJS.Timeout | undefined

  /** `onLines` gets one or more whole lines at a time. */
  constructor(masker: Masker, onLines: (lines: Buffer) => void) {
    this.#masker = masker
    this.#onLines = onLines
  }

  /** Takes what was read from the pipe. */
  push(bytes: Buffer): void {
    let all = this.#open.length === 0 ? bytes : Buffer.concat([this.#open, bytes])
    const end = all.lastIndexOf(newline) + 1
    if (end > 0) {
      this.#emitLines(all.subarray(0, end))
      all = all.subarray(end)
    }
    if (end > 0 || this.#open.length === 0) this.#openedAt = performance.now()
    this.#open = all
    while (this.#open.length > maxLineBytes) if (!this.#emitPiece(maxLineBytes)) break
    if (this.#open.length > 0) this.#timer ??= setTimeout(() => this.#onTimer(), openLineMs)
  }

  /** The pipe is closed: lets out what is left. */
  end(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    if (this.#open.length === 0) return
    const rest = this.#open
    this.#open = nothing
    this.#emitLines(Buffer.concat([rest, Buffer.from('\n')]))
  }

  #onTimer(): void {
    this.#timer = undefined
    if (this.#open.length === 0) return
    const leftMs = this.#openedAt + openLineMs - performance.now()
    if (leftMs > 1) this.#timer = setTimeout(() => this.#onTimer(), leftMs)
    else this.#emitPiece(this.#open.length)
  }

  /** Lets out at most `size` bytes of the open line; false when it has to wait for more. */
  #emitPiece(size: number): boolean {
    const candidate = this.#open.subarray(0, size)
    const safe = this.#masker.safeCut(candidate.subarray(0, candidate.length - incompleteBytes(candidate)))
    if (safe <= 0) return false
    const piece = this.#open.subarray(0, safe)
    this.#open = this.#open.subarray(safe)
    this.#emit(Buffer.concat([this.#clean(piece), continuedMark]))
    this.#isContinuing = true
    return true
  }

  #emitLines(lines: Buffer): void {
    if (lines.length <= maxLineBytes || !hasLongLine(lines)) return this.#emit(this.#clean(lines))
    // Masked first, so that no cut can fall into a secret.
    for (const piece of splitLongLines(this.#clean(lines))) this.#emit(piece)
  }

  #emit(lines: Buffer): void {
    if (this.#isContinuing) {
      this.#isContinuing = false
      this.#onLines(Buffer.concat([continuesMark, lines]))
    } else this.#onLines(lines)
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
