/** What happened in a run, line by line: a hash of all of it always, and the lines themselves when somebody wants to read them. */

export interface Transcript {
  /** Adds a line. `text` is called only when lines are kept or hashed, and must not depend on anything but the run. */
  line(at: number, who: string, what: string): void
  /** 16 hex digits over every line so far. */
  digest(): string
  /** The lines; empty unless they are kept. */
  readonly lines: readonly string[]
  readonly count: number
}

/** An empty transcript. `keep`: lines are kept, beside their hash. */
export function buildTranscript(keep: boolean): Transcript {
  const lines: string[] = []
  let high = 0x811c9dc5
  let low = 0x1b873593
  let count = 0

  // Two FNV-1a hashes of 32 bits, started differently: what differs anywhere differs here, and nobody tries to forge a transcript.
  function mix(code: number): void {
    high = Math.imul(high ^ code, 0x01000193)
    low = Math.imul(low ^ code, 0x01000197)
  }

  function mixText(text: string): void {
    for (let index = 0; index < text.length; index++) mix(text.charCodeAt(index))
    mix(text.length)
  }

  return {
    line(at, who, what) {
      count += 1
      // The parts of the line and not its text, which is made for readers only.
      const microseconds = Math.round(at * 1000)
      mix(microseconds | 0)
      mix(Math.floor(microseconds / 2 ** 32))
      mixText(who)
      mixText(what)
      if (keep) lines.push(`${at.toFixed(3)} ${who} ${what}\n`)
    },
    digest: () => (high >>> 0).toString(16).padStart(8, '0') + (low >>> 0).toString(16).padStart(8, '0'),
    lines,
    get count() {
      return count
    },
  }
}
