/**
 * Who asks. Owns a short memory of tokens that the store knew, so that 500 requests a second do not ask 500 times.
 *
 * 1. The token itself is kept nowhere, only its digest.
 * 2. A token that the store did not know is asked for again each time: nothing that a stranger sends fills the memory.
 */
import { LichenError } from '@lichen/core'
import type { Store } from '@lichen/store'
import type { FastifyRequest } from 'fastify'
import { digestOfToken } from './api-token.js'

/** Whose token a request carries. */
export interface Caller {
  readonly tokenId: string
  /** Name of the token: what events and the audit trail say as `by`. */
  readonly name: string
}

export interface Authenticator {
  /** The caller of this Authorization header. @throws REQUEST_UNAUTHENTICATED */
  authenticate(authorization: string | undefined): Promise<Caller>
}

declare module 'fastify' {
  interface FastifyRequest {
    /** Set on every request under /v1. */
    caller: Caller | undefined
  }
}

const memorySize = 1_000

interface Known {
  readonly caller: Caller
  readonly expiresAt: number | null
  readonly until: number
}

/** An authenticator over the tokens of this store. `ageMs`: how long a known token is believed without asking again. */
export function buildAuthenticator({ store, now, ageMs }: { readonly store: Pick<Store, 'secrets'>; readonly now: () => number; readonly ageMs: number }): Authenticator {
  const memory = new Map<string, Known>()
  // Of a busy client, all requests under way find at the same moment that its token is to be asked for again.
  const asked = new Map<string, Promise<Known | undefined>>()

  async function find(digest: string): Promise<Known | undefined> {
    const known = memory.get(digest)
    if (known !== undefined && now() < known.until) return known
    memory.delete(digest)
    const asking = asked.get(digest) ?? ask(digest).finally(() => asked.delete(digest))
    asked.set(digest, asking)
    return asking
  }

  async function ask(digest: string): Promise<Known | undefined> {
    const at = now()
    const found = await store.secrets.findApiToken(digest)
    if (found === undefined) return undefined
    const fresh: Known = { caller: { tokenId: found.id, name: found.name }, expiresAt: found.expiresAt, until: at + ageMs }
    if (memory.size >= memorySize) memory.delete(memory.keys().next().value as string)
    memory.set(digest, fresh)
    return fresh
  }

  return {
    async authenticate(authorization) {
      const token = readBearer(authorization)
      const known = await find(digestOfToken(token))
      if (known === undefined) throw new LichenError('REQUEST_UNAUTHENTICATED', 'the bearer token is unknown')
      if (known.expiresAt !== null && known.expiresAt <= now()) throw new LichenError('REQUEST_UNAUTHENTICATED', `the bearer token expired on ${new Date(known.expiresAt).toISOString()}`)
      return known.caller
    },
  }
}

/** RFC 6750, section 2.1. */
function readBearer(authorization: string | undefined): string {
  if (authorization === undefined) throw new LichenError('REQUEST_UNAUTHENTICATED', 'the request needs a bearer token: Authorization: Bearer TOKEN')
  const token = /^Bearer +([A-Za-z0-9._~+/=-]{1,512})$/i.exec(authorization)?.[1]
  if (token === undefined) throw new LichenError('REQUEST_UNAUTHENTICATED', 'the Authorization header must have the form "Bearer TOKEN"')
  return token
}

/** The caller of a request under /v1. */
export function callerOf(request: FastifyRequest): Caller {
  if (request.caller === undefined) throw new LichenError('INTERNAL', `${request.method} ${request.url}: reached without authentication`)
  return request.caller
}
