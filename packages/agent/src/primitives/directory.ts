/** A directory with mode and owner, or its absence. */
import { chmod, chown, mkdir, readdir, rm, rmdir } from 'node:fs/promises'
import { resolve } from 'node:path'
import { checkConfinedPath } from './confinement.js'
import { lstatIfThere } from './file.js'
import { compareOwnership, resolveOwnership } from './ownership.js'
import { failure, type Primitive } from './primitive.js'

/** Missing parents are made too, with mode 0755. Removing needs `recursive` unless the directory is empty. */
export const directory: Primitive<'directory'> = {
  async check(spec, { confine }) {
    const confined = checkConfinedPath(spec.path, confine)
    if (confined) return { failure: confined }
    const stats = await lstatIfThere(spec.path)
    if (stats && !stats.isDirectory()) return failure('COMMAND_CONFLICT', `${spec.path} is there and is no directory`)
    if (spec.state === 'absent') return stats ? { isThere: false, difference: `- ${spec.path}/` } : { isThere: true }
    const wanted = resolveOwnership(spec)
    if ('failure' in wanted) return { isThere: false, difference: wanted.failure.message }
    if (!stats) return { isThere: false, difference: `+ ${spec.path}/` }
    const lines = compareOwnership(stats, wanted)
    return lines.length === 0 ? { isThere: true } : { isThere: false, difference: `${spec.path}: ${lines.join(', ')}` }
  },

  async do(spec) {
    if (spec.state === 'absent') return await remove(spec.path, spec.recursive ?? false)
    const wanted = resolveOwnership(spec)
    if ('failure' in wanted) return wanted
    await mkdir(spec.path, { recursive: true, mode: 0o755 })
    if (wanted.uid !== undefined || wanted.gid !== undefined) await chown(spec.path, wanted.uid ?? -1, wanted.gid ?? -1)
    // After chown, which clears the set-id bits.
    if (wanted.mode !== undefined) await chmod(spec.path, wanted.mode)
    return {}
  },
}

async function remove(path: string, isRecursive: boolean): Promise<ReturnType<typeof failure> | Record<string, never>> {
  if (resolve(path) === '/') return failure('COMMAND_BAD_SPEC', 'the root directory is not removed')
  if (isRecursive) {
    await rm(path, { recursive: true, force: true })
    return {}
  }
  const entries = await readdir(path)
  if (entries.length > 0) return failure('COMMAND_CONFLICT', `${path} is not empty (${entries.length} entries); recursive: true would remove it with all in it`)
  await rmdir(path)
  return {}
}
