import type { Migration } from '../../migration.js'

/** When nodes were heard of, in rows of their own: written all the time, and a row of `nodes` is a kilobyte of facts. The later one of both counts. */
export const nodeSigns: Migration = {
  version: 5,
  name: 'signs of nodes',
  sql: `
    CREATE TABLE node_signs (
      node TEXT NOT NULL PRIMARY KEY,
      seen_at INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TRIGGER node_deleted AFTER DELETE ON nodes
    BEGIN
      DELETE FROM node_signs WHERE node = old.id;
    END;
  `,
}
