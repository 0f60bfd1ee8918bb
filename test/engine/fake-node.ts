/** The other side of the gateway, driven by the test: a node that joins and speaks over real gRPC, and says whatever it is told to say. */
import { createHash, generateKeyPairSync, KeyObject, webcrypto } from 'node:crypto'
import 'reflect-metadata'
import * as x509 from '@peculiar/x509'
import { type ClientDuplexStream, credentials, type ServiceError } from '@grpc/grpc-js'
import { type AttemptResult, type Command, parseJoinToken } from '@lichen/core'
import { type AgentMessage, AgentGatewayClient, AgentGatewayService, type AttemptKey, decodeCommands, decodeOrder, encodeResult, type EngineMessage, type JoinReply, type JoinRequest, LogStream, type Order, type RenewReply } from '@lichen/protocol'
import type { Test } from 'tap'
import { eventually } from '../eventually.js'

const ecdsa = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' }

/** Key and certificate (PEM), and the CA that the node trusts. */
export interface FakeIdentity {
  readonly keyPem?: string
  readonly certificatePem?: string
  readonly caPem: string
}

const pemOf = (der: ArrayBuffer | Buffer): string => new x509.X509Certificate(Buffer.from(der as Buffer)).toString('pem')
const keyPemOf = (key: webcrypto.CryptoKey): string => KeyObject.from(key).export({ type: 'pkcs8', format: 'pem' }).toString()

/** A key on P-256 and a request signed by it, or by another key when `isForged`. */
export async function makeRequest({ isForged = false } = {}): Promise<{ keyPem: string; request: Buffer }> {
  const keys = await webcrypto.subtle.generateKey(ecdsa, true, ['sign', 'verify'])
  const other = isForged ? await webcrypto.subtle.generateKey(ecdsa, true, ['sign', 'verify']) : keys
  const request = await x509.Pkcs10CertificateRequestGenerator.create({ name: 'CN=whatever', keys: { publicKey: keys.publicKey, privateKey: other.privateKey }, signingAlgorithm: ecdsa }, webcrypto)
  return { keyPem: keyPemOf(keys.privateKey), request: Buffer.from(request.rawData) }
}

/** A request with an RSA key, which the gateway does not take. */
export async function makeRsaRequest(): Promise<Buffer> {
  const algorithm = { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256', publicExponent: new Uint8Array([1, 0, 1]), modulusLength: 2048 }
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify'])
  return Buffer.from((await x509.Pkcs10CertificateRequestGenerator.create({ name: 'CN=rsa', keys, signingAlgorithm: algorithm }, webcrypto)).rawData)
}

/** A client certificate that looks like the one of this node and was signed by a CA of the forger's own, or by its own key. */
export async function makeForgedIdentity(caPem: string, node: string, registration: string, signer: 'itself' | 'another CA'): Promise<FakeIdentity> {
  const keys = await webcrypto.subtle.generateKey(ecdsa, true, ['sign', 'verify'])
  const signing = signer === 'itself' ? keys : await webcrypto.subtle.generateKey(ecdsa, true, ['sign', 'verify'])
  const certificate = await x509.X509CertificateGenerator.create({
    subject: `CN=${node}`, issuer: signer === 'itself' ? `CN=${node}` : 'CN=Lichen deployment', serialNumber: '0a', notBefore: new Date(Date.now() - 60_000), notAfter: new Date(Date.now() + 3_600_000),
    signingAlgorithm: ecdsa, publicKey: keys.publicKey, signingKey: signing.privateKey,
    extensions: [new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.clientAuth], true), new x509.SubjectAlternativeNameExtension([{ type: 'url', value: `urn:lichen:registration:${registration}` }])],
  }, webcrypto)
  return { keyPem: keyPemOf(keys.privateKey), certificatePem: certificate.toString('pem'), caPem }
}

/** A client that shows this identity. Closed with the test. */
export function openClient(t: Test, gateway: string, identity: FakeIdentity): AgentGatewayClient {
  const { keyPem, certificatePem, caPem } = identity
  const channel = credentials.createSsl(Buffer.from(caPem), keyPem === undefined ? null : Buffer.from(keyPem), certificatePem === undefined ? null : Buffer.from(certificatePem))
  const client = new AgentGatewayClient(gateway, channel, { 'grpc.ssl_target_name_override': 'gateway.lichen.internal', 'grpc.default_authority': 'gateway.lichen.internal', 'grpc.use_local_subchannel_pool': 1, 'grpc.enable_retries': 0 })
  t.teardown(() => client.close())
  return client
}

export const callJoin = (client: AgentGatewayClient, request: Partial<JoinRequest>): Promise<JoinReply> =>
  new Promise((resolve, reject) => client.join({ token: '', certificateRequest: Buffer.alloc(0), nodeName: '', labels: {}, agentVersion: 'fake', ...request }, (error, reply) => (error ? reject(error) : resolve(reply))))

export const callRenew = (client: AgentGatewayClient, certificateRequest: Buffer): Promise<RenewReply> => new Promise((resolve, reject) => client.renew({ certificateRequest }, (error, reply) => (error ? reject(error) : resolve(reply))))

/** Joins under this name; gives back the identity and the digest of its key. */
export async function joinNode(t: Test, gateway: string, caPem: string, token: string, node: string): Promise<FakeIdentity & { readonly keyDigest: string }> {
  const { keyPem, request } = await makeRequest()
  const reply = await callJoin(openClient(t, gateway, { caPem }), { token: parseJoinToken(token).secret, nodeName: node, certificateRequest: request })
  const spki = new x509.Pkcs10CertificateRequest(request).publicKey.rawData
  return { keyPem, certificatePem: pemOf(reply.certificate), caPem, keyDigest: createHash('sha256').update(Buffer.from(spki)).digest('hex') }
}

export const fakeFacts = (node: string): string =>
  JSON.stringify({ hostname: node, address: '10.0.0.1', addresses: [], os: { id: 'debian', version: '12', codename: 'bookworm', prettyName: 'Debian' }, kernel: '6', architecture: 'x64', cpus: 1, memoryBytes: 1, diskFreeBytes: 1, bootId: 'b', virtualization: 'none', cgroupVersion: 2, packageManager: 'apt', init: 'systemd' })

export const makeResult = (change: Partial<AttemptResult> = {}): AttemptResult => ({ outcome: 'succeeded', changed: true, commands: [], outputs: {}, startedAt: 1, endedAt: 2, ...change })

/** A stream to the gateway: everything that came stands in its fields. */
export class FakeNode {
  readonly orders: (Order & { readonly parsed: Command[] })[] = []
  readonly resultAcks: AttemptKey[] = []
  readonly logAcks: { key: AttemptKey | undefined; position: number }[] = []
  cancels = 0
  isWelcome = false
  /** What it was told, in order: by the welcome, and after it. */
  readonly paces: number[] = []
  error: ServiceError | undefined
  isEnded = false

  constructor(readonly stream: ClientDuplexStream<AgentMessage, EngineMessage>) {
    stream.on('data', ({ message }: EngineMessage) => {
      if (message?.$case === 'welcome') this.isWelcome = true
      if (message?.$case === 'welcome' || message?.$case === 'pace') this.paces.push(message.value.heartbeatIntervalMs)
      else if (message?.$case === 'order') this.orders.push(toParsed(decodeOrder(message.value.order)))
      else if (message?.$case === 'resultAck' && message.value.key) this.resultAcks.push(message.value.key)
      else if (message?.$case === 'logAck') this.logAcks.push(message.value)
      else if (message?.$case === 'cancel') this.cancels++
    })
    stream.on('error', (error: ServiceError) => (this.error = error))
    stream.on('end', () => (this.isEnded = true))
  }

  say(message: NonNullable<AgentMessage['message']>): void {
    this.stream.write({ message })
  }

  hello(node: string, running: readonly AttemptKey[] = []): void {
    this.say({ $case: 'hello', value: { agentVersion: 'fake', bootId: 'b', facts: fakeFacts(node), running: [...running], instance: 'fake' } })
  }

  result(key: AttemptKey, result: AttemptResult | string = makeResult(), secretOutputs: Record<string, string> = {}): void {
    this.say({ $case: 'result', value: { key, result: typeof result === 'string' ? result : encodeResult(result), secretOutputs, epoch: 1 } })
  }

  log(key: AttemptKey, position: number, text: string): void {
    this.say({ $case: 'log', value: { key, position, command: 0, stream: LogStream.STDOUT, at: Date.now(), data: Buffer.from(text) } })
  }
}

function toParsed(order: Order): Order & { readonly parsed: Command[] } {
  const commands = decodeCommands(order.commands)
  if (!commands.ok) throw new Error(JSON.stringify(commands.problems))
  return { ...order, parsed: commands.value }
}

/** A node that has said hello and was welcomed. */
export async function connectNode(t: Test, gateway: string, identity: FakeIdentity, node: string, running: readonly AttemptKey[] = []): Promise<FakeNode> {
  const fake = new FakeNode(openClient(t, gateway, identity).connect())
  fake.hello(node, running)
  await eventually(t, `${node} is welcome`, () => {
    if (fake.error) throw fake.error
    return fake.isWelcome
  })
  return fake
}

/** How the gateway refuses a stream opened with this identity: the details of the error. */
export async function refusalOf(t: Test, gateway: string, identity: FakeIdentity, node = 'n1'): Promise<string> {
  const fake = new FakeNode(openClient(t, gateway, identity).connect())
  fake.hello(node)
  const error = await eventually(t, 'the stream is refused', () => (fake.isWelcome ? { details: 'welcome' } : fake.error))
  return error.details
}

/** Sends bytes that are no message of ours on a stream of their own. */
export function sendGarbage(t: Test, gateway: string, identity: FakeIdentity, bytes: Buffer): { error?: ServiceError } {
  const { path, responseDeserialize } = AgentGatewayService.connect
  const stream = openClient(t, gateway, identity).makeBidiStreamRequest(path, (value: Buffer) => value, responseDeserialize)
  const seen: { error?: ServiceError } = {}
  stream.on('error', (error: ServiceError) => (seen.error = error))
  stream.on('data', () => undefined)
  stream.write(bytes)
  return seen
}

/** A key that has nothing to do with any certificate here. */
export const strangeKeyPem = (): string => generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()
