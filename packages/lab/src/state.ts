/**
 * The state file of a lab: which nodes it has, at which addresses. It says what should be, never what runs (that is read from /proc).
 *
 * 1. It is written before anything it names is made, so that a crash in between leaves nothing unnamed.
 * 2. It is replaced by rename, so that a reader sees the old or the new one, whole.
 */
import { mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { LichenError } from '@lichen/core'
import type { LabNames } from './names.js'

/** One node as it was asked for. */
export interface NodeEntry {
  readonly name: string
  /** From 1, never given twice in the life of a lab; the last octet of the address is `index + 10`. */
  readonly index: number
  readonly address: string
  /** Limit of the node's memory in bytes; absent is no limit. */
  readonly memoryBytes?: number
  /** All capabilities and the devices that kubelets and network agents need. */
  readonly isPrivileged: boolean
  /** Names, in the node, of its links beside `host0`; absent is none. */
  readonly links?: readonly string[]
}

export interface LabState {
  readonly version: 1
  readonly name: string
  readonly id: string
  readonly cacheDirectory: string
  /** First three octets of the lab's /24. */
  readonly network: string
  /** The bridge's address: the host, as the nodes see it. */
  readonly gateway: string
  /** Where nodes reach the package cache, on the gateway address. */
  readonly proxyPort: number
  readonly nodes: readonly NodeEntry[]
}

/**
 * The state of a lab, or undefined when it has none.
 * @throws LAB_STATE when there is a file and it cannot be understood.
 */
export function readState(names: LabNames): LabState | undefined {
  let text: string
  try {
    text = readFileSync(names.statePath, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
  try {
    const state = JSON.parse(text) as LabState
    if (state.version === 1 && Array.isArray(state.nodes)) return state
  } catch (cause) {
    throw new LichenError('LAB_STATE', `${names.statePath}: ${(cause as Error).message}; remove the lab with: lab down --name ${names.name}`, { cause })
  }
  throw new LichenError('LAB_STATE', `${names.statePath}: not written by this version; remove the lab with: lab down --name ${names.name}`)
}

/** Replaces a file by this text, atomically. */
export function replaceFile(path: string, text: string, mode = 0o644): void {
  const temporary = `${path}.new`
  writeFileSync(temporary, text, { mode })
  renameSync(temporary, path)
}

/** Writes the state of a lab, making its directory when missing. */
export function writeState(names: LabNames, state: LabState): void {
  mkdirSync(dirname(names.statePath), { recursive: true, mode: 0o755 })
  replaceFile(names.statePath, JSON.stringify(state, null, 2) + '\n')
}

/** Names of all labs kept under a directory, sorted; empty when there is no such directory. */
export function readLabList(baseDirectory: string): string[] {
  try {
    return readdirSync(baseDirectory, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map((entry) => entry.name)
      .sort()
  } catch {
    return []
  }
}
