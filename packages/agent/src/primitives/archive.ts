/**
 * An archive fetched, compared with its digest and unpacked once. A marker file in the destination holds the digest of what was unpacked there, written
 * last: it is what the check looks for.
 */
import { createHash, randomUUID } from 'node:crypto'
import { createReadStream, createWriteStream } from 'node:fs'
import { mkdir, readFile, rm } from 'node:fs/promises'
import type { IncomingMessage } from 'node:http'
import { join } from 'node:path'
import { type Readable, Transform } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { fileURLToPath } from 'node:url'
import type { CommandSpec } from '@lichen/core'
import { findAccount } from '../run/account.js'
import { checkConfinedPath } from './confinement.js'
import { replaceFile } from './file.js'
import { type CommandContext, failure, type Primitive } from './primitive.js'

type Spec = CommandSpec<'archive'>
const markerName = '.lichen-archive'
const maxRedirects = 5
const idleMs = 60_000

/** See the file header. Files of an older archive in the destination are left there where the new one has none of that name. */
export const archive: Primitive<'archive'> = {
  async check(spec, { confine }) {
    const confined = checkConfinedPath(join(spec.destination, markerName), confine)
    if (confined) return { failure: confined }
    const present = await readMarker(spec.destination)
    if (present === markerText(spec)) return { isThere: true }
    return { isThere: false, difference: `+ ${spec.destination}/ from ${spec.url} (sha256 ${spec.sha256.slice(0, 12)}…)` }
  },

  async do(spec, context) {
    const owner = spec.owner === undefined ? undefined : findAccount(spec.owner)
    if (spec.owner !== undefined && !owner) return failure('COMMAND_USER_UNKNOWN', `the node has no user ${spec.owner}`)
    const directory = join(context.dataDirectory, 'downloads')
    await mkdir(directory, { recursive: true, mode: 0o700 })
    // Not named after the digest alone: two attempts may fetch the same archive.
    const path = join(directory, `${spec.sha256}-${randomUUID()}`)
    try {
      const problem = await fetchArchive(spec, path, context)
      return problem ?? (await unpack(spec, path, owner, context))
    } finally {
      await rm(path, { force: true })
    }
  },
}

const markerText = (spec: Spec): string => `${spec.sha256} strip=${spec.stripComponents ?? 0}\n`

async function readMarker(destination: string): Promise<string | undefined> {
  try {
    return await readFile(join(destination, markerName), 'utf8')
  } catch {
    return undefined
  }
}

async function fetchArchive(spec: Spec, path: string, context: CommandContext): Promise<ReturnType<typeof failure> | undefined> {
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
    const source = spec.url.startsWith('file:') ? createReadStream(fileURLToPath(spec.url)) : await openUrl(spec.url, maxRedirects)
    if (typeof source === 'string') return failure('COMMAND_FETCH_FAILED', `${spec.url}: ${source}`)
    await pipeline(source, counter, createWriteStream(path, { mode: 0o600 }), { signal: abort.signal })
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    if (code === 'ENOSPC') throw error
    return failure('COMMAND_FETCH_FAILED', `${spec.url}: ${message || code}`)
  } finally {
    context.deadline.offEnd(onEnd)
  }
  const digest = hash.digest('hex')
  context.log.say(`fetched ${sizeBytes} bytes from ${spec.url}`)
  return digest === spec.sha256 ? undefined : failure('COMMAND_DIGEST_MISMATCH', `${spec.url}: its SHA-256 is ${digest}, asked for was ${spec.sha256}; nothing was unpacked`)
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

async function unpack(spec: Spec, path: string, owner: { uid: number; gid: number } | undefined, context: CommandContext) {
  await mkdir(spec.destination, { recursive: true, mode: 0o755 })
  await rm(join(spec.destination, markerName), { force: true })
  const argv = ['tar', '--extract', '--no-same-owner', `--strip-components=${spec.stripComponents ?? 0}`, `--directory=${spec.destination}`, `--file=${path}`]
  const execution = await context.run({ argv })
  if (execution.exitCode !== 0) {
    const code = /No space left on device/i.test(execution.tail) ? 'COMMAND_DISK_FULL' : 'COMMAND_UNPACK_FAILED'
    return { ...failure(code, `${spec.url}: tar: ${execution.startError ?? execution.tail}`), exitCode: execution.exitCode }
  }
  if (owner) {
    const chown = await context.run({ argv: ['chown', '--recursive', '--no-dereference', `${owner.uid}:${owner.gid}`, spec.destination] })
    if (chown.exitCode !== 0) return failure('COMMAND_UNPACK_FAILED', `chown ${spec.destination}: ${chown.tail}`)
  }
  await replaceFile(join(spec.destination, markerName), Buffer.from(markerText(spec)), { mode: 0o644, uid: undefined, gid: undefined })
  return { exitCode: 0 }
}
