import type { Migration } from '../../migration.js'

/** Which nodes have changed since one looked last. By triggers, so that no write can forget it; that a node was heard of is not a change. */
export const nodeRevisions: Migration = {
  version: 4,
  name: 'revisions of nodes',
  sql: `
    ALTER TABLE nodes ADD COLUMN revision INTEGER NOT NULL DEFAULT 1;
    CREATE TABLE node_list (revision INTEGER NOT NULL) STRICT;
    INSERT INTO node_list (revision) VALUES (1);

    CREATE TRIGGER node_joined AFTER INSERT ON nodes
    BEGIN
      UPDATE node_list SET revision = revision + 1;
      UPDATE nodes SET revision = (SELECT revision FROM node_list) WHERE id = new.id;
    END;

    CREATE TRIGGER node_changed AFTER UPDATE OF labels, facts, state, cordoned, agent_version, key_digest, joined_at, engine ON nodes
    WHEN (old.labels, old.facts, old.state, old.cordoned, old.agent_version, old.key_digest, old.joined_at, old.engine)
      IS NOT (new.labels, new.facts, new.state, new.cordoned, new.agent_version, new.key_digest, new.joined_at, new.engine)
    BEGIN
      UPDATE node_list SET revision = revision + 1;
      UPDATE nodes SET revision = (SELECT revision FROM node_list) WHERE id = new.id;
    END;
  `,
}
