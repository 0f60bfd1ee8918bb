import type { Migration } from '../../migration.js'

/** Engines that run, the instance that holds a lease, where the stream of a node ends, and what is applied of a deployment. */
export const instancesAndApplied: Migration = {
  version: 2,
  name: 'engines, instances of leases, streams of nodes, applied actions',
  sql: `
    ALTER TABLE tasks ADD COLUMN lease_instance TEXT;
    ALTER TABLE nodes ADD COLUMN engine TEXT;

    CREATE TABLE engines (
      name TEXT NOT NULL PRIMARY KEY,
      instance TEXT NOT NULL,
      gateway TEXT NOT NULL,
      started_at INTEGER NOT NULL,
      until INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE applied (
      project TEXT NOT NULL,
      deployment TEXT NOT NULL,
      action TEXT NOT NULL,
      node TEXT NOT NULL,
      key TEXT NOT NULL,
      task TEXT NOT NULL,
      outputs TEXT NOT NULL,
      PRIMARY KEY (project, deployment, action)
    ) STRICT, WITHOUT ROWID;
  `,
}
