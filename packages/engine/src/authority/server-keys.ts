/** The keys of the deployment, made once and kept sealed in the store: the certificate authority, and the key that orders are signed with. */
import { randomBytes } from 'node:crypto'
import { LichenError } from '@lichen/core'
import type { SealedSecret, SecretStore } from '@lichen/store'
import { type Sealer, sealContext } from '../sealer.js'
import { makeCertificateAuthority, makeSigningKey } from './certificates.js'

/** Certificate and keys as PEM (PKCS#8). */
export interface ServerKeys {
  readonly ca: { readonly certificatePem: string; readonly keyPem: string }
  readonly orders: { readonly id: string; readonly keyPem: string }
}

const scope = 'server'

/**
 * The keys of this deployment; made when the store has none. Engines that start at once agree, because what is there first stays.
 * @throws SERVER_MASTER_KEY when they were sealed with another master key
 */
export async function readServerKeys(secrets: SecretStore, sealer: Sealer, now: number): Promise<ServerKeys> {
  const found = await readKeys(secrets, sealer)
  if (found) return found
  const made: ServerKeys = { ca: await makeCertificateAuthority(now), orders: { id: `k-${randomBytes(6).toString('hex')}`, keyPem: makeSigningKey() } }
  await secrets.putSecretsIfAbsent(Object.entries(made).map(([name, value]) => ({ scope, name, sealed: sealer.seal(Buffer.from(JSON.stringify(value)), sealContext(scope, name)) })))
  const agreed = await readKeys(secrets, sealer)
  if (!agreed) throw new LichenError('INTERNAL', 'the keys of the server were stored and cannot be read back')
  return agreed
}

async function readKeys(secrets: SecretStore, sealer: Sealer): Promise<ServerKeys | undefined> {
  const rows = new Map((await secrets.readSecrets(scope)).map((row) => [row.name, row]))
  const ca = rows.get('ca')
  const orders = rows.get('orders')
  return ca && orders ? { ca: openKey(sealer, ca) as ServerKeys['ca'], orders: openKey(sealer, orders) as ServerKeys['orders'] } : undefined
}

const openKey = (sealer: Sealer, { name, sealed }: SealedSecret): unknown => JSON.parse(sealer.open(sealed, sealContext(scope, name)).toString('utf8'))
