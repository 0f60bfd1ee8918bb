/**
 * An archive fetched, compared with its digest and unpacked once. A marker file in the destination holds the digest of what was unpacked there, written
 * last: it is what the check looks for.
 */
import { randomUUID } from 'node:crypto'
import { mkdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { CommandSpec } from '@lichen/core'
import { findAccount } from '../run/account.js'
import { checkConfinedPath } from './confinement.js'
import { download } from './download.js'
import { replaceFile } from './file.js'
import { type CommandContext, failure, type Primitive } from './primitive.js'

type Spec = CommandSpec<'archive'>
const markerName = '.lichen-archive'

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
      const problem = await download(spec, path, context)
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
