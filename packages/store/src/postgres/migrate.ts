/** Brings the tables of a database to the newest known version, in one transaction under a lock that all programs of Lichen take; a table remembers what was applied. */
import { LichenError } from '@lichen/core'
import type { Migration } from '../migration.js'
import { firstSchema } from './migrations/0001-first-schema.js'
import { turns } from './migrations/0002-turns.js'
import { nodeRevisions } from './migrations/0003-node-revisions.js'
import type { Session, SessionPool } from './sessions.js'

/** All migrations, ascending, without a hole. */
export const migrations: readonly Migration[] = [firstSchema, turns, nodeRevisions]

// Any number that no other program uses on the same database: the bytes of "Lichen".
const lockKey = '84015523063150'

async function readVersion(session: Session): Promise<number> {
  const [row] = await session.all<{ version: number | null }>('SELECT max(version) AS version FROM schema_migrations')
  return row?.version ?? 0
}

async function hasVersion(session: Session): Promise<boolean> {
  const [row] = await session.all<{ isThere: boolean }>(`SELECT to_regclass('schema_migrations') IS NOT NULL AS "isThere"`)
  return row?.isThere === true
}

function checkVersion(version: number, shown: string): void {
  const newest = migrations.at(-1)?.version ?? 0
  if (version <= newest) return
  throw new LichenError('STORE_SCHEMA', `opening ${shown}: its tables have version ${version}, this program knows versions up to ${newest}; start a newer Lichen, or restore a backup made before the upgrade`)
}

async function applyMissing(session: Session, shown: string): Promise<readonly string[]> {
  // Rewriting a large table may take minutes, and so may waiting for another program that does it: both are work, not an outage.
  await session.execute(`SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0; SELECT pg_advisory_xact_lock(${lockKey})`)
  await session.execute('CREATE TABLE IF NOT EXISTS schema_migrations (version integer PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())')
  // Another program may have been first while this one waited for the lock. Not asked with `hasVersion`, which may answer from what the session remembers of before.
  const version = await readVersion(session)
  checkVersion(version, shown)
  const missing = migrations.filter((migration) => migration.version > version)
  for (const migration of missing) {
    await session.execute(migration.sql)
    await session.run('INSERT INTO schema_migrations (version, name) VALUES ($1, $2)', migration.version, migration.name)
  }
  return missing.map((migration) => `${migration.version} ${migration.name}`)
}

/**
 * Applies what is missing and gives back the names of the migrations that this call applied.
 * @throws STORE_SCHEMA when the database is newer than this program; nothing is changed then.
 */
export async function migrate(sessions: SessionPool, shown: string): Promise<readonly string[]> {
  const version = await sessions.use(async (session) => ((await hasVersion(session)) ? readVersion(session) : 0))
  checkVersion(version, shown)
  if (version === migrations.at(-1)?.version) return []
  return sessions.transaction((session) => applyMissing(session, shown))
}
