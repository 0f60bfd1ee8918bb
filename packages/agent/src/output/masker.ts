/**
 * Finds secrets in bytes and puts `***` in their place, fast enough for the log path: a Wu-Manber search (A Fast Algorithm for Multi-Pattern
 * Searching, 1994) over blocks of two bytes skips most of the text, whatever the number of secrets.
 *
 * 1. A secret is masked as it is, and as people's tools write it: JSON-escaped, URL-encoded, base64 (both alphabets, all three alignments), hex.
 * 2. Where two begin at one place, the longest is masked.
 * 3. A secret of several lines is masked line by line, as lines are what passes here.
 * 4. Values below four bytes are not masked: they are no secrets, and masking them would leave no log.
 */

/** Shorter values, and shorter lines of longer values, are let through. */
const minSecretBytes = 4
/** Lines of a secret of many lines (keys, certificates) shorter than this are brackets and the like. */
const minLineBytes = 6
const mask = Buffer.from('***')

/** See the file header. Made once for each attempt; `add` takes in secrets that appear while it runs. */
export class Masker {
  #patterns: Buffer[] = []
  readonly #known = new Set<string>()
  /** How far the search may skip at a block of two bytes. */
  #shift: Uint8Array | undefined
  /** Patterns by the last block of their first `#window` bytes, longest first. */
  #byBlock = new Map<number, Buffer[]>()
  #window = 0

  constructor(secrets: Iterable<string>) {
    for (const secret of secrets) this.#addForms(secret)
    this.#build()
  }

  /** From now on this value is masked too. */
  add(secret: string): void {
    const before = this.#patterns.length
    this.#addForms(secret)
    if (this.#patterns.length > before) this.#build()
  }

  /** The text without secrets. */
  maskText(text: string): string {
    if (this.#patterns.length === 0) return text
    return this.maskBytes(Buffer.from(text, 'utf8')).toString('utf8')
  }

  /** The bytes without secrets: the same object when there is none in them. */
  maskBytes(bytes: Buffer): Buffer {
    const shift = this.#shift
    if (!shift) return bytes
    const parts: Buffer[] = []
    let copied = 0
    for (let at = this.#window - 1; at < bytes.length; ) {
      const block = (bytes[at - 1]! << 8) | bytes[at]!
      const skip = shift[block]!
      if (skip > 0) {
        at += skip
        continue
      }
      const start = at - this.#window + 1
      const pattern = start < copied ? undefined : this.#match(bytes, block, start)
      if (!pattern) {
        at++
        continue
      }
      parts.push(bytes.subarray(copied, start), mask)
      copied = start + pattern.length
      at = copied + this.#window - 1
    }
    if (copied === 0) return bytes
    parts.push(bytes.subarray(copied))
    return Buffer.concat(parts)
  }

  /**
   * How many bytes from the beginning may be let out while the rest of the line has not come: up to where a secret may have begun, and never into
   * the middle of one that is there.
   */
  safeCut(bytes: Buffer): number {
    let cut = bytes.length - this.#tailBytes(bytes)
    for (let before = -1; before !== cut; ) {
      before = cut
      for (const pattern of this.#patterns) {
        const start = bytes.subarray(0, Math.min(bytes.length, cut + pattern.length - 1)).indexOf(pattern, Math.max(0, cut - pattern.length + 1))
        if (start >= 0 && start < cut) cut = start
      }
    }
    return cut
  }

  #tailBytes(bytes: Buffer): number {
    let longest = 0
    for (const pattern of this.#patterns) {
      for (let size = Math.min(pattern.length - 1, bytes.length); size > longest; size--) {
        if (bytes.compare(pattern, 0, size, bytes.length - size) === 0) longest = size
      }
    }
    return longest
  }

  #match(bytes: Buffer, block: number, start: number): Buffer | undefined {
    return this.#byBlock.get(block)?.find((pattern) => start + pattern.length <= bytes.length && bytes.compare(pattern, 0, pattern.length, start, start + pattern.length) === 0)
  }

  #addForms(secret: string): void {
    this.#addLines(secret, secret)
    if (secret.includes('\n')) this.#addPattern(JSON.stringify(secret).slice(1, -1))
    // A key file is often passed on whole in base64.
    for (const form of encodedForms(secret)) this.#addPattern(form)
  }

  #addLines(secret: string, whole: string): void {
    for (const line of secret.split(/\r?\n/)) {
      if (line !== whole && Buffer.byteLength(line.trim()) < minLineBytes) continue
      this.#addPattern(line === whole ? line : line.trim())
      if (line !== whole) for (const form of encodedForms(line)) this.#addPattern(form)
    }
  }

  #addPattern(text: string): void {
    if (this.#known.has(text) || Buffer.byteLength(text) < minSecretBytes || text.includes('\n')) return
    this.#known.add(text)
    this.#patterns.push(Buffer.from(text, 'utf8'))
  }

  #build(): void {
    if (this.#patterns.length === 0) return
    this.#patterns.sort((a, b) => b.length - a.length)
    this.#window = Math.min(255, this.#patterns.at(-1)!.length)
    this.#shift = new Uint8Array(65_536).fill(this.#window - 1)
    this.#byBlock = new Map()
    for (const pattern of this.#patterns) {
      for (let at = 1; at < this.#window; at++) {
        const block = (pattern[at - 1]! << 8) | pattern[at]!
        this.#shift[block] = Math.min(this.#shift[block]!, this.#window - 1 - at)
      }
      const last = (pattern[this.#window - 2]! << 8) | pattern[this.#window - 1]!
      this.#byBlock.set(last, [...(this.#byBlock.get(last) ?? []), pattern])
    }
  }
}

function encodedForms(secret: string): string[] {
  if (Buffer.byteLength(secret) < minSecretBytes) return []
  const url = encodeUrl(secret)
  const bytes = Buffer.from(secret, 'utf8')
  const inside = [0, 1, 2].map((offset) => base64Inside(bytes, offset)).filter((form) => form.length >= minLineBytes)
  const urlSafe = inside.map((form) => form.replaceAll('+', '-').replaceAll('/', '_'))
  return [JSON.stringify(secret).slice(1, -1), url, url.replaceAll('%20', '+'), url.replace(/%[0-9A-F]{2}/g, (escape) => escape.toLowerCase()), bytes.toString('hex'), ...inside, ...urlSafe]
}

function encodeUrl(text: string): string {
  try {
    return encodeURIComponent(text)
  } catch {
    // A lone surrogate has no URL form.
    return text
  }
}

/** The base64 characters that depend on the secret alone when `offset` bytes (modulo 3) stand before it and anything after it. */
function base64Inside(bytes: Buffer, offset: number): string {
  const text = Buffer.concat([Buffer.alloc(offset), bytes]).toString('base64')
  const first = offset === 0 ? 0 : offset + 1
  const whole = Math.floor(((offset + bytes.length) * 8) / 6)
  return text.slice(first, whole)
}
