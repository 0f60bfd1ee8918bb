import { LichenError } from '@lichen/core'
import { openPostgresStore } from './postgres/postgres-store.js'
import { openSqliteStore } from './sqlite/sqlite-store.js'
import type { StoreLog } from './store-log.js'
import type { Store } from './store.js'

/**
 * The store that `url` names: `postgres://user:password@host:5432/database`, `sqlite:PATH`, or a plain path of a SQLite file.
 * @throws STORE_UNSUPPORTED for any other kind of URL, and what `openPostgresStore` and `openSqliteStore` throw
 */
export async function openStore(url: string, log?: StoreLog): Promise<Store> {
  const scheme = /^([a-z][a-z0-9+.-]+):/i.exec(url)?.[1]?.toLowerCase()
  if (scheme === 'postgres' || scheme === 'postgresql') return openPostgresStore(log ? { url, log } : { url })
  if (scheme !== undefined && scheme !== 'sqlite') throw new LichenError('STORE_UNSUPPORTED', `there is no store for URLs that begin with "${scheme}:"; use postgres://… or sqlite:PATH`)
  const path = scheme === 'sqlite' ? url.slice('sqlite:'.length).replace(/^\/\/(?=\/)/, '') : url
  if (path === '') throw new LichenError('STORE_UNSUPPORTED', `the store URL "${url}" names no file; use sqlite:PATH`)
  return openSqliteStore(log ? { path, log } : { path })
}
