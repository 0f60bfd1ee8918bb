/** Letting a node in: the use of the token is counted and the node registered in one transaction. */
import { timingSafeEqual } from 'node:crypto'
import { LichenError } from '@lichen/core'
import type { NodeStore } from '../ports/node-store.js'
import type { Connection } from './connection.js'
import { buildSingleWrite } from './single-write.js'

type Admission = Parameters<NodeStore['admitNode']>[0]
type Labels = Readonly<Record<string, string>>

interface TokenRow {
  readonly secretDigest: string
  readonly labels: string
  readonly usesLeft: number | null
  readonly expiresAt: number
}

function isSameDigest(left: string, right: string): boolean {
  const [a, b] = [Buffer.from(left), Buffer.from(right)]
  return a.length === b.length && timingSafeEqual(a, b)
}

async function readToken(connection: Connection, input: Admission): Promise<TokenRow | LichenError> {
  const [token] = await connection.all<TokenRow>(
    'SELECT secret_digest AS secretDigest, labels, uses_left AS usesLeft, expires_at AS expiresAt FROM join_tokens WHERE id = ?',
    input.tokenId,
  )
  // One message for both, so that ids of tokens cannot be probed.
  if (token === undefined || !isSameDigest(token.secretDigest, input.secretDigest)) return new LichenError('JOIN_TOKEN_INVALID', `node ${input.node} shows a join token that is not known here`)
  if (token.expiresAt <= input.now) return new LichenError('JOIN_TOKEN_EXPIRED', `the join token ${input.tokenId} expired at ${new Date(token.expiresAt).toISOString()}`)
  return token
}

async function register(connection: Connection, input: Admission, labels: Labels): Promise<void> {
  await connection.run('UPDATE join_tokens SET uses_left = uses_left - 1 WHERE id = ? AND uses_left IS NOT NULL', input.tokenId)
  await connection.run(
    "INSERT INTO nodes (id, labels, state, agent_version, key_digest, joined_at, last_seen_at) VALUES (?, ?, 'lost', ?, ?, ?, ?)",
    input.node, JSON.stringify(labels), input.agentVersion, input.keyDigest, input.now, input.now,
  )
}

async function admit(connection: Connection, input: Admission): Promise<{ readonly labels: Labels } | LichenError> {
  const token = await readToken(connection, input)
  if (token instanceof LichenError) return token
  const [node] = await connection.all<{ keyDigest: string; labels: string }>('SELECT key_digest AS keyDigest, labels FROM nodes WHERE id = ?', input.node)
  if (node !== undefined) {
    if (node.keyDigest !== input.keyDigest) return new LichenError('JOIN_NAME_TAKEN', `a node named ${input.node} has joined with another key; delete it first, or give this one another name`)
    // The same machine again, whose first answer was lost: it is in already and uses nothing up.
    return { labels: JSON.parse(node.labels) as Labels }
  }
  if (token.usesLeft !== null && token.usesLeft <= 0) return new LichenError('JOIN_TOKEN_EXPIRED', `the join token ${input.tokenId} has no uses left`)
  const labels: Labels = { ...input.labels, ...(JSON.parse(token.labels) as Labels) }
  await register(connection, input, labels)
  return { labels }
}

/** Writes `NodeStore.admitNode`. Labels of the token win over those that the node brings: the token is the operator's word. */
export const admitNode = buildSingleWrite('admitting a node', admit)
