/**
 * Who this node is: its id, key, certificate, the deployment's CA and the keys that orders may be signed with. Owns `identity.json` in the data
 * directory (mode 0600), replaced as a whole, so that key and certificate always belong together.
 */
import { closeSync, existsSync, fsyncSync, openSync, readFileSync, renameSync, rmSync, writeSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { X509Certificate } from 'node:crypto'
import type { SigningKey } from '@lichen/protocol'
import type { KeyAndRequest } from './certificate-request.js'

/** Certificates and key as PEM; public signing keys as base64 of their 32 raw bytes. */
export interface Identity {
  readonly nodeId: string
  readonly keyPem: string
  readonly certificatePem: string
  readonly caCertificatePem: string
  readonly signingKeys: readonly { readonly id: string; readonly publicKey: string }[]
}

const path = (dataDirectory: string): string => join(dataDirectory, 'identity.json')

/** The stored identity; undefined when the node has not joined yet. */
export function readIdentity(dataDirectory: string): Identity | undefined {
  const file = path(dataDirectory)
  return existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as Identity) : undefined
}

/** Stores the identity durably. */
export function writeIdentity(dataDirectory: string, identity: Identity): void {
  writeDurably(path(dataDirectory), identity)
  rmSync(joiningPath(dataDirectory), { force: true })
}

/**
 * The key and request that a node joins with: made once and kept until it has joined. A gateway that admitted the node and whose answer was lost
 * sees the same key again and answers again; with another key the name would be taken.
 */
export async function readOrMakeJoiningKey(dataDirectory: string, make: () => Promise<KeyAndRequest>): Promise<KeyAndRequest> {
  const file = joiningPath(dataDirectory)
  if (existsSync(file)) {
    const { keyPem, request } = JSON.parse(readFileSync(file, 'utf8')) as { keyPem: string; request: string }
    return { keyPem, request: Buffer.from(request, 'base64') }
  }
  const made = await make()
  writeDurably(file, { keyPem: made.keyPem, request: made.request.toString('base64') })
  return made
}

const joiningPath = (dataDirectory: string): string => join(dataDirectory, 'joining.json')

function writeDurably(file: string, content: object): void {
  const fd = openSync(`${file}.new`, 'w', 0o600)
  try {
    writeSync(fd, `${JSON.stringify(content, undefined, 2)}\n`)
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
  renameSync(`${file}.new`, file)
  const directory = openSync(dirname(file), 'r')
  fsyncSync(directory)
  closeSync(directory)
}

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
