/** The other side of an agent: a small gateway over real gRPC and TLS, with a CA of its own, that signs what it is told to send and keeps what comes. */
import { createHash, generateKeyPairSync, type KeyObject, sign, webcrypto, X509Certificate } from 'node:crypto'
// The X.509 library needs this polyfill to be there before it.
import 'reflect-metadata'
import * as x509 from '@peculiar/x509'
import { experimental, Metadata, Server, type ServerDuplexStream, status } from '@grpc/grpc-js'
import { type AttemptResult, type Command, encodeJoinToken } from '@lichen/core'
import {
  type AgentMessage, AgentGatewayService, type AttemptKey, attemptKeyText, buildOrder, buildSignedCancel, buildSignedOrders, decodeResult, type EngineMessage,
  type Hello, type JoinRequest, type OrderParts, type OrderSigner, type SignedOrder,
} from '@lichen/protocol'

type Stream = ServerDuplexStream<AgentMessage, EngineMessage>
const ecdsa = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' }
const joinSecret = 'a-join-secret-of-the-test-suite'

export interface ReceivedResult {
  readonly key: AttemptKey
  readonly result: AttemptResult
  readonly secretOutputs: Record<string, string>
  readonly epoch: number
}

export interface GatewayOptions {
  readonly logWindowBytes?: number
  readonly heartbeatIntervalMs?: number
  /** Life of the certificates it gives. */
  readonly certificateLifeMs?: number
  /** Acknowledge results and logs as they come. Default: true. */
  readonly acknowledges?: boolean
  /** Keep the text of logs; without it only their sizes (for very large ones). Default: true. */
  readonly keepsLogs?: boolean
  readonly port?: number
  /** Address to listen on. Default: 127.0.0.1. */
  readonly host?: string
}

/** See the file header. Everything received stands in its fields, in the order it came. */
export class TestGateway {
  readonly hellos: Hello[] = []
  readonly joins: JoinRequest[] = []
  readonly accepted: AttemptKey[] = []
  readonly refused: { key: AttemptKey | undefined; code: string; message: string }[] = []
  readonly results: ReceivedResult[] = []
  readonly heartbeats: string[] = []
  readonly logs = new Map<string, Buffer[]>()
  readonly logBytes = new Map<string, number>()
  readonly chunks: { keyText: string; position: number; sizeBytes: number; stream: number; command: number }[] = []
  renewals = 0
  /** The answers to so many joins are lost on their way. */
  losesJoins = 0
  readonly joinedKeys: string[] = []
  acknowledges: boolean
  unackedBytes = 0
  maxUnackedBytes = 0
  streams: Stream[] = []
  caPem = ''
  caDigest = ''
  #server: Server | undefined
  #port = 0
  readonly #options: GatewayOptions
  #signingKey = generateKeyPairSync('ed25519')
  #caKeys: webcrypto.CryptoKeyPair | undefined
  #ca: x509.X509Certificate | undefined
  #identity: { certificate: Buffer; privateKey: Buffer } | undefined

  private constructor(options: GatewayOptions) {
    this.#options = options
    this.acknowledges = options.acknowledges ?? true
  }

  static async start(options: GatewayOptions = {}): Promise<TestGateway> {
    const gateway = new TestGateway(options)
    await gateway.#makeCa()
    await gateway.listen(options.port ?? 0)
    return gateway
  }

  /** Another gateway of the same deployment: the same CA, the same key that signs orders. */
  static async startBeside(first: TestGateway, options: GatewayOptions = {}): Promise<TestGateway> {
    const gateway = new TestGateway(options)
    gateway.#signingKey = first.#signingKey
    gateway.#caKeys = first.#caKeys
    gateway.#ca = first.#ca
    gateway.#identity = first.#identity
    gateway.caPem = first.caPem
    gateway.caDigest = first.caDigest
    await gateway.listen(0)
    return gateway
  }

  get address(): string {
    return `${this.#options.host ?? '127.0.0.1'}:${this.#port}`
  }

  get port(): number {
    return this.#port
  }

  get token(): string {
    return encodeJoinToken({ id: 'testtoken1', secret: joinSecret, caDigest: this.caDigest })
  }

  get signer(): OrderSigner {
    return { keyId: 'key-1', sign: (bytes) => sign(null, bytes, this.#signingKey.privateKey) }
  }

  async listen(port: number): Promise<void> {
    const server = new Server({ 'grpc.max_receive_message_length': 16 * 1024 * 1024 })
    server.addService(AgentGatewayService, {
      join: (call: { request: JoinRequest }, done: (error: object | null, reply?: object) => void) => void this.#join(call.request).then((reply) => done(null, reply), (error: unknown) => done({ code: (error as { code?: status }).code ?? status.UNAUTHENTICATED, details: (error as Error).message, metadata: new Metadata() })),
      renew: (call: { request: { certificateRequest: Buffer } }, done: (error: object | null, reply?: object) => void) => {
        this.renewals++
        void this.#certify(call.request.certificateRequest, 'renewed').then((certificate) => done(null, { certificate, caCertificate: Buffer.from(this.#ca!.rawData), signingKeys: this.#signingKeys() }))
      },
      connect: (stream: Stream) => this.#connect(stream),
    })
    const identity = this.#identity!
    const provider = {
      addCaCertificateListener: (listener: (update: { caCertificate: Buffer }) => void) => process.nextTick(() => listener({ caCertificate: Buffer.from(this.caPem) })),
      removeCaCertificateListener: () => {},
      addIdentityCertificateListener: (listener: (update: { certificate: Buffer; privateKey: Buffer }) => void) => process.nextTick(() => listener(identity)),
      removeIdentityCertificateListener: () => {},
    }
    const credentials = experimental.createCertificateProviderServerCredentials(provider as never, provider as never, false)
    this.#port = await new Promise((resolve, reject) => server.bindAsync(`${this.#options.host ?? '127.0.0.1'}:${port}`, credentials, (error, bound) => (error ? reject(error) : resolve(bound))))
    this.#server = server
  }

  /** Ends every connection and listens no more, as a dying engine does. */
  stop(): void {
    this.#server?.forceShutdown()
    this.streams = []
  }

  send(message: EngineMessage['message']): void {
    this.streams.at(-1)!.write({ message })
  }

  /** Sends a signed order; anything in `parts` replaces a default, `change` is applied after signing. */
  order(parts: Partial<OrderParts> & { commands: readonly Command[] }, change: (signed: SignedOrder) => SignedOrder = (signed) => signed): AttemptKey {
    const order = makeOrder(parts, this.hellos.length > 0 ? this.nodeId : 'node-1')
    this.send({ $case: 'order', value: change(buildSignedOrders([buildOrder(order)], this.signer)[0]!) })
    return order.key
  }

  cancel(key: AttemptKey, epoch = 1, reason = 'the operator said so'): void {
    this.send({ $case: 'cancel', value: buildSignedCancel({ key, nodeId: this.nodeId, epoch, reason }, this.signer) })
  }

  nodeId = 'node-1'
  /** What joins and welcomes name as the gateways that run. */
  gateways: string[] = []

  resultOf(key: AttemptKey): ReceivedResult | undefined {
    return this.results.find((received) => attemptKeyText(received.key) === attemptKeyText(key))
  }

  logOf(key: AttemptKey): string {
    return Buffer.concat(this.logs.get(attemptKeyText(key)) ?? []).toString('utf8')
  }

  logSizeOf(key: AttemptKey): number {
    return this.logBytes.get(attemptKeyText(key)) ?? 0
  }

  acknowledgeResult(key: AttemptKey): void {
    this.send({ $case: 'resultAck', value: { key } })
  }

  async #makeCa(): Promise<void> {
    x509.cryptoProvider.set(webcrypto as never)
    this.#caKeys = await webcrypto.subtle.generateKey(ecdsa, true, ['sign', 'verify'])
    const notBefore = new Date(Date.now() - 3_600_000)
    const notAfter = new Date(Date.now() + 86_400_000)
    this.#ca = await x509.X509CertificateGenerator.createSelfSigned({
      name: 'CN=test CA', keys: this.#caKeys as never, signingAlgorithm: ecdsa, notBefore, notAfter, serialNumber: '01',
      extensions: [new x509.BasicConstraintsExtension(true, undefined, true), new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign, true)],
    })
    this.caPem = this.#ca.toString('pem')
    this.caDigest = createHash('sha256').update(Buffer.from(this.#ca.rawData)).digest('hex')
    const keys = await webcrypto.subtle.generateKey(ecdsa, true, ['sign', 'verify'])
    const certificate = await x509.X509CertificateGenerator.create({
      subject: 'CN=gateway', issuer: this.#ca.subject, publicKey: keys.publicKey as never, signingKey: this.#caKeys!.privateKey as never, signingAlgorithm: ecdsa, notBefore, notAfter, serialNumber: '02',
      extensions: [new x509.SubjectAlternativeNameExtension([{ type: 'dns', value: 'gateway.lichen.internal' }])],
    })
    const privateKey = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey)).toString('base64')
    // The chain holds the CA: that is how a joining node finds it.
    this.#identity = { certificate: Buffer.from(`${certificate.toString('pem')}\n${this.caPem}\n`), privateKey: Buffer.from(`-----BEGIN PRIVATE KEY-----\n${privateKey}\n-----END PRIVATE KEY-----\n`) }
  }

  async #certify(request: Buffer, name: string): Promise<Buffer> {
    const csr = new x509.Pkcs10CertificateRequest(request)
    if (!(await csr.verify())) throw new Error('JOIN_BAD_REQUEST: not signed by its own key')
    const life = this.#options.certificateLifeMs ?? 3_600_000
    const certificate = await x509.X509CertificateGenerator.create({
      subject: `CN=${name}`, issuer: this.#ca!.subject, publicKey: csr.publicKey as never, signingKey: this.#caKeys!.privateKey as never, signingAlgorithm: ecdsa,
      notBefore: new Date(Date.now() - (this.#options.certificateLifeMs === undefined ? 60_000 : 0)), notAfter: new Date(Date.now() + life), serialNumber: Date.now().toString(16).padStart(16, '0'),
    })
    return Buffer.from(certificate.rawData)
  }

  async #join(request: JoinRequest): Promise<object> {
    this.joins.push(request)
    if (request.token !== joinSecret) throw new Error('JOIN_TOKEN_INVALID: no such token')
    this.nodeId = request.nodeName
    this.joinedKeys.push(createHash('sha256').update(Buffer.from(new x509.Pkcs10CertificateRequest(request.certificateRequest).publicKey.rawData)).digest('hex'))
    if (this.losesJoins-- > 0) throw Object.assign(new Error('lost'), { code: status.UNAVAILABLE })
    return { nodeId: request.nodeName, certificate: await this.#certify(request.certificateRequest, request.nodeName), caCertificate: Buffer.from(this.#ca!.rawData), signingKeys: this.#signingKeys(), gateways: this.gateways }
  }

  #signingKeys(): { id: string; publicKey: Buffer }[] {
    return [{ id: 'key-1', publicKey: rawPublicKey(this.#signingKey.publicKey) }]
  }

  #connect(stream: Stream): void {
    const peer = stream.getAuthContext().sslPeerCertificate
    if (!peer || !new X509Certificate(peer.raw).verify(new X509Certificate(this.caPem).publicKey)) {
      stream.destroy(Object.assign(new Error('AGENT_UNAUTHENTICATED: no certificate of this deployment'), { code: status.UNAUTHENTICATED }))
      return
    }
    stream.on('data', (message: AgentMessage) => this.#receive(stream, message))
    stream.on('error', () => {})
    stream.on('end', () => stream.end())
  }

  #receive(stream: Stream, { message }: AgentMessage): void {
    switch (message?.$case) {
      case 'hello':
        this.hellos.push(message.value)
        this.streams.push(stream)
        this.unackedBytes = 0
        stream.write({ message: { $case: 'welcome', value: { heartbeatIntervalMs: this.#options.heartbeatIntervalMs ?? 5000, logWindowBytes: this.#options.logWindowBytes ?? 4 * 1024 * 1024, signingKeys: this.#signingKeys(), gateways: this.gateways } } })
        break
      case 'heartbeat':
        this.heartbeats.push(message.value.facts)
        break
      case 'accepted':
        this.accepted.push(message.value.key!)
        break
      case 'refused':
        this.refused.push(message.value)
        break
      case 'result': {
        const decoded = decodeResult(message.value.result)
        if (!decoded.ok) throw new Error(JSON.stringify(decoded.problems))
        this.results.push({ key: message.value.key!, result: decoded.value, secretOutputs: message.value.secretOutputs, epoch: message.value.epoch })
        if (this.acknowledges) stream.write({ message: { $case: 'resultAck', value: { key: message.value.key } } })
        break
      }
      case 'log':
        this.#receiveLog(stream, message.value)
        break
      case undefined:
        break
    }
  }

  /** Stores a chunk as the engine does: what it has already is not stored again, a gap is an error. */
  #receiveLog(stream: Stream, chunk: { key: AttemptKey | undefined; position: number; data: Buffer; stream: number; command: number }): void {
    const keyText = attemptKeyText(chunk.key!)
    const have = this.logBytes.get(keyText) ?? 0
    if (chunk.position > have) throw new Error(`a hole in the log of ${keyText}: have ${have}, got ${chunk.position}`)
    this.chunks.push({ keyText, position: chunk.position, sizeBytes: chunk.data.length, stream: chunk.stream, command: chunk.command })
    if (chunk.position + chunk.data.length > have) {
      this.logBytes.set(keyText, chunk.position + chunk.data.length)
      if (this.#options.keepsLogs ?? true) this.logs.set(keyText, [...(this.logs.get(keyText) ?? []), chunk.data.subarray(have - chunk.position)])
    }
    this.unackedBytes += chunk.data.length
    this.maxUnackedBytes = Math.max(this.maxUnackedBytes, this.unackedBytes)
    if (!this.acknowledges) return
    this.unackedBytes = 0
    stream.write({ message: { $case: 'logAck', value: { key: chunk.key, position: this.logBytes.get(keyText) ?? 0 } } })
  }
}

/** Parts of an order with defaults. */
export function makeOrder(parts: Partial<OrderParts> & { commands: readonly Command[] }, nodeId = 'node-1'): OrderParts {
  return { key: { taskId: 't-1', actionId: `a-${Math.random().toString(36).slice(2, 10)}`, attempt: 1 }, nodeId, deployment: 'default/site', epoch: 1, expiresAt: Date.now() + 60_000, timeoutMs: 60_000, mode: 'do', secrets: [], ...parts }
}

/** A command with defaults for its name and time limit. */
export const makeCommand = <Kind extends Command['kind']>(kind: Kind, spec: Extract<Command, { kind: Kind }>['spec'], timeoutMs = 30_000): Command => ({ name: `a ${kind}`, kind, timeoutMs, spec }) as Command

const rawPublicKey = (key: KeyObject): Buffer => key.export({ type: 'spki', format: 'der' }).subarray(-32)
