/**
 * The agents' gateway: one TLS port. A client certificate is asked for and not required, so that nodes can join; whatever else is called checks it.
 * Owns the gRPC server and its own certificate, which it replaces before it expires.
 */
import { experimental, type sendUnaryData, Server, type ServerUnaryCall, status } from '@grpc/grpc-js'
import { type Clock, LichenError } from '@lichen/core'
import { AgentGatewayService, type JoinReply, type JoinRequest, type RenewReply, type RenewRequest } from '@lichen/protocol'
import type { Authority } from '../authority/authority.js'
import type { EngineMetrics } from '../metrics.js'
import { admitNode, type JoinParts, renewCertificate } from './join.js'
import { type Doorway, openDoorway } from './doorway.js'
import type { NodeDirectory } from './node-directory.js'
import { identifyPeer } from './peer.js'
import { refusalOf } from './refusal.js'
import { type AgentCall, type SessionListener, startSession } from './session.js'

export interface GatewayParts extends JoinParts {
  readonly host: string
  /** 0 lets the system choose. */
  readonly port: number
  readonly directory: NodeDirectory
  /** Of the engine: makes the ids of its sessions different from those of any other. */
  readonly instance: string
  readonly listener: SessionListener
  readonly metrics: EngineMetrics
}

export interface Gateway {
  readonly port: number
  stop(): Promise<void>
}

// Results with diffs and orders with big files: an action is bounded by this.
const messageLimit = 16 * 1024 * 1024
const serverOptions = {
  'grpc.max_receive_message_length': messageLimit,
  'grpc.max_send_message_length': messageLimit,
  // Nobody reads it, and it is kept for each connection and each of its streams.
  'grpc.enable_channelz': 0,
}
const certificateCheckMs = 3_600_000

/**
 * A gateway that listens.
 * @throws SERVER_PORT_TAKEN when it cannot listen there
 */
export async function startGateway(parts: GatewayParts): Promise<Gateway> {
  const identity = await openGatewayIdentity(parts.authority, parts.clock)
  const server = new Server(serverOptions)
  const credentials = experimental.createCertificateProviderServerCredentials(identity.provider, identity.provider, false)
  const injector = server.createConnectionInjector(credentials)
  const doorway = await openDoorway({ host: parts.host, port: parts.port, clock: parts.clock, silenceMs: parts.limits.silenceMs, letThrough: (socket) => injector.injectConnection(socket) }).catch((error: Error) => {
    identity.stop()
    server.forceShutdown()
    throw new LichenError('SERVER_PORT_TAKEN', `the gateway cannot listen on ${parts.host.includes(':') ? `[${parts.host}]` : parts.host}:${parts.port}: ${error.message}`, { cause: error })
  })
  server.addService(AgentGatewayService, buildCalls(parts, doorway))
  return {
    port: doorway.port,
    async stop() {
      identity.stop()
      injector.destroy()
      server.forceShutdown()
      doorway.stop()
    },
  }
}

type UnaryCalls = { join: (call: ServerUnaryCall<JoinRequest, JoinReply>, answer: sendUnaryData<JoinReply>) => void; renew: (call: ServerUnaryCall<RenewRequest, RenewReply>, answer: sendUnaryData<RenewReply>) => void; connect: (call: AgentCall) => void }

function buildCalls(parts: GatewayParts, doorway: Doorway): UnaryCalls {
  const { authority, directory, limits, listener, log, metrics, clock, instance } = parts
  let sessions = 0

  function answerWith<Reply>(reply: Promise<Reply>, what: string, answer: sendUnaryData<Reply>): void {
    reply.then(
      (value) => {
        metrics.joins.inc({ answer: 'ok' })
        answer(null, value)
      },
      (error: unknown) => {
        const code = error instanceof LichenError ? error.code : 'INTERNAL'
        metrics.joins.inc({ answer: code })
        if (code === 'INTERNAL') log.error({ err: error }, `${what} failed because of a defect`)
        else log.warn({ code, reason: (error as Error).message }, `${what} was refused`)
        answer(refusalOf(error))
      },
    )
  }

  async function connect(call: AgentCall): Promise<void> {
    // Nobody else would listen while the peer is identified, and an 'error' without a listener ends the process.
    const ignore = (): void => undefined
    call.on('error', ignore)
    try {
      const identity = await identifyPeer(call, authority, directory)
      if (call.cancelled) return
      const welcome = { heartbeatIntervalMs: directory.heartbeatIntervalMs(), logWindowBytes: limits.logWindowBytes, signingKeys: [...authority.signingKeys], gateways: [...parts.gateways()] }
      startSession({ call, identity, id: `${instance}/${++sessions}`, welcome, pace: directory.heartbeatIntervalMs, listener, clock, log })
    } catch (error) {
      const refusal = refusalOf(error)
      if (refusal.code === status.INTERNAL) log.error({ err: error }, 'a stream could not be opened because of a defect')
      else log.warn({ peer: call.getPeer(), reason: refusal.details }, 'a stream was refused')
      call.emit('error', refusal)
    }
  }

  return {
    join(call, answer) {
      doorway.arrived(call.getPeer())
      answerWith(admitNode(call.request, parts), 'joining', answer)
    },
    renew(call, answer) {
      doorway.arrived(call.getPeer())
      answerWith(identifyPeer(call, authority, directory).then((identity) => renewCertificate(call.request, identity, parts)), 'renewing a certificate', answer)
    },
    connect(call) {
      doorway.arrived(call.getPeer())
      void connect(call)
    },
  }
}

/** Key and certificate of the gateway, and the CA that clients are checked against, in the form grpc-js asks for; renewed in time. */
async function openGatewayIdentity(authority: Authority, clock: Clock): Promise<{ readonly provider: experimental.CertificateProvider; stop(): void }> {
  let { keyPem, chainPem, renewAt } = await authority.issueGatewayCertificate()
  const listeners = new Set<experimental.IdentityCertificateUpdateListener>()
  const update = (): experimental.IdentityCertificateUpdate => ({ certificate: Buffer.from(chainPem), privateKey: Buffer.from(keyPem) })
  async function renewIfDue(): Promise<void> {
    if (clock.now() < renewAt) return
    ;({ keyPem, chainPem, renewAt } = await authority.issueGatewayCertificate())
    for (const listener of listeners) listener(update())
  }
  const timer = clock.every(certificateCheckMs, () => void renewIfDue())
  const provider: experimental.CertificateProvider = {
    // grpc-js attaches its listeners before it can use what they are given; a microtask later is early enough, no connection can come before.
    addCaCertificateListener: (listener) => queueMicrotask(() => listener({ caCertificate: Buffer.from(authority.caCertificatePem) })),
    removeCaCertificateListener: () => undefined,
    addIdentityCertificateListener(listener) {
      listeners.add(listener)
      queueMicrotask(() => listener(update()))
    },
    removeIdentityCertificateListener: (listener) => void listeners.delete(listener),
  }
  return { provider, stop: () => timer.cancel() }
}
