/** A regular file with content, mode and owner, or its absence. Replaced as a whole: who reads it sees the old or the new content, never a part. */
import { lstat, open, readFile, rename, rm } from 'node:fs/promises'
import type { Stats } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { isUtf8 } from 'node:buffer'
import type { CommandSpec } from '@lichen/core'
import type { Masker } from '../output/masker.js'
import { checkConfinedPath } from './confinement.js'
import { compareOwnership, type Ownership, resolveOwnership } from './ownership.js'
import { failure, type Finding, type Primitive } from './primitive.js'
import { buildPrivateDiff } from './private-diff.js'

type Spec = CommandSpec<'file'>
/** Above this no line-by-line diff is made: it would take seconds and be cut anyway. */
const maxDiffBytes = 256 * 1024
const newFileMode = 0o644

/** See the file header. */
export const file: Primitive<'file'> = {
  async check(spec, { confine, log }) {
    const confined = checkConfinedPath(spec.path, confine)
    if (confined) return { failure: confined }
    const stats = await lstatIfThere(spec.path)
    if (spec.state === 'absent') return checkAbsent(spec.path, stats)
    if (spec.content === undefined) return failure('COMMAND_BAD_SPEC', `${spec.path}: neither content nor state: absent is given`)
    if (stats?.isDirectory()) return failure('COMMAND_CONFLICT', `${spec.path} is a directory`)
    const wanted = resolveOwnership(spec)
    // In check mode the user may be made by an earlier command of the same run.
    if ('failure' in wanted) return { isThere: false, difference: wanted.failure.message }
    return await compare(spec, stats, wanted, log.masker)
  },

  async do(spec) {
    if (spec.state === 'absent') {
      await rm(spec.path, { force: true })
      await syncDirectory(dirname(spec.path))
      return {}
    }
    const wanted = resolveOwnership(spec)
    if ('failure' in wanted) return wanted
    await replaceFile(spec.path, Buffer.from(spec.content ?? '', 'utf8'), wanted)
    return {}
  },
}

function checkAbsent(path: string, stats: Stats | undefined): Finding {
  if (!stats) return { isThere: true }
  if (stats.isDirectory()) return failure('COMMAND_CONFLICT', `${path} is a directory; a directory command can remove it`)
  return { isThere: false, difference: `- ${path}` }
}

async function compare(spec: Spec, stats: Stats | undefined, wanted: Ownership, masker: Masker): Promise<Finding> {
  const content = Buffer.from(spec.content ?? '', 'utf8')
  const present = stats?.isFile() ? await readFile(spec.path) : undefined
  const lines = stats?.isFile() ? compareOwnership(stats, wanted) : []
  if (present?.equals(content)) return lines.length === 0 ? { isThere: true } : { isThere: false, difference: `${spec.path}: ${lines.join(', ')}` }
  const what = await describeContent(spec, present, content, masker)
  const kind = stats && !stats.isFile() ? ` (not a regular file; it will be replaced)` : ''
  return { isThere: false, difference: [what + kind, ...lines.map((line) => `${spec.path}: ${line}`)].join('\n') }
}

async function describeContent({ path, secret }: Spec, present: Buffer | undefined, content: Buffer, masker: Masker): Promise<string> {
  const sizes = present ? `${present.length} → ${content.length} bytes` : `new, ${content.length} bytes`
  const isText = present === undefined || isUtf8(present)
  const isLarge = content.length > maxDiffBytes || (present?.length ?? 0) > maxDiffBytes
  if (secret) {
    const diff = present && isText && !isLarge ? await buildPrivateDiff(path, present.toString('utf8'), content.toString('utf8'), masker) : undefined
    return diff ?? `${path}: content differs (${sizes}; not shown)`
  }
  if (!isText) return `${path}: binary content differs (${sizes})`
  if (isLarge) return `${path}: content differs (${sizes})`
  const { createTwoFilesPatch, FILE_HEADERS_ONLY } = await import('diff')
  const patch = createTwoFilesPatch(present ? path : '/dev/null', path, present?.toString('utf8') ?? '', content.toString('utf8'), undefined, undefined, { context: 3, timeout: 500, headerOptions: FILE_HEADERS_ONLY })
  return patch ?? `${path}: content differs (${sizes})`
}

/**
 * Puts the content at the path in one step (new file, fsync, rename, fsync of the directory). Without a mode or owner asked for, those of the present
 * file are kept; a new file gets 0644. The new file's name is fixed, so what a crash leaves is taken over by the next try.
 */
export async function replaceFile(path: string, content: Buffer, wanted: Ownership): Promise<void> {
  const temporary = join(dirname(path), `.${basename(path)}.lichen-new`)
  const present = await lstatIfThere(path)
  const kept = present?.isFile() ? present : undefined
  await rm(temporary, { force: true })
  const handle = await open(temporary, 'wx', 0o600)
  try {
    await handle.writeFile(content)
    const uid = wanted.uid ?? kept?.uid ?? -1
    const gid = wanted.gid ?? kept?.gid ?? -1
    const own = await handle.stat()
    if ((uid !== -1 && uid !== own.uid) || (gid !== -1 && gid !== own.gid)) await handle.chown(uid, gid)
    await handle.chmod(wanted.mode ?? (kept ? kept.mode & 0o7777 : newFileMode))
    await handle.sync()
  } catch (error) {
    await handle.close()
    await rm(temporary, { force: true })
    throw error
  }
  await handle.close()
  await rename(temporary, path)
  await syncDirectory(dirname(path))
}

/** The directory's entries are on the disk. */
export async function syncDirectory(path: string): Promise<void> {
  const handle = await open(path, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/** What stands at the path itself (links not followed); undefined when nothing does. */
export async function lstatIfThere(path: string): Promise<Stats | undefined> {
  try {
    return await lstat(path)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined
    throw error
  }
}
