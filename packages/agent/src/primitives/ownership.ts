/** Mode and owner of files and directories: comparing, saying and setting. */
import type { Stats } from 'node:fs'
import type { Failure } from '@lichen/core'
import { findAccount, findGroup } from '../run/account.js'

/** What is asked for; undefined parts are left as they are. */
export interface Ownership {
  readonly mode: number | undefined
  readonly uid: number | undefined
  readonly gid: number | undefined
}

/** The ownership that the spec asks for, or why it cannot be: a user or group the node does not have. `group` defaults to nothing, not to the owner's. */
export function resolveOwnership(spec: { mode?: string; owner?: string; group?: string }): Ownership | { readonly failure: Failure } {
  const account = spec.owner === undefined ? undefined : findAccount(spec.owner)
  if (spec.owner !== undefined && !account) return { failure: { code: 'COMMAND_USER_UNKNOWN', message: `the node has no user ${spec.owner}` } }
  const gid = spec.group === undefined ? undefined : findGroup(spec.group)
  if (spec.group !== undefined && gid === undefined) return { failure: { code: 'COMMAND_USER_UNKNOWN', message: `the node has no group ${spec.group}` } }
  return { mode: spec.mode === undefined ? undefined : parseInt(spec.mode, 8), uid: account?.uid, gid }
}

/** Lines that say how the file differs from what is asked for; empty when it does not. */
export function compareOwnership(stats: Stats, wanted: Ownership): string[] {
  const lines: string[] = []
  const mode = stats.mode & 0o7777
  if (wanted.mode !== undefined && wanted.mode !== mode) lines.push(`mode ${formatMode(mode)} → ${formatMode(wanted.mode)}`)
  if (wanted.uid !== undefined && wanted.uid !== stats.uid) lines.push(`owner ${stats.uid} → ${wanted.uid}`)
  if (wanted.gid !== undefined && wanted.gid !== stats.gid) lines.push(`group ${stats.gid} → ${wanted.gid}`)
  return lines
}

const formatMode = (mode: number): string => mode.toString(8).padStart(4, '0')
