import { sha256 } from '@noble/hashes/sha2.js'
import { bytesToHex, utf8ToBytes } from '@noble/hashes/utils.js'
import { configure } from 'safe-stable-stringify'

const stringify = configure({ deterministic: true, circularValue: Error, bigint: false })

/** Canonical JSON text of a value: keys sorted, no white space; the same value always gives the same text. */
export const encodeCanonical = (value: unknown): string => stringify(value) ?? 'null'

/** SHA-256, lower-case hex, of the canonical JSON of a value. */
export const digestOf = (value: unknown): string => bytesToHex(sha256(utf8ToBytes(encodeCanonical(value))))
