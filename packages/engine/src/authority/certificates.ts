/** Making X.509 certificates (RFC 5280) with keys on the curve P-256. The only file that knows the X.509 library. */
import 'reflect-metadata'
import { createPrivateKey, generateKeyPairSync, KeyObject, randomBytes, webcrypto } from 'node:crypto'
import * as x509 from '@peculiar/x509'
import { LichenError } from '@lichen/core'

const keyAlgorithm = { name: 'ECDSA', namedCurve: 'P-256' }
const signingAlgorithm = { name: 'ECDSA', hash: 'SHA-256' }
const crypto = webcrypto

// Certificates begin a little in the past: clocks of nodes differ, and a node that is some minutes behind must be able to join.
const backdateMs = 5 * 60_000
const caLifeMs = 10 * 365 * 86_400_000

/** A positive serial number of 16 random bytes, hex (RFC 5280, 4.1.2.2 allows 20 bytes and asks for uniqueness). */
const makeSerialNumber = (): string => `01${randomBytes(15).toString('hex')}`

const pemOf = (key: webcrypto.CryptoKey): string => KeyObject.from(key).export({ type: 'pkcs8', format: 'pem' }).toString()

/** An Ed25519 key for signing orders, PKCS#8 PEM. */
export const makeSigningKey = (): string => generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()

/** A self-signed authority that may issue end certificates only, valid for ten years from `now`. */
export async function makeCertificateAuthority(now: number): Promise<{ readonly certificatePem: string; readonly keyPem: string }> {
  const keys = await webcrypto.subtle.generateKey(keyAlgorithm, true, ['sign', 'verify'])
  const certificate = await x509.X509CertificateGenerator.createSelfSigned(
    {
      serialNumber: makeSerialNumber(),
      name: [{ CN: ['Lichen deployment'] }],
      notBefore: new Date(now - backdateMs),
      notAfter: new Date(now + caLifeMs),
      signingAlgorithm,
      keys: keys,
      extensions: [
        new x509.BasicConstraintsExtension(true, 0, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
        await x509.SubjectKeyIdentifierExtension.create(keys.publicKey, false, crypto),
      ],
    },
    crypto,
  )
  return { certificatePem: certificate.toString('pem'), keyPem: pemOf(keys.privateKey) }
}

/** What an end certificate says. */
export interface CertificateContent {
  /** Common name. */
  readonly name: string
  readonly use: 'client' | 'server'
  readonly alternativeNames: readonly { readonly type: 'dns' | 'url'; readonly value: string }[]
  readonly publicKey: x509.PublicKeyType
  readonly now: number
  readonly lifeMs: number
}

/** Issues end certificates for one authority. */
export interface Issuer {
  /** The certificate, DER. */
  issue(content: CertificateContent): Promise<Buffer>
}

/** An issuer over the authority's certificate and key (PEM). */
export async function openIssuer(ca: { readonly certificatePem: string; readonly keyPem: string }): Promise<Issuer> {
  const authority = new x509.X509Certificate(ca.certificatePem)
  const der = createPrivateKey(ca.keyPem).export({ type: 'pkcs8', format: 'der' })
  const signingKey = await webcrypto.subtle.importKey('pkcs8', der, keyAlgorithm, false, ['sign'])
  const authorityKeyIdentifier = await x509.AuthorityKeyIdentifierExtension.create(authority, false, crypto)
  return {
    async issue({ name, use, alternativeNames, publicKey, now, lifeMs }) {
      const certificate = await x509.X509CertificateGenerator.create(
        {
          serialNumber: makeSerialNumber(),
          subject: [{ CN: [name] }],
          issuer: authority.subject,
          notBefore: new Date(now - backdateMs),
          notAfter: new Date(now + lifeMs),
          signingAlgorithm,
          publicKey,
          signingKey,
          extensions: [
            new x509.BasicConstraintsExtension(false, undefined, true),
            new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
            new x509.ExtendedKeyUsageExtension([use === 'client' ? x509.ExtendedKeyUsage.clientAuth : x509.ExtendedKeyUsage.serverAuth], true),
            new x509.SubjectAlternativeNameExtension(alternativeNames.map((one) => ({ ...one }))),
            authorityKeyIdentifier,
          ],
        },
        crypto,
      )
      return Buffer.from(certificate.rawData)
    },
  }
}

/** A key for a server of our own: what goes into its certificate, and the private part as PEM. */
export async function makeServerKey(): Promise<{ readonly publicKey: x509.PublicKeyType; readonly keyPem: string }> {
  const keys = await webcrypto.subtle.generateKey(keyAlgorithm, true, ['sign', 'verify'])
  return { publicKey: keys.publicKey, keyPem: pemOf(keys.privateKey) }
}

/**
 * The public key of a certificate request (PKCS#10, DER) that is signed by that very key. `spki`: DER of SubjectPublicKeyInfo.
 * @throws JOIN_BAD_REQUEST when it cannot be read, its key is not on P-256, or the signature does not hold
 */
export async function checkCertificateRequest(der: Uint8Array): Promise<{ readonly publicKey: x509.PublicKeyType; readonly spki: Buffer }> {
  let request: x509.Pkcs10CertificateRequest
  let isSigned: boolean
  try {
    request = new x509.Pkcs10CertificateRequest(der)
    isSigned = await request.verify(crypto)
  } catch (cause) {
    throw new LichenError('JOIN_BAD_REQUEST', `the certificate request cannot be read: ${(cause as Error).message}`, { cause })
  }
  const algorithm = request.publicKey.algorithm as { name?: string; namedCurve?: string }
  if (algorithm.name !== 'ECDSA' || algorithm.namedCurve !== 'P-256') throw new LichenError('JOIN_BAD_REQUEST', `the certificate request must have a key on P-256; it has ${algorithm.name} ${algorithm.namedCurve ?? ''}`.trim())
  if (!isSigned) throw new LichenError('JOIN_BAD_REQUEST', 'the certificate request is not signed by its own key')
  return { publicKey: request.publicKey, spki: Buffer.from(request.publicKey.rawData) }
}

/** PEM of a certificate in DER. */
export const certificatePem = (der: Buffer): string => new x509.X509Certificate(der).toString('pem')
