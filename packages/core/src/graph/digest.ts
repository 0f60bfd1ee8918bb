import { sha256 } from '@noble/hashes/sha2.js'
import { bytesToHex, utf8ToBytes } from '@noble/hashes/utils.js'
import { configure } from 'safe-stable-stringify'
import type { ActionGraph } from './action-graph.js'

const stringify = configure({ deterministic: true, circularValue: Error, bigint: false })

/** Canonical JSON text of a value: keys sorted, no white space; the same value always gives the same text. */
export const encodeCanonical = (value: unknown): string => stringify(value) ?? 'null'

/** SHA-256, lower-case hex, of the canonical JSON of a value. */
export const digestOf = (value: unknown): string => digestOfText(encodeCanonical(value))

/** SHA-256, lower-case hex, of the text as UTF-8. */
export const digestOfText = (text: string): string => bytesToHex(sha256(utf8ToBytes(text)))

/**
 * The digest of an action graph: SHA-256 over the canonical JSON of everything in it but what was known, where each action's key stands for its commands. They are most of the graph, and
 * the key has been made of them already.
 */
export function digestOfGraph({ digest: _digest, known: _known, actions, ...rest }: Omit<ActionGraph, 'digest'> & { readonly digest?: string }): string {
  return digestOf({ ...rest, actions: actions.map(({ commands: _commands, ...action }) => action) })
}
