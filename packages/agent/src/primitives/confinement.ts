/** A confined agent (a local demo, no root) may change nothing outside of one directory. */
import { existsSync, realpathSync } from 'node:fs'
import { basename, dirname, join, resolve, sep } from 'node:path'
import type { Failure } from '@lichen/core'

/** Why the path must not be touched; undefined when it may be. Symbolic links on the way are followed before the comparison. */
export function checkConfinedPath(path: string, confine: string | undefined): Failure | undefined {
  if (confine === undefined) return undefined
  const root = realpathSync(confine)
  const real = realParent(resolve(path))
  if (real === root || real.startsWith(root + sep)) return undefined
  return { code: 'COMMAND_CONFINED', message: `${path}: this agent is confined to ${confine}` }
}

/** Why a command of this kind must not run at all. */
export function checkConfinedKind(what: string, confine: string | undefined): Failure | undefined {
  return confine === undefined ? undefined : { code: 'COMMAND_CONFINED', message: `${what}: this agent is confined to ${confine}, and this would change the machine` }
}

/** The path with its directory's symbolic links resolved, as far as the directory exists. The last part is not followed: it is what would be replaced. */
function realParent(path: string): string {
  let known = dirname(path)
  const rest = [basename(path)]
  while (!existsSync(known) && known !== dirname(known)) {
    rest.unshift(basename(known))
    known = dirname(known)
  }
  return join(realpathSync(known), ...rest)
}
