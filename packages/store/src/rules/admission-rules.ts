/** Who is let in: what a join token and the node's row say about a node that asks. */
import { timingSafeEqual } from 'node:crypto'
import { LichenError } from '@lichen/core'
import type { NodeStore } from '../ports/node-store.js'

/** A node that asks to be let in. */
export type Admission = Parameters<NodeStore['admitNode']>[0]
/** Labels of a node. */
export type Labels = Readonly<Record<string, string>>

/** The row of a join token; labels as JSON text. */
export interface TokenRow {
  readonly secretDigest: string
  readonly labels: string
  readonly usesLeft: number | null
  readonly expiresAt: number
}

/** The row of a node of the same name; labels as JSON text. */
export interface TakenRow {
  readonly keyDigest: string
  readonly labels: string
}

function isSameDigest(left: string, right: string): boolean {
  const [a, b] = [Buffer.from(left), Buffer.from(right)]
  return a.length === b.length && timingSafeEqual(a, b)
}

/**
 * The labels that the node gets, and whether it is to be registered and a use to be counted; or why it is refused. Labels of the token win over those that the node
 * brings: the token is the operator's word.
 */
export function decideAdmission(input: Admission, token: TokenRow | undefined, taken: TakenRow | undefined): { readonly labels: Labels; readonly isNew: boolean } | LichenError {
  // One message for both, so that ids of tokens cannot be probed.
  if (token === undefined || !isSameDigest(token.secretDigest, input.secretDigest)) return new LichenError('JOIN_TOKEN_INVALID', `node ${input.node} shows a join token that is not known here`)
  if (token.expiresAt <= input.now) return new LichenError('JOIN_TOKEN_EXPIRED', `the join token ${input.tokenId} expired at ${new Date(token.expiresAt).toISOString()}`)
  if (taken !== undefined) {
    if (taken.keyDigest !== input.keyDigest) return new LichenError('JOIN_NAME_TAKEN', `a node named ${input.node} has joined with another key; delete it first, or give this one another name`)
    // The same machine again, whose first answer was lost: it is in already and uses nothing up.
    return { labels: JSON.parse(taken.labels) as Labels, isNew: false }
  }
  if (token.usesLeft !== null && token.usesLeft <= 0) return new LichenError('JOIN_TOKEN_EXPIRED', `the join token ${input.tokenId} has no uses left`)
  return { labels: { ...input.labels, ...(JSON.parse(token.labels) as Labels) }, isNew: true }
}
