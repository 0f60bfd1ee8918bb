/** The port of nodes and join tokens. */
import type { NodeId } from '@lichen/core'
import type { JoinTokenRecord, NodeChanges, NodeStore, StoredNode } from '../ports/node-store.js'
import { type ChangeRow, foldChangeRows } from '../rules/node-changes.js'
import { listConditional, mergeChanges, type MergedChange, type NodeChange } from '../rules/node-rules.js'
import { NodeDocuments, type ParsedDocuments, parseDocuments } from '../rules/node-documents.js'
import { admitNode } from './admission.js'
import { batchReads } from './batched-read.js'
import type { Connection } from './connection.js'
import { buildSingleWrite } from './single-write.js'
import type { WriteKind, Writer } from './writer.js'

interface NodeRow {
  readonly id: NodeId
  readonly labels: string
  readonly facts: string | null
  readonly state: StoredNode['state']
  readonly cordoned: number
  readonly agentVersion: string
  readonly keyDigest: string
  readonly joinedAt: number
  readonly lastSeenAt: number
  readonly engine: string | null
}

const decodeNode = (row: NodeRow, documents: ParsedDocuments): StoredNode => ({ ...row, ...documents, cordoned: row.cordoned === 1 })

async function readEngines(connection: Connection, nodes: readonly NodeId[]): Promise<ReadonlyMap<string, string | null>> {
  if (nodes.length === 0) return new Map()
  const rows = await connection.all<{ id: string; engine: string | null }>('SELECT id, engine FROM nodes WHERE id IN (SELECT value FROM json_each(?))', JSON.stringify(nodes))
  return new Map(rows.map((row) => [row.id, row.engine]))
}

const encodeChange = ({ node, facts, state, agentVersion, seenAt, engine }: MergedChange): unknown[] => [
  node, facts === undefined ? null : JSON.stringify(facts), state ?? null, agentVersion ?? null, seenAt, engine === undefined ? 0 : 1, engine ?? null,
]

/** Nothing but that the node was heard of: most changes of a fleet. */
const isSign = ({ facts, state, agentVersion, engine }: MergedChange): boolean => facts === undefined && state === undefined && agentVersion === undefined && engine === undefined

// A node that is not registered any more leaves no sign.
const signsSql = `
  INSERT INTO node_signs (node, seen_at) SELECT value ->> 0, value ->> 1 FROM json_each(?) WHERE EXISTS (SELECT 1 FROM nodes WHERE id = value ->> 0)
  ON CONFLICT DO UPDATE SET seen_at = max(node_signs.seen_at, excluded.seen_at)`

const changesOfNodesSql = `
  UPDATE nodes SET facts = coalesce(change.facts, nodes.facts), state = coalesce(change.state, nodes.state), agent_version = coalesce(change.agent_version, nodes.agent_version),
     last_seen_at = max(nodes.last_seen_at, change.seen_at), engine = CASE WHEN change.is_moved THEN change.engine ELSE nodes.engine END
   FROM (SELECT value ->> 0 AS id, value ->> 1 AS facts, value ->> 2 AS state, value ->> 3 AS agent_version, value ->> 4 AS seen_at, value ->> 5 AS is_moved, value ->> 6 AS engine FROM json_each(?)) AS change
   WHERE nodes.id = change.id`

const updateNodes: WriteKind<readonly NodeChange[], void> = {
  name: 'updating nodes',
  weigh: (changes) => changes.length * 512,
  async apply(connection, jobs) {
    const changes = jobs.flat()
    const merged = mergeChanges(changes, await readEngines(connection, listConditional(changes)))
    const [signs, others] = [merged.filter(isSign), merged.filter((change) => !isSign(change))]
    if (signs.length > 0) await connection.run(signsSql, JSON.stringify(signs.map(({ node, seenAt }) => [node, seenAt])))
    if (others.length > 0) await connection.run(changesOfNodesSql, JSON.stringify(others.map(encodeChange)))
    return jobs.map(() => undefined)
  },
}

const setNode = buildSingleWrite('changing a node', async (connection, job: { node: NodeId; labels?: Readonly<Record<string, string>>; cordoned?: boolean }) => {
  const changed = await connection.run(
    'UPDATE nodes SET labels = coalesce(?, labels), cordoned = coalesce(?, cordoned) WHERE id = ?',
    job.labels === undefined ? null : JSON.stringify(job.labels), job.cordoned === undefined ? null : Number(job.cordoned), job.node,
  )
  return changed > 0
})

const deleteNode = buildSingleWrite('deleting a node', async (connection, node: NodeId) => (await connection.run('DELETE FROM nodes WHERE id = ?', node)) > 0)

const putJoinToken = buildSingleWrite('making a join token', async (connection, token: JoinTokenRecord) => {
  await connection.run(
    `INSERT INTO join_tokens (id, secret_digest, labels, uses_left, expires_at, created_at, created_by) VALUES (?, ?, ?, ?, ?, ?, ?)
     ON CONFLICT (id) DO UPDATE SET secret_digest = excluded.secret_digest, labels = excluded.labels, uses_left = excluded.uses_left,
       expires_at = excluded.expires_at, created_at = excluded.created_at, created_by = excluded.created_by`,
    token.id, token.secretDigest, JSON.stringify(token.labels), token.usesLeft, token.expiresAt, token.createdAt, token.createdBy,
  )
})

const deleteJoinToken = buildSingleWrite('deleting a join token', async (connection, id: string) => (await connection.run('DELETE FROM join_tokens WHERE id = ?', id)) > 0)

async function listJoinTokens(reader: Connection): Promise<readonly JoinTokenRecord[]> {
  const rows = await reader.all<Omit<JoinTokenRecord, 'labels'> & { readonly labels: string }>(
    `SELECT id, secret_digest AS secretDigest, labels, uses_left AS usesLeft, expires_at AS expiresAt, created_at AS createdAt, created_by AS createdBy
     FROM join_tokens ORDER BY created_at, id`,
  )
  return rows.map((row) => ({ ...row, labels: JSON.parse(row.labels) as Record<string, string> }))
}

async function listNodes(reader: Connection, documents: NodeDocuments): Promise<readonly StoredNode[]> {
  const rows = await reader.all<NodeRow>(
    `SELECT id, labels, facts, state, cordoned, agent_version AS agentVersion, key_digest AS keyDigest, joined_at AS joinedAt,
       max(last_seen_at, coalesce(seen_at, 0)) AS lastSeenAt, engine
     FROM nodes LEFT JOIN node_signs ON node = id ORDER BY id`,
  )
  documents.keepOnly(rows)
  return rows.map((row) => decodeNode(row, documents.decode(row)))
}

// Documents are left out of rows that have not changed: they are most of a row.
const changesSql = `
  SELECT list.cursor, list.count, nodes.revision > ?1 AS isChanged, nodes.id, nodes.state, nodes.cordoned, max(nodes.last_seen_at, coalesce(seen_at, 0)) AS lastSeenAt, nodes.joined_at AS joinedAt,
    CASE WHEN nodes.revision > ?1 THEN nodes.labels END AS labels, CASE WHEN nodes.revision > ?1 THEN nodes.facts END AS facts, CASE WHEN nodes.revision > ?1 THEN nodes.agent_version END AS agentVersion,
    CASE WHEN nodes.revision > ?1 THEN nodes.key_digest END AS keyDigest, nodes.engine
  FROM (SELECT revision AS cursor, (SELECT count(*) FROM nodes) AS count FROM node_list) AS list
    LEFT JOIN nodes ON nodes.revision > ?1 OR (nodes.state = 'ready' AND nodes.engine IS NOT ?2)
    LEFT JOIN node_signs ON node_signs.node = nodes.id
  ORDER BY nodes.id`

async function readNodeChanges(reader: Connection, since: number, engine: string): Promise<NodeChanges> {
  const rows = await reader.all<ChangeRow<NodeRow>>(changesSql, since, engine)
  return foldChangeRows(rows, (row) => decodeNode(row, parseDocuments(row)))
}

/** Nodes and join tokens. A node that joined and never connected is `lost` and has empty facts. */
export function openNodes(reader: Connection, writer: Writer): NodeStore {
  const documents = new NodeDocuments()
  const nodes = batchReads(1000, async (asked: readonly null[]) => {
    const read = await listNodes(reader, documents)
    return asked.map(() => read)
  })
  return {
    putJoinToken: (token) => writer.submit(putJoinToken, token),
    listJoinTokens: () => listJoinTokens(reader),
    deleteJoinToken: (id) => writer.submit(deleteJoinToken, id),
    admitNode: (input) => writer.submit(admitNode, input),
    async updateNodes(changes) {
      if (changes.length > 0) await writer.submit(updateNodes, changes)
    },
    setNode: (node, change) => writer.submit(setNode, { node, ...change }),
    listNodes: () => nodes(null),
    readNodeChanges: (since, engine) => readNodeChanges(reader, since, engine),
    deleteNode: (node) => writer.submit(deleteNode, node),
  }
}
