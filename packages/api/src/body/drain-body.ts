import type { IncomingMessage } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'

// A client that is still sending does not read the answer: closing on it gives it a broken connection instead of a 413. So what it sends is
// read and thrown away, within bounds: 64 MiB is far above any plan sent by mistake, ten seconds above any upload of it.
const drainLimitBytes = 64 * 1024 * 1024
const drainLimitMs = 10_000

/** Resolves when the rest of the body has arrived and was thrown away, or a limit is reached. */
export async function drainBody(request: IncomingMessage): Promise<void> {
  if (request.complete || request.readableEnded || request.destroyed) return
  const limit = new AbortController()
  let sizeBytes = 0
  const ended = new Promise<void>((resolve) => {
    request.on('data', (chunk: Buffer) => {
      sizeBytes += chunk.length
      if (sizeBytes > drainLimitBytes) resolve()
    })
    request.once('end', resolve)
    request.once('close', resolve)
    request.resume()
  })
  await Promise.race([ended, sleep(drainLimitMs, undefined, { signal: limit.signal, ref: false }).catch(() => undefined)])
  limit.abort()
}
