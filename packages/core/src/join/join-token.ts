/**
 * Join tokens: what a node needs to trust the deployment and to be let in once. Text: `lichen1.<id>.<secret>.<ca digest>`.
 * The store keeps only the SHA-256 of the secret. The CA digest (SHA-256 of the CA certificate in DER, lower-case hex) lets the node know
 * the right gateway before it sends anything, as kubeadm's `--discovery-token-ca-cert-hash` does.
 */
import { LichenError } from '../errors.js'

export interface JoinToken {
  /** Public part: names the token in lists, logs and audit. */
  readonly id: string
  readonly secret: string
  readonly caDigest: string
}

const pattern = /^lichen1\.([a-z0-9]{8,32})\.([A-Za-z0-9_-]{22,86})\.([0-9a-f]{64})$/

/** The token as users carry it around. */
export const encodeJoinToken = (token: JoinToken): string => `lichen1.${token.id}.${token.secret}.${token.caDigest}`

/**
 * The parts of a token.
 * @throws JOIN_TOKEN_INVALID when the text has not the form of one (the text itself is not repeated in the message).
 */
export function parseJoinToken(text: string): JoinToken {
  const match = pattern.exec(text.trim())
  if (!match) throw new LichenError('JOIN_TOKEN_INVALID', 'the join token must have the form lichen1.<id>.<secret>.<ca digest>')
  const [, id, secret, caDigest] = match as unknown as [string, string, string, string]
  return { id, secret, caDigest }
}
