/** Fetches a file to the agent's own disk, compared with its digest. */
import { createHash } from 'node:crypto'
import { createReadStream, createWriteStream } from 'node:fs'
import type { IncomingMessage } from 'node:http'
import { type Readable, Transform } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { fileURLToPath } from 'node:url'
import { type CommandContext, failure } from './primitive.js'

const maxRedirects = 5
const idleMs = 60_000

/** What to fetch (http, https or file), and the SHA-256 (hex) that it must have. */
export interface Wanted {
  readonly url: string
  readonly sha256: string
}

/** Why it could not be fetched to the path; undefined when it stands there. @throws ENOSPC when the disk is full. */
export async function download({ url, sha256 }: Wanted, path: string, context: CommandContext): Promise<ReturnType<typeof failure> | undefined> {
  const abort = new AbortController()
  const onEnd = (): void => abort.abort()
  context.deadline.onEnd(onEnd)
  const hash = createHash('sha256')
  let sizeBytes = 0
  const counter = new Transform({
    transform(part: Buffer, _encoding, done) {
      hash.update(part)
      sizeBytes += part.length
      done(undefined, part)
    },
  })
  try {
    const source = url.startsWith('file:') ? createReadStream(fileURLToPath(url)) : await openUrl(url, maxRedirects)
    if (typeof source === 'string') return failure('COMMAND_FETCH_FAILED', `${url}: ${source}`)
    await pipeline(source, counter, createWriteStream(path, { mode: 0o600 }), { signal: abort.signal })
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    if (code === 'ENOSPC') throw error
    return failure('COMMAND_FETCH_FAILED', `${url}: ${message || code}`)
  } finally {
    context.deadline.offEnd(onEnd)
  }
  const digest = hash.digest('hex')
  context.log.say(`fetched ${sizeBytes} bytes from ${url}`)
  return digest === sha256 ? undefined : failure('COMMAND_DIGEST_MISMATCH', `${url}: its SHA-256 is ${digest}, asked for was ${sha256}; it was not used`)
}

/** The body of the answer, or why there is none. Follows redirects. */
async function openUrl(url: string, redirectsLeft: number): Promise<Readable | string> {
  const { get } = url.startsWith('https:') ? await import('node:https') : await import('node:http')
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    const request = get(url, { timeout: idleMs, agent: false }, resolve)
    request.once('timeout', () => request.destroy(new Error(`no data for ${idleMs} ms`)))
    request.once('error', reject)
  })
  const { statusCode = 0, headers } = response
  if (statusCode >= 300 && statusCode < 400 && headers.location !== undefined) {
    response.resume()
    return redirectsLeft === 0 ? 'too many redirects' : await openUrl(new URL(headers.location, url).href, redirectsLeft - 1)
  }
  if (statusCode === 200) return response
  response.resume()
  return `answered ${statusCode}`
}
