import type { Migration } from '../../migration.js'

/** One task of a deployment at a time: which one was taken last. */
export const turns: Migration = {
  version: 3,
  name: 'turns of the tasks of a deployment',
  sql: `
    CREATE TABLE turns (
      project TEXT NOT NULL,
      deployment TEXT NOT NULL,
      task TEXT NOT NULL,
      PRIMARY KEY (project, deployment)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX tasks_open ON tasks (project, deployment, id) WHERE state <> 'ended';
  `,
}
