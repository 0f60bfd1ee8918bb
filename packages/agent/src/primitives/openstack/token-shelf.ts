/**
 * Tokens that commands of late were given, for the next ones of the same user: a plan has a command for each service of a cloud, each looks before and after it acts, and a token costs the
 * identity service a quarter of a second of a processor.
 *
 * A token that a user was given for a password tells later that it is his still: the identity service revokes all tokens of a user whose password changes, or who is disabled. Looking at one is
 * cheap, and what is on a shelf is in the memory of the agent alone.
 *
 * A token that was revoked is refused and replaced, as any other. What it says of the cloud may be old by then, so all are let go when the agent changes something there, and when a service
 * does not answer at the address that a token gave.
 */
import { createHash } from 'node:crypto'
import type { OpenstackAuth } from '@lichen/core'
import type { Catalogue } from './service-catalogue.js'

export interface Token {
  readonly id: string
  readonly projectId: string | undefined
  readonly catalogue: Catalogue
}

const keptMs = 60_000
const maxProofs = 256

/** See the file header. Times are those of a clock that only goes on, in ms. */
export class TokenShelf {
  readonly #kept = new Map<string, { readonly token: Token; readonly untilMs: number }>()
  readonly #proofs = new Map<string, string>()

  take(auth: OpenstackAuth, nowMs: number): Token | undefined {
    for (const [key, { untilMs }] of this.#kept) if (untilMs <= nowMs) this.#kept.delete(key)
    return this.#kept.get(keyOf(auth))?.token
  }

  put(auth: OpenstackAuth, token: Token, nowMs: number): void {
    this.#kept.set(keyOf(auth), { token, untilMs: nowMs + keptMs })
  }

  clear(): void {
    this.#kept.clear()
  }

  /** The token that this user was last given for this password. */
  takeProof(url: string, userId: string, password: string): string | undefined {
    return this.#proofs.get(proofKeyOf(url, userId, password))
  }

  /** undefined: there is none any more. */
  putProof(url: string, userId: string, password: string, token: string | undefined): void {
    const key = proofKeyOf(url, userId, password)
    this.#proofs.delete(key)
    if (token === undefined) return
    if (this.#proofs.size >= maxProofs) this.#proofs.delete(this.#proofs.keys().next().value!)
    this.#proofs.set(key, token)
  }
}

/** Of everything that a token is asked for with; the password cannot be read from it. */
const keyOf = (auth: OpenstackAuth): string => digestOf(Object.entries(auth).sort(([a], [b]) => (a < b ? -1 : 1)))

const proofKeyOf = (url: string, userId: string, password: string): string => digestOf([url, userId, password])

const digestOf = (value: unknown): string => createHash('sha256').update(JSON.stringify(value)).digest('base64')
