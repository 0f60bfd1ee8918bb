/**
 * A gRPC client of one gateway whose connections can be closed at any moment. grpc-js (1.14) drops the socket of a channel that is closed while it shakes hands: nobody closes it, for as long as
 * the other end lives, and a gateway that stands still would cost an agent a file descriptor for every try. So the sockets are watched here until gRPC has a session over them.
 */
import type { Socket } from 'node:net'
import { ChannelCredentials, credentials } from '@grpc/grpc-js'
import { AgentGatewayClient } from '@lichen/protocol'
import type { Identity } from './identity.js'
import { gatewayName } from './pinned-ca.js'

type SecureConnector = ReturnType<ChannelCredentials['_createSecureConnector']>

export interface GatewayClient {
  readonly calls: AgentGatewayClient
  /** Closes the connection, or the one that is being made. What was called and has not ended fails. */
  close(): void
}

/** A client that trusts the pinned CA alone and shows the node's certificate when there is one. Connects with its first call. */
export function openGatewayClient(gateway: string, identity: Pick<Identity, 'caCertificatePem'> & Partial<Identity>): GatewayClient {
  const key = identity.keyPem === undefined ? null : Buffer.from(identity.keyPem)
  const certificate = identity.certificatePem === undefined ? null : Buffer.from(identity.certificatePem)
  const watched = new WatchedCredentials(credentials.createSsl(Buffer.from(identity.caCertificatePem), key, certificate))
  const calls = new AgentGatewayClient(gateway, watched, {
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
  return {
    calls,
    close() {
      calls.close()
      watched.close()
    },
  }
}

/** Never settles. A channel that is closed before it has connected connects all the same, and again and again when that fails: what it waits for must not come. */
const never = (): Promise<never> => new Promise(() => undefined)

/** Credentials that know which sockets are shaking hands. */
class WatchedCredentials extends ChannelCredentials {
  readonly #inner: ChannelCredentials
  readonly #shaking = new Set<Socket>()
  #isClosed = false

  constructor(inner: ChannelCredentials) {
    super()
    this.#inner = inner
  }

  /** Destroys what shakes hands; nothing is connected any more. */
  close(): void {
    this.#isClosed = true
    for (const socket of this.#shaking) socket.destroy()
  }

  override _isSecure(): boolean {
    return this.#inner._isSecure()
  }

  override _equals(other: ChannelCredentials): boolean {
    return this === other
  }

  override _createSecureConnector(...parameters: Parameters<ChannelCredentials['_createSecureConnector']>): SecureConnector {
    const inner = this.#inner._createSecureConnector(...parameters)
    return {
      connect: (socket) => this.#shakeHands(socket, inner),
      waitForReady: () => (this.#isClosed ? never() : inner.waitForReady()),
      getCallCredentials: () => inner.getCallCredentials(),
      destroy: () => inner.destroy(),
    }
  }

  async #shakeHands(socket: Socket, connector: SecureConnector): ReturnType<SecureConnector['connect']> {
    if (this.#isClosed) {
      socket.destroy()
      return never()
    }
    this.#shaking.add(socket)
    try {
      return await connector.connect(socket)
    } finally {
      // gRPC opens its session in the microtasks that follow: from then on it closes the socket itself.
      setImmediate(() => this.#shaking.delete(socket))
    }
  }
}
