import type { Migration } from '../../migration.js'

/** One task of a deployment at a time: which one was taken last. */
export const turns: Migration = {
  version: 2,
  name: 'turns of the tasks of a deployment',
  sql: `
    CREATE TABLE turns (
      project text COLLATE "C" NOT NULL,
      deployment text COLLATE "C" NOT NULL,
      task text COLLATE "C" NOT NULL,
      PRIMARY KEY (project, deployment)
    ) WITH (fillfactor = 70);
    CREATE INDEX tasks_open ON tasks (project, deployment, id) WHERE state <> 'ended';
  `,
}
