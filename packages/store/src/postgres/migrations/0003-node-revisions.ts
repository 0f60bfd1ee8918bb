import type { Migration } from '../../migration.js'

/**
 * Which nodes have changed since one looked last. By a trigger, so that no write can forget it; that a node was heard of is not a change. The revision is the id of the transaction that changed
 * the row: all below `pg_snapshot_xmin` have ended before the snapshot, so a reader that asks from there on misses none, and writers need no counter that they would wait for each other at.
 */
export const nodeRevisions: Migration = {
  version: 3,
  name: 'revisions of nodes',
  sql: `
    ALTER TABLE nodes ADD COLUMN revision bigint NOT NULL DEFAULT 0;

    CREATE OR REPLACE FUNCTION stamp_node() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      NEW.revision := pg_current_xact_id()::text::bigint;
      RETURN NEW;
    END
    $$;
    CREATE TRIGGER node_joined BEFORE INSERT ON nodes FOR EACH ROW EXECUTE FUNCTION stamp_node();
    CREATE TRIGGER node_changed BEFORE UPDATE ON nodes FOR EACH ROW
    WHEN ((OLD.labels, OLD.facts, OLD.state, OLD.cordoned, OLD.agent_version, OLD.key_digest, OLD.joined_at, OLD.engine)
      IS DISTINCT FROM (NEW.labels, NEW.facts, NEW.state, NEW.cordoned, NEW.agent_version, NEW.key_digest, NEW.joined_at, NEW.engine))
    EXECUTE FUNCTION stamp_node();
  `,
}
