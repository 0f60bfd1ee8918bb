/** Who is on the other end of a call. */
import { LichenError } from '@lichen/core'
import type { Authority, NodeIdentity } from '../authority/authority.js'
import type { NodeDirectory } from './node-directory.js'

/** What grpc-js tells about a connection: the certificate is there only when OpenSSL found it signed by our CA. */
export interface PeerCall {
  getAuthContext(): { sslPeerCertificate?: { raw: Buffer } | undefined } | null
}

/**
 * The node on the other end: its certificate was checked in the handshake, is checked here again (it may have expired since), and must belong to the
 * registration that the store has for this node.
 * @throws AGENT_UNAUTHENTICATED
 */
export async function identifyPeer(call: PeerCall, authority: Authority, directory: NodeDirectory): Promise<NodeIdentity> {
  const raw = call.getAuthContext()?.sslPeerCertificate?.raw
  if (raw === undefined) throw new LichenError('AGENT_UNAUTHENTICATED', 'the connection shows no certificate that the authority of this deployment signed')
  const identity = authority.checkNodeCertificate(raw)
  if (!(await directory.isRegistered(identity))) throw new LichenError('AGENT_UNAUTHENTICATED', `node ${identity.node} is not registered any more; it must join again`)
  return identity
}
