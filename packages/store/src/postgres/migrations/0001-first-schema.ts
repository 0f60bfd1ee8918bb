import type { Migration } from '../../migration.js'

/**
 * Tasks with their documents, events and outbox; leases on the row of the task; engines; nodes and join tokens; what is applied; task logs; sealed values, API tokens, audit.
 * Times are milliseconds since the epoch. Texts that are compared or ordered have the collation "C": ids are ordered by their bytes whatever the locale of the database.
 * JSON is kept as text: `jsonb` refuses some characters that events may hold, and nobody looks inside.
 * Events and documents have no foreign key: each insert happens under a lock of the task's row, and the check for each event would cost more than the insert.
 */
export const firstSchema: Migration = {
  version: 1,
  name: 'first schema',
  // `tasks` and `nodes` are updated all the time: room on their pages lets most updates stay on the page and out of the indexes.
  sql: `
    CREATE TABLE tasks (
      id text COLLATE "C" NOT NULL PRIMARY KEY,
      kind text NOT NULL,
      project text COLLATE "C" NOT NULL,
      deployment text COLLATE "C" NOT NULL,
      state text COLLATE "C" NOT NULL,
      outcome text,
      reason text NOT NULL DEFAULT '',
      counts text NOT NULL DEFAULT '{}',
      seq bigint NOT NULL,
      created_at bigint NOT NULL,
      updated_at bigint NOT NULL,
      lease_owner text COLLATE "C",
      lease_instance text COLLATE "C",
      lease_epoch bigint NOT NULL DEFAULT 0,
      lease_until bigint NOT NULL DEFAULT 0
    ) WITH (fillfactor = 70);
    CREATE INDEX tasks_by_project ON tasks (project, id);
    CREATE INDEX tasks_by_deployment ON tasks (project, deployment, id);
    CREATE INDEX tasks_by_state ON tasks (state, id);
    CREATE INDEX tasks_live ON tasks (lease_until, id) WHERE state <> 'ended';

    CREATE TABLE task_documents (
      task text COLLATE "C" NOT NULL PRIMARY KEY,
      plan text NOT NULL,
      graph text,
      placement text
    );

    CREATE TABLE events (
      task text COLLATE "C" NOT NULL,
      seq bigint NOT NULL,
      at bigint NOT NULL,
      event text NOT NULL,
      PRIMARY KEY (task, seq)
    );

    CREATE TABLE outbox (
      id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
      task text COLLATE "C" NOT NULL,
      message text NOT NULL
    );

    CREATE TABLE idempotency_keys (
      key text COLLATE "C" NOT NULL PRIMARY KEY,
      request_digest text NOT NULL,
      task text COLLATE "C" NOT NULL,
      created_at bigint NOT NULL
    );
    CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at);

    CREATE TABLE applied (
      project text COLLATE "C" NOT NULL,
      deployment text COLLATE "C" NOT NULL,
      action text COLLATE "C" NOT NULL,
      node text COLLATE "C" NOT NULL,
      key text NOT NULL,
      task text COLLATE "C" NOT NULL,
      outputs text NOT NULL,
      PRIMARY KEY (project, deployment, action)
    );

    CREATE TABLE engines (
      name text COLLATE "C" NOT NULL PRIMARY KEY,
      instance text COLLATE "C" NOT NULL,
      gateway text NOT NULL,
      started_at bigint NOT NULL,
      until bigint NOT NULL
    );

    CREATE TABLE join_tokens (
      id text COLLATE "C" NOT NULL PRIMARY KEY,
      secret_digest text NOT NULL,
      labels text NOT NULL,
      uses_left bigint,
      expires_at bigint NOT NULL,
      created_at bigint NOT NULL,
      created_by text NOT NULL
    );

    CREATE TABLE nodes (
      id text COLLATE "C" NOT NULL PRIMARY KEY,
      labels text NOT NULL,
      facts text,
      state text NOT NULL,
      cordoned boolean NOT NULL DEFAULT false,
      agent_version text NOT NULL,
      key_digest text NOT NULL,
      joined_at bigint NOT NULL,
      last_seen_at bigint NOT NULL,
      engine text COLLATE "C"
    ) WITH (fillfactor = 70);

    CREATE TABLE log_chunks (
      task text COLLATE "C" NOT NULL,
      "offset" bigint NOT NULL,
      size integer NOT NULL,
      action text COLLATE "C" NOT NULL,
      attempt integer NOT NULL,
      node text COLLATE "C" NOT NULL,
      position bigint NOT NULL,
      command integer NOT NULL,
      stream text NOT NULL,
      at bigint NOT NULL,
      data bytea NOT NULL,
      PRIMARY KEY (task, "offset")
    );

    CREATE TABLE log_attempts (
      task text COLLATE "C" NOT NULL,
      action text COLLATE "C" NOT NULL,
      attempt integer NOT NULL,
      next_position bigint NOT NULL,
      PRIMARY KEY (task, action, attempt)
    ) WITH (fillfactor = 70);

    CREATE TABLE log_ends (
      task text COLLATE "C" NOT NULL PRIMARY KEY,
      end_offset bigint NOT NULL
    ) WITH (fillfactor = 70);

    CREATE TABLE secrets (
      scope text COLLATE "C" NOT NULL,
      name text COLLATE "C" NOT NULL,
      sealed bytea NOT NULL,
      PRIMARY KEY (scope, name)
    );

    CREATE TABLE api_tokens (
      id text COLLATE "C" NOT NULL PRIMARY KEY,
      digest text COLLATE "C" NOT NULL UNIQUE,
      name text NOT NULL,
      created_at bigint NOT NULL,
      expires_at bigint
    );

    CREATE TABLE audit (
      id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
      at bigint NOT NULL,
      by text NOT NULL,
      what text NOT NULL,
      target text NOT NULL,
      detail text NOT NULL
    );
  `,
}
