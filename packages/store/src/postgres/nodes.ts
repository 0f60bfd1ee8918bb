/** The port of nodes and join tokens. */
import type { NodeId } from '@lichen/core'
import type { JoinTokenRecord, NodeChanges, NodeStore, StoredNode } from '../ports/node-store.js'
import { type ChangeRow, foldChangeRows } from '../rules/node-changes.js'
import { listConditional, mergeChanges, type NodeChange } from '../rules/node-rules.js'
import { NodeDocuments, type ParsedDocuments, parseDocuments } from '../rules/node-documents.js'
import { admitNode } from './admission.js'
import type { Reader } from './reader.js'
import type { Session } from './sessions.js'
import { buildSingleWrite } from './single-write.js'
import type { WriteKind, Writer } from './writer.js'

interface NodeRow {
  readonly id: NodeId
  readonly labels: string
  readonly facts: string | null
  readonly state: StoredNode['state']
  readonly cordoned: boolean
  readonly agentVersion: string
  readonly keyDigest: string
  readonly joinedAt: number
  readonly lastSeenAt: number
  readonly engine: string | null
}

const decodeNode = (row: NodeRow, documents: ParsedDocuments): StoredNode => ({ ...row, ...documents })

/** Engines in the rows of these nodes. */
async function readEngines(session: Session, nodes: readonly NodeId[]): Promise<ReadonlyMap<string, string | null>> {
  if (nodes.length === 0) return new Map()
  const rows = await session.all<{ id: string; engine: string | null }>('SELECT id, engine FROM nodes WHERE id = ANY($1::text[])', nodes)
  return new Map(rows.map((row) => [row.id, row.engine]))
}

const updateSql = `
  UPDATE nodes SET facts = coalesce(change.facts, nodes.facts), state = coalesce(change.state, nodes.state), agent_version = coalesce(change.agent_version, nodes.agent_version),
    last_seen_at = greatest(nodes.last_seen_at, change.seen_at), engine = CASE WHEN change.is_moved THEN change.engine ELSE nodes.engine END
  FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::boolean[], $7::text[]) AS change (id, facts, state, agent_version, seen_at, is_moved, engine)
  WHERE nodes.id = change.id`

const updateNodes: WriteKind<readonly NodeChange[], void> = {
  name: 'updating nodes',
  weigh: (changes) => changes.length * 512,
  async apply(session, jobs) {
    const changes = jobs.flat()
    // In the order of their ids, like everybody who locks several rows.
    await session.run('SELECT 1 FROM nodes WHERE id = ANY($1::text[]) ORDER BY id FOR NO KEY UPDATE', [...new Set(changes.map((change) => change.node))])
    const merged = mergeChanges(changes, await readEngines(session, listConditional(changes)))
    await session.run(
      updateSql,
      merged.map(({ node }) => node), merged.map(({ facts }) => (facts === undefined ? null : JSON.stringify(facts))), merged.map(({ state }) => state ?? null),
      merged.map(({ agentVersion }) => agentVersion ?? null), merged.map(({ seenAt }) => seenAt), merged.map(({ engine }) => engine !== undefined), merged.map(({ engine }) => engine ?? null),
    )
    return jobs.map(() => undefined)
  },
}

const setNode = buildSingleWrite('changing a node', async (session, job: { node: NodeId; labels?: Readonly<Record<string, string>>; cordoned?: boolean }) => {
  const changed = await session.run(
    'UPDATE nodes SET labels = coalesce($2, labels), cordoned = coalesce($3, cordoned) WHERE id = $1',
    job.node, job.labels === undefined ? null : JSON.stringify(job.labels), job.cordoned ?? null,
  )
  return changed > 0
}, (job) => job.node)

const deleteNode = buildSingleWrite('deleting a node', async (session, node: NodeId) => (await session.run('DELETE FROM nodes WHERE id = $1', node)) > 0, (node) => node)

const putJoinToken = buildSingleWrite('making a join token', async (session, token: JoinTokenRecord) => {
  await session.run(
    `INSERT INTO join_tokens (id, secret_digest, labels, uses_left, expires_at, created_at, created_by) VALUES ($1, $2, $3, $4, $5, $6, $7)
     ON CONFLICT (id) DO UPDATE SET secret_digest = excluded.secret_digest, labels = excluded.labels, uses_left = excluded.uses_left,
       expires_at = excluded.expires_at, created_at = excluded.created_at, created_by = excluded.created_by`,
    token.id, token.secretDigest, JSON.stringify(token.labels), token.usesLeft, token.expiresAt, token.createdAt, token.createdBy,
  )
}, (token) => token.id)

const deleteJoinToken = buildSingleWrite('deleting a join token', async (session, id: string) => (await session.run('DELETE FROM join_tokens WHERE id = $1', id)) > 0, (id) => id)

async function listJoinTokens(reader: Reader): Promise<readonly JoinTokenRecord[]> {
  const rows = await reader.all<Omit<JoinTokenRecord, 'labels'> & { readonly labels: string }>(
    `SELECT id, secret_digest AS "secretDigest", labels, uses_left AS "usesLeft", expires_at AS "expiresAt", created_at AS "createdAt", created_by AS "createdBy"
     FROM join_tokens ORDER BY created_at, id`,
  )
  return rows.map((row) => ({ ...row, labels: JSON.parse(row.labels) as Record<string, string> }))
}

async function listNodes(reader: Reader, documents: NodeDocuments): Promise<readonly StoredNode[]> {
  const rows = await reader.all<NodeRow>(
    `SELECT id, labels, facts, state, cordoned, agent_version AS "agentVersion", key_digest AS "keyDigest", joined_at AS "joinedAt", last_seen_at AS "lastSeenAt", engine
     FROM nodes ORDER BY id`,
  )
  documents.keepOnly(rows)
  return rows.map((row) => decodeNode(row, documents.decode(row)))
}

// Documents are left out of rows that have not changed: they are most of a row.
const changesSql = `
  SELECT list.cursor, list.count, nodes.revision >= $1 AS "isChanged", nodes.id, nodes.state, nodes.cordoned, nodes.last_seen_at AS "lastSeenAt", nodes.joined_at AS "joinedAt",
    CASE WHEN nodes.revision >= $1 THEN nodes.labels END AS labels, CASE WHEN nodes.revision >= $1 THEN nodes.facts END AS facts, CASE WHEN nodes.revision >= $1 THEN nodes.agent_version END AS "agentVersion",
    CASE WHEN nodes.revision >= $1 THEN nodes.key_digest END AS "keyDigest", nodes.engine
  FROM (SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS cursor, (SELECT count(*) FROM nodes) AS count) AS list
    LEFT JOIN nodes ON nodes.revision >= $1 OR (nodes.state = 'ready' AND nodes.engine IS DISTINCT FROM $2)
  ORDER BY nodes.id`

async function readNodeChanges(reader: Reader, since: number, engine: string): Promise<NodeChanges> {
  const rows = await reader.all<ChangeRow<NodeRow>>(changesSql, since, engine)
  return foldChangeRows(rows, (row) => decodeNode(row, parseDocuments(row)))
}

/** Nodes and join tokens. A node that joined and never connected is `lost` and has empty facts. */
export function openNodes(reader: Reader, writer: Writer): NodeStore {
  const documents = new NodeDocuments()
  return {
    putJoinToken: (token) => writer.submit(putJoinToken, token),
    listJoinTokens: () => listJoinTokens(reader),
    deleteJoinToken: (id) => writer.submit(deleteJoinToken, id),
    admitNode: (input) => writer.submit(admitNode, input),
    async updateNodes(changes) {
      if (changes.length > 0) await writer.submit(updateNodes, changes)
    },
    setNode: (node, change) => writer.submit(setNode, { node, ...change }),
    listNodes: () => listNodes(reader, documents),
    readNodeChanges: (since, engine) => readNodeChanges(reader, since, engine),
    deleteNode: (node) => writer.submit(deleteNode, node),
  }
}
