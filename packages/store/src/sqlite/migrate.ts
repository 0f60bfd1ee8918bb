/** Brings the tables of a database to the newest known version, in one transaction; a table remembers what was applied. */
import { LichenError } from '@lichen/core'
import { waitForLock, type Connection } from './connection.js'
import { firstSchema } from './migrations/0001-first-schema.js'
import { instancesAndApplied } from './migrations/0002-instances-applied.js'
import { turns } from './migrations/0003-turns.js'
import { nodeRevisions } from './migrations/0004-node-revisions.js'
import { nodeSigns } from './migrations/0005-node-signs.js'
import type { Migration } from '../migration.js'

/** All migrations, ascending, without a hole. */
export const migrations: readonly Migration[] = [firstSchema, instancesAndApplied, turns, nodeRevisions, nodeSigns]

const newest = migrations.at(-1)?.version ?? 0

/** 0 for a database without tables. */
async function readVersion(connection: Connection): Promise<number> {
  const tables = await connection.all("SELECT 1 FROM sqlite_master WHERE name = 'schema_migrations'")
  if (tables.length === 0) return 0
  return (await connection.all<{ version: number | null }>('SELECT max(version) AS version FROM schema_migrations'))[0]?.version ?? 0
}

/** Under the lock, once it is there: another process may have been first. */
async function applyMissing(connection: Connection): Promise<readonly Migration[]> {
  await connection.execute('BEGIN IMMEDIATE')
  try {
    const version = await readVersion(connection)
    const missing = migrations.filter((migration) => migration.version > version)
    await connection.execute('CREATE TABLE IF NOT EXISTS schema_migrations (version INTEGER PRIMARY KEY, name TEXT NOT NULL, applied_at REAL NOT NULL)')
    for (const { version, name, sql } of missing) {
      await connection.execute(sql)
      await connection.run("INSERT INTO schema_migrations (version, name, applied_at) VALUES (?, ?, unixepoch('subsec') * 1000)", version, name)
    }
    await connection.execute('COMMIT')
    return missing
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
  // Each time the lock is refused it is looked again whether it is still needed: of many that open a new file at once, one does the work.
  const applied = await waitForLock(busyTimeoutMs, async () => {
    const version = await readVersion(connection)
    if (version > newest) {
      throw new LichenError('STORE_SCHEMA', `opening ${path}: its tables have version ${version}, this program knows versions up to ${newest}; start a newer Lichen, or restore a backup made before the upgrade`)
    }
    return version === newest ? [] : applyMissing(connection)
  })
  return applied.map((migration) => `${migration.version} ${migration.name}`)
}
