/**
 * What a run leaves on disk for the next one: the nodes' root directories, the server's data, and this note. A second run boots the same
 * nodes and finds that nothing has to change.
 *
 * 1. The note exists only while what it describes is complete: it is taken away before anything is touched, and written again at the end.
 *    Whatever is found without a note is the rest of a run that was killed, and is removed.
 */
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

export interface KeptDeployment {
  readonly version: 1
  /** The agents' configuration files name it: the next server must listen there again. */
  readonly gatewayPort: number
  /** SHA-256 of the agent's package that the nodes have. */
  readonly agentDigest: string
  /** Milliseconds since the epoch. */
  readonly keptAt: number
}

/**
 * Certificates of nodes that are switched off are not renewed, and end after a day or two; beyond this age a new lab is made instead.
 */
const usableForMs = 12 * 3_600_000

const notePath = (directory: string): string => join(directory, 'demo.json')

/** The note of the last complete run, taken away; undefined when there is none, or one that is of no use any more. */
export function takeKeptDeployment(directory: string, now: number): KeptDeployment | undefined {
  try {
    const note = JSON.parse(readFileSync(notePath(directory), 'utf8')) as KeptDeployment
    rmSync(notePath(directory))
    return note.version === 1 && now - note.keptAt < usableForMs ? note : undefined
  } catch {
    return undefined
  }
}

/** Writes the note. */
export function writeKeptDeployment(directory: string, note: KeptDeployment): void {
  writeFileSync(notePath(directory), `${JSON.stringify(note)}\n`, { mode: 0o600 })
}
