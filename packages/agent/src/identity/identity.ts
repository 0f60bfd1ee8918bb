/**
 * Who this node is: its id, key, certificate, the deployment's CA and the keys that orders may be signed with. Owns `identity.json` in the data
 * directory (mode 0600), replaced as a whole, so that key and certificate always belong together.
 */
import { join } from 'node:path'
import { X509Certificate } from 'node:crypto'
import type { SigningKey } from '@lichen/protocol'
import { type Disk, readWhole, replaceDurably } from '../disk/disk.js'
import type { OnWrite } from '../durable-write.js'
import type { KeyAndRequest } from './certificate-request.js'

/** Certificates and key as PEM; public signing keys as base64 of their 32 raw bytes. */
export interface Identity {
  readonly nodeId: string
  readonly keyPem: string
  readonly certificatePem: string
  readonly caCertificatePem: string
  readonly signingKeys: readonly { readonly id: string; readonly publicKey: string }[]
  /** host:port of the gateways that the engine last named; absent in files of agents that knew only one. */
  readonly gateways?: readonly string[]
}

const path = (dataDirectory: string): string => join(dataDirectory, 'identity.json')

/** The stored identity; undefined when the node has not joined yet. */
export function readIdentity(disk: Disk, dataDirectory: string): Identity | undefined {
  const file = path(dataDirectory)
  return disk.exists(file) ? (JSON.parse(readWhole(disk, file).toString('utf8')) as Identity) : undefined
}

/** Stores the identity durably. */
export function writeIdentity(disk: Disk, dataDirectory: string, identity: Identity, onWrite?: OnWrite): void {
  onWrite?.('identity.write:before')
  replaceDurably(disk, path(dataDirectory), encode(identity))
  onWrite?.('identity.write:after')
  disk.remove(joiningPath(dataDirectory))
}

/**
 * The key and request that a node joins with: made once and kept until it has joined. A gateway that admitted the node and whose answer was lost
 * sees the same key again and answers again; with another key the name would be taken.
 */
export async function readOrMakeJoiningKey(disk: Disk, dataDirectory: string, make: () => Promise<KeyAndRequest>): Promise<KeyAndRequest> {
  const file = joiningPath(dataDirectory)
  if (disk.exists(file)) {
    const { keyPem, request } = JSON.parse(readWhole(disk, file).toString('utf8')) as { keyPem: string; request: string }
    return { keyPem, request: Buffer.from(request, 'base64') }
  }
  const made = await make()
  replaceDurably(disk, file, encode({ keyPem: made.keyPem, request: made.request.toString('base64') }))
  return made
}

const joiningPath = (dataDirectory: string): string => join(dataDirectory, 'joining.json')

const encode = (content: object): Buffer => Buffer.from(`${JSON.stringify(content, undefined, 2)}\n`, 'utf8')

/** The keys as they are stored. */
export const encodeSigningKeys = (keys: readonly SigningKey[]): Identity['signingKeys'] => keys.map(({ id, publicKey }) => ({ id, publicKey: publicKey.toString('base64') }))

/** PEM of a certificate in DER. */
export const certificatePem = (der: Buffer): string => `-----BEGIN CERTIFICATE-----\n${(der.toString('base64').match(/.{1,64}/g) ?? []).join('\n')}\n-----END CERTIFICATE-----\n`

/** When the certificate ends, milliseconds since the epoch. */
export const expiryTime = (certificate: string): number => Date.parse(new X509Certificate(certificate).validTo)

/** When the certificate should be renewed: after two thirds of its life, which leaves a third for a gateway that is away. Milliseconds since the epoch. */
export function renewalTime(certificate: string): number {
  const { validFrom, validTo } = new X509Certificate(certificate)
  const from = Date.parse(validFrom)
  return from + ((Date.parse(validTo) - from) * 2) / 3
}
