/**
 * Streams of answers that stay open: log and event tails. Owns the count, the limit and the means to end them all.
 *
 * 1. Every stream ends: with its content, with its client, or with the server, and leaves neither timer nor listener.
 * 2. `write` resolves when the client can take more: who awaits it holds one page in memory, not the whole log.
 * 3. After its client is gone, `write` resolves at once and does nothing; `signal` tells.
 */
import type { ServerResponse } from 'node:http'
import { LichenError } from '@lichen/core'
import type { FastifyReply } from 'fastify'
import type { ApiLog } from '../api-log.js'
import type { ApiMetrics } from '../metrics/api-metrics.js'

export interface AnswerStream {
  /** Fires when the client is gone or the server stops. */
  readonly signal: AbortSignal
  write(chunk: string | Uint8Array): Promise<void>
}

export interface OpenStreams {
  /**
   * Answers with a stream: sends the head at once, runs `produce`, ends the answer. A failure of `produce` breaks the connection, so that the
   * client does not take what it got for the whole. `heartbeat`: sent when nothing was for a while.
   * @throws API_BUSY when too many are open
   */
  run(reply: FastifyReply, head: { readonly contentType: string; readonly headers?: Readonly<Record<string, string>>; readonly heartbeat?: string }, produce: (stream: AnswerStream) => Promise<void>): Promise<void>
  /** Ends all of them; later ones are refused. */
  close(): void
}

/** The streams of one API. */
export function buildOpenStreams({ limit, heartbeatMs, metrics, log }: { readonly limit: number; readonly heartbeatMs: number; readonly metrics: ApiMetrics; readonly log: ApiLog }): OpenStreams {
  const open = new Set<AbortController>()
  let isClosed = false
  return {
    async run(reply, head, produce) {
      if (isClosed) throw new LichenError('API_BUSY', 'the server is stopping')
      if (open.size >= limit) throw new LichenError('API_BUSY', `${open.size} streams are open, which is the limit of this server`, { retryAfterS: 10 })
      const gone = new AbortController()
      open.add(gone)
      metrics.openStreams.set(open.size)
      reply.hijack()
      const response = reply.raw
      const onClose = () => gone.abort()
      response.once('close', onClose)
      let pulse: { stop(): void } | undefined
      try {
        sendHead(reply, head)
        pulse = startPulse(response, head.heartbeat, heartbeatMs)
        await produce({ signal: gone.signal, write: (chunk) => writeChunk(response, chunk, gone.signal) })
        response.end()
      } catch (error) {
        log.warn({ err: error, url: reply.request.url }, 'a stream broke off')
        response.destroy()
      } finally {
        pulse?.stop()
        response.off('close', onClose)
        open.delete(gone)
        metrics.openStreams.set(open.size)
      }
    },
    close() {
      isClosed = true
      for (const gone of open) gone.abort()
    },
  }
}

function sendHead(reply: FastifyReply, head: { readonly contentType: string; readonly headers?: Readonly<Record<string, string>> }): void {
  // `connection: close`: a stopping server waits for connections, and one that was a stream for hours has no other use for its client.
  const headers = { ...reply.getHeaders(), 'content-type': head.contentType, 'cache-control': 'no-store', 'x-accel-buffering': 'no', connection: 'close', ...head.headers }
  for (const [name, value] of Object.entries(headers)) if (value !== undefined) reply.raw.setHeader(name, value)
  reply.raw.statusCode = 200
  reply.raw.flushHeaders()
}

/** Sends the sign of life when the stream was silent for an interval and the client takes what it is sent. */
function startPulse(response: ServerResponse, heartbeat: string | undefined, heartbeatMs: number): { stop(): void } | undefined {
  if (heartbeat === undefined) return undefined
  let writtenBefore = -1
  const timer = setInterval(() => {
    const written = response.socket?.bytesWritten ?? 0
    if (written === writtenBefore && !response.writableNeedDrain && !response.destroyed) response.write(heartbeat)
    writtenBefore = response.socket?.bytesWritten ?? 0
  }, heartbeatMs)
  timer.unref()
  return { stop: () => clearInterval(timer) }
}

function writeChunk(response: ServerResponse, chunk: string | Uint8Array, signal: AbortSignal): Promise<void> {
  if (signal.aborted || response.destroyed || response.write(chunk)) return Promise.resolve()
  return new Promise((resolve) => {
    const done = () => {
      response.off('drain', done)
      signal.removeEventListener('abort', done)
      resolve()
    }
    response.once('drain', done)
    signal.addEventListener('abort', done, { once: true })
  })
}
