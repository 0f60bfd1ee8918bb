/** The URL of a PostgreSQL store: what of it the library reads, what may be shown to people. */
import { LichenError } from '@lichen/core'

export interface StoreUrl {
  /** For the library; `options` is taken out. */
  readonly connectionString: string
  /** Command-line options for the server's side of a session, as the URL names them (`options=-c search_path=lichen`). */
  readonly options: string
  /** Without password and parameters: for messages and logs. */
  readonly shown: string
}

/**
 * The parts of a URL such as `postgres://user:password@host:5432/database?sslmode=verify-full`. A socket directory is named as `?host=/run/postgresql`.
 * @throws STORE_UNSUPPORTED when it is no URL of PostgreSQL, or names no database; the message does not repeat what may hold a password
 */
export function parseStoreUrl(url: string): StoreUrl {
  if (!/^postgres(ql)?:\/\//i.test(url)) throw new LichenError('STORE_UNSUPPORTED', 'the URL of a PostgreSQL store begins with postgres://')
  let parsed: URL
  try {
    parsed = new URL(url)
  } catch {
    // Not kept as cause: it carries the text.
    throw new LichenError('STORE_UNSUPPORTED', 'the URL of the store cannot be read; use postgres://user:password@host:5432/database, with special characters of the password as %XX')
  }
  if (parsed.pathname.length < 2) throw new LichenError('STORE_UNSUPPORTED', 'the URL of the store names no database; use postgres://user:password@host:5432/database')
  const options = parsed.searchParams.get('options') ?? ''
  parsed.searchParams.delete('options')
  const host = parsed.host === '' ? (parsed.searchParams.get('host') ?? '') : parsed.host
  return { connectionString: parsed.href, options, shown: `postgres://${parsed.username === '' ? '' : `${parsed.username}@`}${host}${parsed.pathname}` }
}
