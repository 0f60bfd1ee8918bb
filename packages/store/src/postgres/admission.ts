/** Letting nodes in: the use of the token is counted and the node registered in one transaction. */
import { LichenError } from '@lichen/core'
import { decideAdmission, type Admission, type Labels, type TakenRow, type TokenRow } from '../rules/admission-rules.js'
import type { Session } from './sessions.js'
import type { WriteKind } from './writer.js'

/** The tokens, locked in the order of their ids: a use is counted once, whoever counts at the same time. */
async function lockTokens(session: Session, ids: readonly string[]): Promise<Map<string, TokenRow>> {
  const rows = await session.all<TokenRow & { readonly id: string }>(
    'SELECT id, secret_digest AS "secretDigest", labels, uses_left AS "usesLeft", expires_at AS "expiresAt" FROM join_tokens WHERE id = ANY($1::text[]) ORDER BY id FOR NO KEY UPDATE',
    ids,
  )
  return new Map(rows.map((row) => [row.id, row]))
}

async function readTaken(session: Session, node: string): Promise<TakenRow | undefined> {
  const [row] = await session.all<TakenRow>('SELECT key_digest AS "keyDigest", labels FROM nodes WHERE id = $1', node)
  return row
}

/** Registers the node unless one of its name came in through another token at this moment. */
async function register(session: Session, input: Admission, labels: Labels): Promise<boolean> {
  const inserted = await session.run(
    "INSERT INTO nodes (id, labels, state, agent_version, key_digest, joined_at, last_seen_at) VALUES ($1, $2, 'lost', $3, $4, $5, $5) ON CONFLICT DO NOTHING",
    input.node, JSON.stringify(labels), input.agentVersion, input.keyDigest, input.now,
  )
  return inserted > 0
}

async function admit(session: Session, input: Admission, tokens: Map<string, TokenRow>): Promise<{ readonly labels: Labels } | LichenError> {
  const token = tokens.get(input.tokenId)
  const decided = decideAdmission(input, token, await readTaken(session, input.node))
  if (decided instanceof LichenError) return decided
  if (!decided.isNew) return { labels: decided.labels }
  if (!(await register(session, input, decided.labels))) return admit(session, input, tokens)
  await session.run('UPDATE join_tokens SET uses_left = uses_left - 1 WHERE id = $1 AND uses_left IS NOT NULL', input.tokenId)
  if (token !== undefined && token.usesLeft !== null) tokens.set(input.tokenId, { ...token, usesLeft: token.usesLeft - 1 })
  return { labels: decided.labels }
}

/** Writes `NodeStore.admitNode`. */
export const admitNode: WriteKind<Admission, { readonly labels: Labels }> = {
  name: 'admitting a node',
  async apply(session, jobs) {
    const tokens = await lockTokens(session, [...new Set(jobs.map((job) => job.tokenId))])
    const answers = new Map<Admission, { readonly labels: Labels } | LichenError>()
    // In the order of their names: two programs that let in the same nodes never wait for each other.
    for (const job of jobs.toSorted((a, b) => (a.node < b.node ? -1 : a.node > b.node ? 1 : 0))) answers.set(job, await admit(session, job, tokens))
    return jobs.map((job) => answers.get(job) as { readonly labels: Labels } | LichenError)
  },
}
