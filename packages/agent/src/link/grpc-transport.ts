/** The way to the gateways over gRPC with mutual TLS. */
import type { ServiceError } from '@grpc/grpc-js'
import type { Clock } from '@lichen/core'
import type { EngineMessage } from '@lichen/protocol'
import type { KeyAndRequest } from '../identity/certificate-request.js'
import { type GatewayClient, openGatewayClient } from '../identity/gateway-client.js'
import { renew } from '../identity/join.js'
import type { AgentStream, StreamEvents, Transport } from './transport.js'

/** The transport that agents use. `makeKeyAndRequest`: how the key of a renewed certificate is made. */
export const openGrpcTransport = (clock: Clock, makeKeyAndRequest: (name: string) => Promise<KeyAndRequest>): Transport => ({
  openStream: (gateway, identity, events) => openStream(openGatewayClient(gateway, identity), events),
  renew: (gateway, identity) => renew(gateway, identity, makeKeyAndRequest, clock),
})

function openStream(client: GatewayClient, events: StreamEvents): AgentStream {
  const stream = client.calls.connect()
  let isOver = false
  const finish = (): void => {
    isOver = true
    // Cancelling makes the stream say `error`; it is not listened to any more.
    stream.cancel()
    client.close()
  }
  const end = (error?: ServiceError): void => {
    if (isOver) return
    finish()
    events.onEnd(error && (error.details || error.message))
  }
  stream.on('data', (message: EngineMessage) => {
    if (!isOver) events.onMessage(message)
  })
  stream.on('drain', () => {
    if (!isOver) events.onDrain()
  })
  stream.on('error', (error: ServiceError) => end(error))
  stream.on('end', () => end())
  return {
    send: (message) => isOver || stream.write(message),
    cancel: () => {
      if (!isOver) finish()
    },
  }
}
