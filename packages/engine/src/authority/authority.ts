/**
 * The deployment's own authority: who may speak to the gateway, and which orders are ours. Owns the CA and the key for orders, in memory and sealed
 * in the store. A node's certificate names its node (CN) and its registration (a URI: digest of the key it joined with): a renewed key keeps the
 * registration, and a node that was deleted, or joined anew, leaves its old certificates worthless although they have not expired.
 */
import { createHash, createPrivateKey, createPublicKey, sign, X509Certificate } from 'node:crypto'
import { LichenError, nodeId, type NodeId } from '@lichen/core'
import type { OrderSigner, SigningKey } from '@lichen/protocol'
import type { Store } from '@lichen/store'
import type { Sealer } from '../sealer.js'
import { certificatePem, checkCertificateRequest, makeServerKey, openIssuer } from './certificates.js'
import { readServerKeys } from './server-keys.js'

/** The name in every gateway's certificate: agents reach gateways by any address and expect this name. */
export const gatewayName = 'gateway.lichen.internal'
// Made anew at each start and after two thirds of this.
const gatewayLifeMs = 90 * 86_400_000
const clientAuthentication = '1.3.6.1.5.5.7.3.2'
const registrationPrefix = 'urn:lichen:registration:'

/** Whom a certificate was given to. `expiresAt`: ms since the epoch. */
export interface NodeIdentity {
  readonly node: NodeId
  readonly registration: string
  readonly expiresAt: number
}

export interface Authority {
  /** SHA-256 of the CA certificate (DER), lower-case hex: what join tokens pin. */
  readonly caDigest: string
  readonly caCertificatePem: string
  readonly caCertificate: Buffer
  /** Public keys that orders may be signed with. */
  readonly signingKeys: readonly SigningKey[]
  readonly signer: OrderSigner
  /** The certificate (DER) for the key of a request; `registration`: absent for a node that joins, then it is the digest of this key. @throws JOIN_BAD_REQUEST */
  issueNodeCertificate(node: NodeId, request: Uint8Array, lifeMs: number, registration?: string): Promise<Buffer>
  /** SHA-256 (hex) of the key in a certificate request. @throws JOIN_BAD_REQUEST */
  digestRequestKey(request: Uint8Array): Promise<string>
  /** Key and certificate chain (PEM, the CA included, so that joining nodes can find it) of a gateway. */
  issueGatewayCertificate(): Promise<{ readonly keyPem: string; readonly chainPem: string; readonly renewAt: number }>
  /** Whom the certificate (DER) was given to. @throws AGENT_UNAUTHENTICATED when it is not one of ours for a node, or is not valid now */
  checkNodeCertificate(der: Buffer): NodeIdentity
}

/**
 * The authority of the deployment that the store belongs to; made at the first start.
 * @throws SERVER_MASTER_KEY when its keys were sealed with another master key
 */
export async function openAuthority({ store, sealer, now }: { readonly store: Pick<Store, 'secrets'>; readonly sealer: Sealer; readonly now: () => number }): Promise<Authority> {
  const keys = await readServerKeys(store.secrets, sealer, now())
  const issuer = await openIssuer(keys.ca)
  const ca = new X509Certificate(keys.ca.certificatePem)
  const orderKey = createPrivateKey(keys.orders.keyPem)
  return {
    caDigest: createHash('sha256').update(ca.raw).digest('hex'),
    caCertificatePem: keys.ca.certificatePem,
    caCertificate: ca.raw,
    signingKeys: [{ id: keys.orders.id, publicKey: Buffer.from(createPublicKey(orderKey).export({ format: 'jwk' }).x ?? '', 'base64url') }],
    signer: { keyId: keys.orders.id, sign: (bytes) => sign(null, bytes, orderKey) },
    async issueNodeCertificate(node, request, lifeMs, registration) {
      const { publicKey, spki } = await checkCertificateRequest(request)
      const value = `${registrationPrefix}${registration ?? digestKey(spki)}`
      return issuer.issue({ name: node, use: 'client', alternativeNames: [{ type: 'url', value }], publicKey, now: now(), lifeMs })
    },
    digestRequestKey: async (request) => digestKey((await checkCertificateRequest(request)).spki),
    async issueGatewayCertificate() {
      const { publicKey, keyPem } = await makeServerKey()
      const der = await issuer.issue({ name: gatewayName, use: 'server', alternativeNames: [{ type: 'dns', value: gatewayName }], publicKey, now: now(), lifeMs: gatewayLifeMs })
      return { keyPem, chainPem: `${certificatePem(der)}\n${keys.ca.certificatePem}\n`, renewAt: now() + (gatewayLifeMs * 2) / 3 }
    },
    checkNodeCertificate: (der) => checkNodeCertificate(der, ca, now()),
  }
}

const digestKey = (spki: Buffer): string => createHash('sha256').update(spki).digest('hex')

function checkNodeCertificate(der: Buffer, ca: X509Certificate, now: number): NodeIdentity {
  const refuse = (why: string): LichenError => new LichenError('AGENT_UNAUTHENTICATED', `the certificate shown ${why}`)
  let certificate: X509Certificate
  try {
    certificate = new X509Certificate(der)
  } catch {
    throw refuse('cannot be read')
  }
  if (!certificate.checkIssued(ca) || !certificate.verify(ca.publicKey)) throw refuse('was not issued by the authority of this deployment')
  const expiresAt = Date.parse(certificate.validTo)
  if (now < Date.parse(certificate.validFrom)) throw refuse(`is not valid before ${certificate.validFrom}`)
  if (now >= expiresAt) throw refuse(`expired at ${certificate.validTo}`)
  const name = /^CN=([^\n]+)$/.exec(certificate.subject)?.[1]
  const registration = new RegExp(`^URI:${registrationPrefix}([0-9a-f]{64})$`).exec(certificate.subjectAltName ?? '')?.[1]
  if (certificate.ca || !certificate.keyUsage?.includes(clientAuthentication) || name === undefined || registration === undefined) throw refuse('is not the certificate of a node')
  return { node: nodeId(name), registration, expiresAt }
}
