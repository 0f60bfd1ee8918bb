/** Letting nodes in, and renewing their certificates. */
import { createHash } from 'node:crypto'
import { type Clock, LichenError, namePattern, nodeId } from '@lichen/core'
import type { JoinReply, JoinRequest, RenewReply, RenewRequest } from '@lichen/protocol'
import type { NodeStore } from '@lichen/store'
import type { Authority, NodeIdentity } from '../authority/authority.js'
import type { EngineLimits } from '../engine-limits.js'
import type { EngineLog } from '../engine-log.js'

export interface JoinParts {
  readonly nodes: NodeStore
  readonly authority: Authority
  readonly limits: EngineLimits
  readonly clock: Clock
  /** `host:port` of every gateway that runs, this one first. */
  readonly gateways: () => readonly string[]
  readonly log: EngineLog
}

const namePolicy = new RegExp(namePattern)
const labelKey = /^[A-Za-z0-9][-A-Za-z0-9_./]{0,62}$/
const labelLimit = 64
const labelValueLimit = 253

/**
 * The first certificate of a node that shows a valid join token. The node gets the name it asks for, or is told that it is taken.
 * @throws JOIN_TOKEN_INVALID, JOIN_TOKEN_EXPIRED, JOIN_NAME_TAKEN, JOIN_BAD_REQUEST
 */
export async function admitNode(request: JoinRequest, { nodes, authority, limits, clock, gateways, log }: JoinParts): Promise<JoinReply> {
  checkJoinRequest(request)
  const node = nodeId(request.nodeName)
  const keyDigest = await authority.digestRequestKey(request.certificateRequest)
  const secretDigest = createHash('sha256').update(request.token).digest('hex')
  const token = (await nodes.listJoinTokens()).find((one) => one.secretDigest === secretDigest)
  if (token === undefined) throw new LichenError('JOIN_TOKEN_INVALID', `node ${node} shows a join token that is not known here`)
  // Issued before the node is registered: when this fails, no use of the token is spent.
  const certificate = await authority.issueNodeCertificate(node, request.certificateRequest, limits.nodeCertificateLifeMs)
  const { labels } = await nodes.admitNode({ tokenId: token.id, secretDigest, node, labels: request.labels, keyDigest, agentVersion: request.agentVersion.slice(0, 64), now: clock.now() })
  log.info({ nodeId: node, tokenId: token.id, labels }, 'a node joined')
  return { nodeId: node, certificate, caCertificate: authority.caCertificate, signingKeys: [...authority.signingKeys], gateways: [...gateways()] }
}

function checkJoinRequest({ nodeName, labels }: JoinRequest): void {
  if (!namePolicy.test(nodeName)) throw new LichenError('JOIN_BAD_REQUEST', `the node name ${JSON.stringify(nodeName.slice(0, 100))} is no DNS label: lower-case letters, digits and hyphens, 63 characters at most`)
  const entries = Object.entries(labels)
  if (entries.length > labelLimit) throw new LichenError('JOIN_BAD_REQUEST', `node ${nodeName} brings ${entries.length} labels; ${labelLimit} are allowed`)
  const bad = entries.find(([key, value]) => !labelKey.test(key) || value.length > labelValueLimit)
  if (bad) throw new LichenError('JOIN_BAD_REQUEST', `node ${nodeName} brings the label ${JSON.stringify(bad[0].slice(0, 100))}, whose key or value has not the form of a label`)
}

/** The next certificate of a node, for the key of the request; its registration stays. @throws JOIN_BAD_REQUEST */
export async function renewCertificate(request: RenewRequest, identity: NodeIdentity, { authority, limits, log }: JoinParts): Promise<RenewReply> {
  const certificate = await authority.issueNodeCertificate(identity.node, request.certificateRequest, limits.nodeCertificateLifeMs, identity.registration)
  log.info({ nodeId: identity.node }, 'a node renewed its certificate')
  return { certificate, caCertificate: authority.caCertificate, signingKeys: [...authority.signingKeys] }
}
