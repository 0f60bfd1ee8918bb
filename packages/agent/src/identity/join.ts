/** Joining and renewing: from a join token to an identity, and from an identity to its successor. */
import { type ClientUnaryCall, type ServiceError, status } from '@grpc/grpc-js'
import { type Clock, type ErrorCode, errorTable, LichenError, parseJoinToken } from '@lichen/core'
import type { JoinReply, RenewReply } from '@lichen/protocol'
import type { KeyAndRequest } from './certificate-request.js'
import { openGatewayClient } from './gateway-client.js'
import { certificatePem, encodeSigningKeys, type Identity } from './identity.js'
import { fetchPinnedCa } from './pinned-ca.js'

const callTimeoutMs = 20_000

export interface JoinOptions {
  readonly clock: Clock
  /** host:port */
  readonly gateway: string
  readonly token: string
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly agentVersion: string
  readonly makeKeyAndRequest: (name: string) => Promise<KeyAndRequest>
}

/**
 * The identity that the gateway gives for the token.
 * @throws JOIN_TOKEN_INVALID, JOIN_TOKEN_EXPIRED, JOIN_NAME_TAKEN, JOIN_BAD_REQUEST as the gateway says.
 * @throws JOIN_CA_MISMATCH when it is not the gateway the token is for; the token is not sent then.
 * @throws AGENT_UNREACHABLE when it cannot be reached; asking again later makes sense.
 */
export async function join(options: JoinOptions): Promise<Identity> {
  const token = parseJoinToken(options.token)
  const caCertificatePem = certificatePem(await fetchPinnedCa(options.gateway, token.caDigest))
  const { keyPem, request } = await options.makeKeyAndRequest(options.name)
  const { clock } = options
  const client = openGatewayClient(options.gateway, { caCertificatePem })
  try {
    const message = { token: token.secret, certificateRequest: request, nodeName: options.name, labels: { ...options.labels }, agentVersion: options.agentVersion }
    const reply = await call<JoinReply>(clock, options.gateway, (done) => client.calls.join(message, done))
    return { nodeId: reply.nodeId, keyPem, certificatePem: certificatePem(reply.certificate), caCertificatePem, signingKeys: encodeSigningKeys(reply.signingKeys), gateways: reply.gateways }
  } finally {
    client.close()
  }
}

/** The identity with a new key and certificate. Throws as `join` does. */
export async function renew(gateway: string, identity: Identity, makeKeyAndRequest: JoinOptions['makeKeyAndRequest'], clock: Clock): Promise<Identity> {
  const { keyPem, request } = await makeKeyAndRequest(identity.nodeId)
  const client = openGatewayClient(gateway, identity)
  try {
    const reply = await call<RenewReply>(clock, gateway, (done) => client.calls.renew({ certificateRequest: request }, done))
    return { ...identity, keyPem, certificatePem: certificatePem(reply.certificate), signingKeys: encodeSigningKeys(reply.signingKeys) }
  } finally {
    client.close()
  }
}

/** The answer to the call. Its time limit is kept by the clock here: deadlines of gRPC are moments, which a clock that is set makes long past or far away. */
function call<Reply>(clock: Clock, gateway: string, start: (done: (error: ServiceError | null, reply: Reply) => void) => ClientUnaryCall): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const started = start((error, reply) => {
      timer.cancel()
      if (error) reject(toLichenError(error, gateway))
      else resolve(reply)
    })
    const timer = clock.after(callTimeoutMs, () => started.cancel())
  })
}

/**
 * What a failed call means. A gateway puts our code at the beginning of the details (`JOIN_TOKEN_EXPIRED: …`); without one, being refused is
 * AGENT_UNAUTHENTICATED and everything else AGENT_UNREACHABLE.
 */
export function toLichenError(error: ServiceError, gateway: string): LichenError {
  const named = /^([A-Z]+_[A-Z_]+)\b:?\s*(.*)$/s.exec(error.details)
  if (named && Object.hasOwn(errorTable, named[1]!)) return new LichenError(named[1] as ErrorCode, named[2] || error.details, { cause: error })
  const isRefused = error.code === status.UNAUTHENTICATED || error.code === status.PERMISSION_DENIED
  return new LichenError(isRefused ? 'AGENT_UNAUTHENTICATED' : 'AGENT_UNREACHABLE', `gateway ${gateway}: ${error.details || error.message}`, { cause: error })
}
