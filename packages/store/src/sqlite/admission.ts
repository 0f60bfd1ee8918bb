/** Letting a node in: the use of the token is counted and the node registered in one transaction. */
import { LichenError } from '@lichen/core'
import { decideAdmission, type Admission, type Labels, type TakenRow, type TokenRow } from '../rules/admission-rules.js'
import type { Connection } from './connection.js'
import { buildSingleWrite } from './single-write.js'

async function register(connection: Connection, input: Admission, labels: Labels): Promise<void> {
  await connection.run('UPDATE join_tokens SET uses_left = uses_left - 1 WHERE id = ? AND uses_left IS NOT NULL', input.tokenId)
  await connection.run(
    "INSERT INTO nodes (id, labels, state, agent_version, key_digest, joined_at, last_seen_at) VALUES (?, ?, 'lost', ?, ?, ?, ?)",
    input.node, JSON.stringify(labels), input.agentVersion, input.keyDigest, input.now, input.now,
  )
}

async function admit(connection: Connection, input: Admission): Promise<{ readonly labels: Labels } | LichenError> {
  const [token] = await connection.all<TokenRow>(
    'SELECT secret_digest AS secretDigest, labels, uses_left AS usesLeft, expires_at AS expiresAt FROM join_tokens WHERE id = ?',
    input.tokenId,
  )
  const [taken] = await connection.all<TakenRow>('SELECT key_digest AS keyDigest, labels FROM nodes WHERE id = ?', input.node)
  const decided = decideAdmission(input, token, taken)
  if (decided instanceof LichenError) return decided
  if (decided.isNew) await register(connection, input, decided.labels)
  return { labels: decided.labels }
}

/** Writes `NodeStore.admitNode`. */
export const admitNode = buildSingleWrite('admitting a node', admit)
