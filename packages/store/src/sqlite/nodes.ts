/** The port of nodes and join tokens. */
import type { Facts, NodeId, NodeRecord } from '@lichen/core'
import type { JoinTokenRecord, NodeStore } from '../ports/node-store.js'
import { admitNode } from './admission.js'
import type { Connection } from './connection.js'
import { buildSingleWrite } from './single-write.js'
import type { WriteKind, Writer } from './writer.js'

type NodeChange = Parameters<NodeStore['updateNodes']>[0][number]

interface NodeRow {
  readonly id: NodeId
  readonly labels: string
  readonly facts: string | null
  readonly state: NodeRecord['state']
  readonly cordoned: number
  readonly agentVersion: string
  readonly keyDigest: string
  readonly joinedAt: number
  readonly lastSeenAt: number
}

/** What stands for the facts of a node that joined and has not connected yet: nothing is known of it, and no selector of facts should match. */
const unknownFacts = (node: NodeId): Facts => ({
  hostname: node, address: '', addresses: [], os: { id: '', version: '', codename: '', prettyName: '' }, kernel: '', architecture: '', cpus: 0, memoryBytes: 0,
  diskFreeBytes: 0, bootId: '', virtualization: '', cgroupVersion: 0, packageManager: 'none', init: 'other',
})

const decodeNode = (row: NodeRow): NodeRecord & { readonly keyDigest: string } => ({
  ...row,
  labels: JSON.parse(row.labels) as Record<string, string>,
  facts: row.facts === null ? unknownFacts(row.id) : (JSON.parse(row.facts) as Facts),
  cordoned: row.cordoned === 1,
})

/** One change for each node: of two changes of one field, the later one. */
function mergeChanges(changes: readonly NodeChange[]): NodeChange[] {
  const merged = new Map<NodeId, NodeChange>()
  for (const change of changes) {
    const before = merged.get(change.node)
    merged.set(change.node, before ? { ...before, ...change, seenAt: Math.max(before.seenAt, change.seenAt) } : change)
  }
  return [...merged.values()]
}

const updateNodes: WriteKind<readonly NodeChange[], void> = {
  name: 'updating nodes',
  weigh: (changes) => changes.length * 512,
  async apply(connection, jobs) {
    const changes = mergeChanges(jobs.flat())
    await connection.run(
      `UPDATE nodes SET facts = coalesce(change.facts, nodes.facts), state = coalesce(change.state, nodes.state),
         agent_version = coalesce(change.agent_version, nodes.agent_version), last_seen_at = max(nodes.last_seen_at, change.seen_at)
       FROM (SELECT value ->> 0 AS id, value ->> 1 AS facts, value ->> 2 AS state, value ->> 3 AS agent_version, value ->> 4 AS seen_at FROM json_each(?)) AS change
       WHERE nodes.id = change.id`,
      JSON.stringify(changes.map((change) => [change.node, change.facts === undefined ? null : JSON.stringify(change.facts), change.state ?? null, change.agentVersion ?? null, change.seenAt])),
    )
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

async function listNodes(reader: Connection): Promise<readonly (NodeRecord & { readonly keyDigest: string })[]> {
  const rows = await reader.all<NodeRow>(
    `SELECT id, labels, facts, state, cordoned, agent_version AS agentVersion, key_digest AS keyDigest, joined_at AS joinedAt, last_seen_at AS lastSeenAt
     FROM nodes ORDER BY id`,
  )
  return rows.map(decodeNode)
}

/** Nodes and join tokens. A node that joined and never connected is `lost` and has empty facts. */
export function openNodes(reader: Connection, writer: Writer): NodeStore {
  return {
    putJoinToken: (token) => writer.submit(putJoinToken, token),
    listJoinTokens: () => listJoinTokens(reader),
    deleteJoinToken: (id) => writer.submit(deleteJoinToken, id),
    admitNode: (input) => writer.submit(admitNode, input),
    async updateNodes(changes) {
      if (changes.length > 0) await writer.submit(updateNodes, changes)
    },
    setNode: (node, change) => writer.submit(setNode, { node, ...change }),
    listNodes: () => listNodes(reader),
    deleteNode: (node) => writer.submit(deleteNode, node),
  }
}
