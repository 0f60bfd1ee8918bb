/**
 * A new key and the certificate request for it. Imported only when one is made: the X.509 library takes more memory than an idle agent should hold.
 */
import { KeyObject, webcrypto } from 'node:crypto'
// The X.509 library needs this polyfill to be there before it.
import 'reflect-metadata'
import * as x509 from '@peculiar/x509'

/** The library's name for what node calls webcrypto. */
type X509Crypto = Extract<Parameters<typeof x509.cryptoProvider.set>[0], object>

/** A P-256 private key (PKCS#8 PEM) and a PKCS#10 request signed by it (DER). */
export interface KeyAndRequest {
  readonly keyPem: string
  readonly request: Buffer
}

/** A fresh key with its request. The subject is only a hint: the gateway names the node. */
export async function makeKeyAndRequest(name: string): Promise<KeyAndRequest> {
  x509.cryptoProvider.set(webcrypto as unknown as X509Crypto)
  const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' }
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify'])
  const request = await x509.Pkcs10CertificateRequestGenerator.create({ name: [{ CN: [name] }], keys, signingAlgorithm: algorithm })
  const keyPem = KeyObject.from(keys.privateKey).export({ type: 'pkcs8', format: 'pem' }).toString()
  return { keyPem, request: Buffer.from(request.rawData) }
}
