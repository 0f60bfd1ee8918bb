/** Port: the way to the gateways. One adapter speaks gRPC (grpc-transport.ts); the simulator has its own. */
import type { AgentMessage, EngineMessage } from '@lichen/protocol'
import type { Identity } from '../identity/identity.js'

/** What a stream tells who opened it. Nothing is called before `openStream` has given the stream back, nor after `onEnd` or `cancel`. */
export interface StreamEvents {
  onMessage(message: EngineMessage): void
  /** The stream takes messages again, after `send` said that it is full. */
  onDrain(): void
  /** The stream is over, or never came about. `reason`: why, in words; undefined when the gateway closed it without one. */
  onEnd(reason: string | undefined): void
}

/** One stream to a gateway. Messages arrive in order or not at all. */
export interface AgentStream {
  /** Hands the message over; false when the next should wait for `onDrain`. */
  send(message: AgentMessage): boolean
  cancel(): void
}

export interface Transport {
  /** A stream to the gateway at `host:port`, with this identity. Messages may be sent at once. */
  openStream(gateway: string, identity: Identity, events: StreamEvents): AgentStream
  /** The identity with a new key and certificate, from this gateway. Rejects when there is none to be had now. */
  renew(gateway: string, identity: Identity): Promise<Identity>
}
