/**
 * A stream of records that outlives its connections. Owns the connection, the position and the patience; what a record means is the
 * caller's.
 *
 * 1. A record is given to the caller once: the position moves past a record before the next is asked for, and a reconnection asks for
 *    what follows the position.
 * 2. A connection that ends is no end of the stream: `isEnded` decides, because a server that stops closes its streams as politely as
 *    one that has nothing more to say.
 * 3. Patience (`patienceMs`) counts from the moment the connection was lost; when it is over, the last failure is thrown.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { CliFailure } from '../failure.js'
import { describeNetworkError, type Client } from './client.js'

export interface StreamRequest<T> {
  readonly path: string
  readonly query: Readonly<Record<string, string | number | boolean | undefined>>
  /** Name of the query parameter that carries the position, and the position to begin with. */
  readonly positionName: string
  readonly position: number
  /** Goes instead of the position until a first record has come: for streams that begin at a place which the server knows, e.g. the last lines. */
  readonly beginning?: Readonly<Record<string, string | number>> | undefined
  /** The position behind this record. */
  positionAfter(record: T): number
  /** Asked when a connection has ended by itself: is there nothing more to come after this position? */
  isEnded(position: number): Promise<boolean>
  /** Told when the connection is lost and when it is back. */
  readonly onConnection?: (state: 'lost' | 'back', failure?: CliFailure) => void
  readonly signal?: AbortSignal | undefined
  readonly patienceMs?: number
  /** A connection on which nothing was heard for so long counts as lost. */
  readonly silenceMs?: number
}

/** A minute: a server restarts in seconds, a machine in about a minute; after that a person should look. */
const defaultPatienceMs = 60_000
/** Three of the server's signs of life (15 s): a peer that vanished without a word is noticed, one slow answer is not taken for it. */
const defaultSilenceMs = 45_000
const firstPauseMs = 200
const longestPauseMs = 3_000

/**
 * Every record of an NDJSON stream, once and in order, across lost connections. Ends when `isEnded` says so or the signal fires.
 * @throws CliFailure when the server stays away longer than the patience, or refuses.
 */
export async function* readResumed<T>(client: Client, request: StreamRequest<T>): AsyncGenerator<T> {
  let position = request.position
  let beginning = request.beginning
  let lostAt: number | undefined
  let pauseMs = firstPauseMs
  const patienceMs = request.patienceMs ?? defaultPatienceMs
  for (;;) {
    try {
      const response = await client.open(request.path, 'application/x-ndjson', { query: { ...request.query, ...(beginning ?? { [request.positionName]: position }) }, signal: request.signal })
      if (lostAt !== undefined) request.onConnection?.('back')
      lostAt = undefined
      for await (const record of readNdjson<T>(response, request.silenceMs ?? defaultSilenceMs)) {
        position = request.positionAfter(record)
        beginning = undefined
        pauseMs = firstPauseMs
        yield record
      }
      if (await request.isEnded(position)) return
    } catch (error) {
      if (request.signal?.aborted) return
      const failure = describeNetworkError(error, client.settings)
      if (!failure.isTransient || (lostAt !== undefined && Date.now() - lostAt > patienceMs)) throw failure
      if (lostAt === undefined) request.onConnection?.('lost', failure)
      lostAt ??= Date.now()
    }
    await sleep(pauseMs, undefined, request.signal ? { signal: request.signal } : {}).catch(() => undefined)
    if (request.signal?.aborted) return
    pauseMs = Math.min(pauseMs * 2, longestPauseMs)
  }
}

/** Records of one NDJSON body. Blank lines (signs of life) are skipped; half a line at a lost connection is not given out. */
async function* readNdjson<T>(response: Response, silenceMs: number): AsyncGenerator<T> {
  if (!response.body) return
  const reader = response.body.getReader()
  const decoder = new TextDecoder()
  let rest = ''
  try {
    for (;;) {
      const { done, value } = await withinMs(silenceMs, reader.read())
      if (done) return
      const lines = (rest + decoder.decode(value, { stream: true })).split('\n')
      rest = lines.pop()!
      for (const line of lines) if (line.trim() !== '') yield JSON.parse(line) as T
    }
  } finally {
    await reader.cancel().catch(() => undefined)
  }
}

async function withinMs<T>(limitMs: number, work: Promise<T>): Promise<T> {
  const over = new AbortController()
  const limit = sleep(limitMs, undefined, { signal: over.signal }).then(() => {
    throw new Error(`nothing was heard for ${limitMs / 1000} s`)
  })
  try {
    return await Promise.race([work, limit])
  } finally {
    over.abort()
    limit.catch(() => undefined)
  }
}
