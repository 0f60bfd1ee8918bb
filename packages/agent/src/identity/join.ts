/** Joining and renewing: from a join token to an identity, and from an identity to its successor. */
import { type ClientUnaryCall, connectivityState, credentials, type ServiceError, status } from '@grpc/grpc-js'
import { type Clock, type ErrorCode, errorTable, LichenError, parseJoinToken } from '@lichen/core'
import { AgentGatewayClient, type JoinReply, type RenewReply } from '@lichen/protocol'
import type { KeyAndRequest } from './certificate-request.js'
import { certificatePem, encodeSigningKeys, type Identity } from './identity.js'
import { fetchPinnedCa, gatewayName } from './pinned-ca.js'

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
  const client = openClient(options.gateway, { caCertificatePem })
  try {
    const message = { token: token.secret, certificateRequest: request, nodeName: options.name, labels: { ...options.labels }, agentVersion: options.agentVersion }
    const reply = await call<JoinReply>(clock, options.gateway, (done) => client.join(message, done))
    return { nodeId: reply.nodeId, keyPem, certificatePem: certificatePem(reply.certificate), caCertificatePem, signingKeys: encodeSigningKeys(reply.signingKeys), gateways: reply.gateways }
  } finally {
    closeClient(client)
  }
}

/** The identity with a new key and certificate. Throws as `join` does. */
export async function renew(gateway: string, identity: Identity, makeKeyAndRequest: JoinOptions['makeKeyAndRequest'], clock: Clock): Promise<Identity> {
  const { keyPem, request } = await makeKeyAndRequest(identity.nodeId)
  const client = openClient(gateway, identity)
  try {
    const reply = await call<RenewReply>(clock, gateway, (done) => client.renew({ certificateRequest: request }, done))
    return { ...identity, keyPem, certificatePem: certificatePem(reply.certificate), signingKeys: encodeSigningKeys(reply.signingKeys) }
  } finally {
    closeClient(client)
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

/** A client that trusts the pinned CA alone and shows the node's certificate when there is one. */
export function openClient(gateway: string, identity: Pick<Identity, 'caCertificatePem'> & Partial<Identity>): AgentGatewayClient {
  const key = identity.keyPem === undefined ? null : Buffer.from(identity.keyPem)
  const certificate = identity.certificatePem === undefined ? null : Buffer.from(identity.certificatePem)
  return new AgentGatewayClient(gateway, credentials.createSsl(Buffer.from(identity.caCertificatePem), key, certificate), {
    'grpc.ssl_target_name_override': gatewayName,
    'grpc.default_authority': gatewayName,
    // Finds a dead path within half a minute; the stream itself is quiet for as long as nothing happens. What a node prints meanwhile waits on it.
    'grpc.keepalive_time_ms': 20_000,
    'grpc.keepalive_timeout_ms': 10_000,
    'grpc.keepalive_permit_without_calls': 1,
    // The agent has its own backoff; grpc's would be added to it.
    'grpc.initial_reconnect_backoff_ms': 100,
    'grpc.max_reconnect_backoff_ms': 1000,
    'grpc.use_local_subchannel_pool': 1,
    'grpc.enable_http_proxy': 0,
    'grpc.max_receive_message_length': 16 * 1024 * 1024,
    'grpc.enable_retries': 0,
    'grpc.enable_channelz': 0,
  })
}

// How long a connection that is being made may take before its client is closed all the same.
const connectGraceMs = 5000

/**
 * Closes the client and its connection. grpc-js leaves the socket of a channel that is closed before or while it connects, for ever: such a one is
 * closed as soon as it has connected, or failed to.
 */
export function closeClient(client: AgentGatewayClient): void {
  const state = client.getChannel().getConnectivityState(false)
  if (state === connectivityState.READY || state === connectivityState.TRANSIENT_FAILURE) client.close()
  // A moment by the clock that gRPC itself reads; a timer beside it would close a client that is still watched, and one that is watched connects again.
  else client.waitForReady(Date.now() + connectGraceMs, () => client.close())
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
