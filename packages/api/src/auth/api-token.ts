/** Bearer tokens of the API. The store keeps their digests alone: whoever reads the database cannot use them. */
import { createHash, randomBytes } from 'node:crypto'
import type { Store } from '@lichen/store'

/** SHA-256 of a token, lower-case hex: what the store looks it up by, so no comparison of secrets takes place anywhere. */
export const digestOfToken = (token: string): string => createHash('sha256').update(token).digest('hex')

/** A new token of 256 random bits with its digest and a public id for lists, logs and audit. */
export function makeApiToken(): { readonly id: string; readonly token: string; readonly digest: string } {
  const token = `lichen_${randomBytes(32).toString('base64url')}`
  const digest = digestOfToken(token)
  return { id: `token-${digest.slice(0, 12)}`, token, digest }
}

/**
 * The administrator's token for a server's start: `token` when one is given, else a new one. Afterwards the store accepts it, without
 * expiry; asking again with the same token changes nothing, and other tokens stay valid.
 */
export async function bootstrapAdminToken(store: Pick<Store, 'secrets'>, options: { readonly now: () => number; readonly token?: string }): Promise<string> {
  const made = options.token === undefined ? makeApiToken() : { token: options.token, digest: digestOfToken(options.token) }
  if ((await store.secrets.findApiToken(made.digest)) === undefined) {
    await store.secrets.putApiToken({ id: `admin-${made.digest.slice(0, 12)}`, digest: made.digest, name: 'admin', createdAt: options.now(), expiresAt: null })
  }
  return made.token
}
