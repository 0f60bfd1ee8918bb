/** Brings the tables of a database to the newest known version, one transaction for each migration; a table remembers what was applied. */
import { LichenError } from '@lichen/core'
import { waitForLock, type Connection } from './connection.js'
import { firstSchema } from './migrations/0001-first-schema.js'
import { instancesAndApplied } from './migrations/0002-instances-applied.js'
import type { Migration } from '../migration.js'

/** All migrations, ascending, without a hole. */
export const migrations: readonly Migration[] = [firstSchema, instancesAndApplied]

const readVersion = async (connection: Connection): Promise<number> => (await connection.all<{ version: number | null }>('SELECT max(version) AS version FROM schema_migrations'))[0]?.version ?? 0

async function applyMigration(connection: Connection, migration: Migration, busyTimeoutMs: number): Promise<void> {
  await waitForLock(busyTimeoutMs, () => connection.execute('BEGIN IMMEDIATE'))
  try {
    // Another process may have been first while this one waited for the lock.
    if ((await readVersion(connection)) < migration.version) {
      await connection.execute(migration.sql)
      await connection.run("INSERT INTO schema_migrations (version, name, applied_at) VALUES (?, ?, unixepoch('subsec') * 1000)", migration.version, migration.name)
    }
    await connection.execute('COMMIT')
  } catch (error) {
    await connection.execute('ROLLBACK').catch(() => undefined)
    throw error
  }
}

/**
 * Applies what is missing and gives back the names of the migrations that this call applied.
 * @throws STORE_SCHEMA when the database is newer than this program; nothing is changed then.
 */
export async function migrate(connection: Connection, path: string, busyTimeoutMs: number): Promise<readonly string[]> {
  const makeTable = 'CREATE TABLE IF NOT EXISTS schema_migrations (version INTEGER PRIMARY KEY, name TEXT NOT NULL, applied_at REAL NOT NULL)'
  await waitForLock(busyTimeoutMs, () => connection.execute(makeTable))
  const version = await readVersion(connection)
  const newest = migrations.at(-1)?.version ?? 0
  if (version > newest) {
    throw new LichenError('STORE_SCHEMA', `opening ${path}: its tables have version ${version}, this program knows versions up to ${newest}; start a newer Lichen, or restore a backup made before the upgrade`)
  }
  const missing = migrations.filter((migration) => migration.version > version)
  for (const migration of missing) await applyMigration(connection, migration, busyTimeoutMs)
  return missing.map((migration) => `${migration.version} ${migration.name}`)
}
