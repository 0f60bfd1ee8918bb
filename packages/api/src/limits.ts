import { maxPlanSizeBytes } from '@lichen/core'

/** What the API bounds. Every field has a default. */
export interface ApiLimits {
  /** Largest body of a request that carries a plan, in bytes. Default: the largest plan and 1 MiB for what is around it (quotes and escapes of a plan sent as JSON text). */
  readonly planBodyBytes: number
  /** Largest body of any other request, in bytes. Default: 64 KiB: labels and reasons are small. */
  readonly bodyBytes: number
  /** Streams (log and event tails) open at once. Default: 5,000: each holds a socket and up to two pages of log. */
  readonly streams: number
  /** A stream that had nothing to say for so long sends an empty sign of life. Default: 15,000: below the minute after which proxies cut silent connections. */
  readonly heartbeatMs: number
  /** Bytes of log read at once. Default: 1 MiB: smaller pages cost round trips to the store, larger ones memory for each reader. */
  readonly logPageBytes: number
  /** How long the list of nodes may be reused for checking plans. Default: 500. A check that finds problems always looks again first. */
  readonly nodesAgeMs: number
  /** How long a known token is believed without asking the store. Default: 5,000: a revoked token works that long. */
  readonly tokenAgeMs: number
}

/** The limits, with defaults for what is not given. */
export const buildLimits = (given: Partial<ApiLimits> = {}): ApiLimits => ({
  planBodyBytes: maxPlanSizeBytes + 1024 * 1024,
  bodyBytes: 64 * 1024,
  streams: 5_000,
  heartbeatMs: 15_000,
  logPageBytes: 1024 * 1024,
  nodesAgeMs: 500,
  tokenAgeMs: 5_000,
  ...given,
})
