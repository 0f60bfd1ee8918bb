/**
 * Tokens that commands of late were given, for the next ones of the same user: a plan has a command for each service of a cloud, each looks before and after it acts, and a token costs the
 * identity service a quarter of a second of a processor.
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

/** See the file header. Times are those of a clock that only goes on, in ms. */
export class TokenShelf {
  readonly #kept = new Map<string, { readonly token: Token; readonly untilMs: number }>()

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
}

/** Of everything that a token is asked for with; the password cannot be read from it. */
const keyOf = (auth: OpenstackAuth): string => createHash('sha256').update(JSON.stringify(Object.entries(auth).sort(([a], [b]) => (a < b ? -1 : 1)))).digest('base64')
