import type { Migration } from '../../migration.js'

/**
 * Tasks with their documents, events and outbox; leases on the row of the task; nodes and join tokens; task logs; sealed values, API tokens, audit.
 * Rows that change often (`tasks`) are kept apart from large documents. Times are milliseconds since the epoch.
 */
export const firstSchema: Migration = {
  version: 1,
  name: 'first schema',
  sql: `
    CREATE TABLE tasks (
      id TEXT NOT NULL PRIMARY KEY,
      kind TEXT NOT NULL,
      project TEXT NOT NULL,
      deployment TEXT NOT NULL,
      state TEXT NOT NULL,
      outcome TEXT,
      reason TEXT NOT NULL DEFAULT '',
      counts TEXT NOT NULL DEFAULT '{}',
      seq INTEGER NOT NULL,
      created_at INTEGER NOT NULL,
      updated_at INTEGER NOT NULL,
      lease_owner TEXT,
      lease_epoch INTEGER NOT NULL DEFAULT 0,
      lease_until INTEGER NOT NULL DEFAULT 0
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX tasks_by_project ON tasks (project, id);
    CREATE INDEX tasks_by_deployment ON tasks (project, deployment, id);
    CREATE INDEX tasks_by_state ON tasks (state, id);
    CREATE INDEX tasks_live ON tasks (lease_until, id) WHERE state <> 'ended';

    CREATE TABLE task_documents (
      task TEXT NOT NULL PRIMARY KEY REFERENCES tasks (id),
      plan TEXT NOT NULL,
      graph TEXT,
      placement TEXT
    ) STRICT;

    CREATE TABLE events (
      task TEXT NOT NULL REFERENCES tasks (id),
      seq INTEGER NOT NULL,
      at INTEGER NOT NULL,
      event TEXT NOT NULL,
      PRIMARY KEY (task, seq)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE outbox (
      id INTEGER PRIMARY KEY AUTOINCREMENT,
      task TEXT NOT NULL,
      message TEXT NOT NULL
    ) STRICT;

    CREATE TABLE idempotency_keys (
      key TEXT NOT NULL PRIMARY KEY,
      request_digest TEXT NOT NULL,
      task TEXT NOT NULL,
      created_at INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at);

    CREATE TABLE join_tokens (
      id TEXT NOT NULL PRIMARY KEY,
      secret_digest TEXT NOT NULL,
      labels TEXT NOT NULL,
      uses_left INTEGER,
      expires_at INTEGER NOT NULL,
      created_at INTEGER NOT NULL,
      created_by TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE nodes (
      id TEXT NOT NULL PRIMARY KEY,
      labels TEXT NOT NULL,
      facts TEXT,
      state TEXT NOT NULL,
      cordoned INTEGER NOT NULL DEFAULT 0,
      agent_version TEXT NOT NULL,
      key_digest TEXT NOT NULL,
      joined_at INTEGER NOT NULL,
      last_seen_at INTEGER NOT NULL
    ) STRICT;

    CREATE TABLE log_chunks (
      task TEXT NOT NULL,
      "offset" INTEGER NOT NULL,
      size INTEGER NOT NULL,
      action TEXT NOT NULL,
      attempt INTEGER NOT NULL,
      node TEXT NOT NULL,
      position INTEGER NOT NULL,
      command INTEGER NOT NULL,
      stream TEXT NOT NULL,
      at INTEGER NOT NULL,
      data BLOB NOT NULL,
      PRIMARY KEY (task, "offset")
    ) STRICT;

    CREATE TABLE log_attempts (
      task TEXT NOT NULL,
      action TEXT NOT NULL,
      attempt INTEGER NOT NULL,
      next_position INTEGER NOT NULL,
      PRIMARY KEY (task, action, attempt)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE log_ends (
      task TEXT NOT NULL PRIMARY KEY,
      end_offset INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE secrets (
      scope TEXT NOT NULL,
      name TEXT NOT NULL,
      sealed BLOB NOT NULL,
      PRIMARY KEY (scope, name)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE api_tokens (
      id TEXT NOT NULL PRIMARY KEY,
      digest TEXT NOT NULL UNIQUE,
      name TEXT NOT NULL,
      created_at INTEGER NOT NULL,
      expires_at INTEGER
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE audit (
      id INTEGER PRIMARY KEY AUTOINCREMENT,
      at INTEGER NOT NULL,
      by TEXT NOT NULL,
      what TEXT NOT NULL,
      target TEXT NOT NULL,
      detail TEXT NOT NULL
    ) STRICT;
  `,
}
