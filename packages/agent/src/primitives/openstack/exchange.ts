/**
 * One HTTP request and its whole answer, within a deadline. node:http and not fetch: fetch gives up on an answer after 300 s, which an upload may take, and cannot be given certificates.
 * Every request has a connection of its own: servers close idle ones when they like, and a request that is lost to that must not be repeated blindly.
 */
import type { IncomingMessage, OutgoingHttpHeaders } from 'node:http'
import { type Readable } from 'node:stream'
import type { Deadline } from '../../run/deadline.js'

/** More is no answer that this kind of command asks for. */
const maxAnswerBytes = 32 * 1024 * 1024

export interface Request {
  readonly method: string
  readonly url: URL
  readonly headers: OutgoingHttpHeaders
  /** JSON text, or a stream of known size. */
  readonly body?: string | StreamedBody | undefined
  /** Longest wait for the whole answer; undefined: the deadline alone counts. */
  readonly limitMs?: number | undefined
}

export interface StreamedBody {
  readonly sizeBytes: number
  open(): Readable
}

export interface Answer {
  readonly status: number
  readonly text: string
  /** The token, in answers to who asks for one. */
  readonly subjectToken: string | undefined
}

/** What ends a request besides its answer, and whom it trusts. */
export interface ExchangeOptions {
  readonly deadline: Deadline
  /** PEM; undefined: what Node.js trusts. */
  readonly ca: string | undefined
}

/** The answer, whatever its status. @throws Error when there is none: no connection, broken off, over its limit, the deadline has ended. */
export async function exchange({ method, url, headers, body, limitMs }: Request, { deadline, ca }: ExchangeOptions): Promise<Answer> {
  const { request: open } = url.protocol === 'https:' ? await import('node:https') : await import('node:http')
  const source = typeof body === 'object' ? body.open() : undefined
  let stop: (reason?: string) => void = () => {}
  const onDeadline = (): void => stop(deadline.message)
  const timer = limitMs === undefined ? undefined : deadline.clock.after(limitMs, () => stop(`no answer within ${limitMs} ms`))
  try {
    return await new Promise<Answer>((resolve, reject) => {
      const size = typeof body === 'string' ? Buffer.byteLength(body) : body?.sizeBytes
      const request = open(url, { method, agent: false, ...(ca !== undefined && { ca }), headers: { ...headers, ...(size !== undefined && { 'content-length': size }) } }, (response) => readWhole(response).then(resolve, reject))
      stop = (reason) => request.destroy(reason === undefined ? undefined : new Error(reason))
      request.on('error', reject)
      source?.on('error', (error) => request.destroy(error))
      deadline.onEnd(onDeadline)
      if (source) source.pipe(request)
      else request.end(body as string | undefined)
    })
  } finally {
    timer?.cancel()
    deadline.offEnd(onDeadline)
    source?.destroy()
    // An answer may come before the whole body was sent.
    stop()
  }
}

async function readWhole(response: IncomingMessage): Promise<Answer> {
  const parts: Buffer[] = []
  let sizeBytes = 0
  for await (const part of response as AsyncIterable<Buffer>) {
    sizeBytes += part.length
    if (sizeBytes > maxAnswerBytes) throw new Error(`the answer is longer than ${maxAnswerBytes} bytes`)
    parts.push(part)
  }
  const token = response.headers['x-subject-token']
  return { status: response.statusCode ?? 0, text: Buffer.concat(parts).toString('utf8'), subjectToken: typeof token === 'string' ? token : undefined }
}
