/**
 * How long to wait before the next try: doubling with full jitter, so that a thousand agents that lost one engine do not come back in one moment. It
 * falls back to the beginning only after a connection has been good for a while: one that is accepted and dropped again and again keeps waiting longer.
 */
export interface BackoffOptions {
  readonly firstMs: number
  readonly maxMs: number
  /** A connection that lasted this long counts as good. */
  readonly goodAfterMs: number
  /** A number from 0 to 1. */
  readonly random: () => number
}

/** See the file header. */
export class Backoff {
  readonly #options: BackoffOptions
  #tries = 0

  constructor(options: BackoffOptions) {
    this.#options = options
  }

  /** The wait before the next try, in milliseconds. `lastedMs`: how long the connection that just ended had been good; 0 when it never was. */
  next(lastedMs: number): number {
    const { firstMs, maxMs, goodAfterMs, random } = this.#options
    if (lastedMs >= goodAfterMs) this.#tries = 0
    const ceiling = Math.min(maxMs, firstMs * 2 ** Math.min(this.#tries++, 30))
    return ceiling / 2 + (random() * ceiling) / 2
  }
}
