import { LichenError } from '@lichen/core'
import { openSqliteStore } from './sqlite/sqlite-store.js'
import type { StoreLog } from './sqlite/store-log.js'
import type { Store } from './store.js'

/**
 * The store that `url` names: `sqlite:PATH` or a plain path of a SQLite file.
 * @throws STORE_UNSUPPORTED for any other kind of URL, and what `openSqliteStore` throws
 */
export async function openStore(url: string, log?: StoreLog): Promise<Store> {
  const scheme = /^([a-z][a-z0-9+.-]+):/i.exec(url)?.[1]?.toLowerCase()
  if (scheme === 'postgres' || scheme === 'postgresql') {
    throw new LichenError('STORE_UNSUPPORTED', 'a PostgreSQL store is not there yet; name a SQLite file instead, as in sqlite:/var/lib/lichen/lichen.db')
  }
  if (scheme !== undefined && scheme !== 'sqlite') throw new LichenError('STORE_UNSUPPORTED', `there is no store for URLs that begin with "${scheme}:"; use sqlite:PATH`)
  const path = scheme === 'sqlite' ? url.slice('sqlite:'.length).replace(/^\/\/(?=\/)/, '') : url
  if (path === '') throw new LichenError('STORE_UNSUPPORTED', `the store URL "${url}" names no file; use sqlite:PATH`)
  return openSqliteStore(log ? { path, log } : { path })
}
