/** Sealing of values for the store: AES-256-GCM with a random nonce. A sealed value is `1, nonce (12), ciphertext, tag (16)`; the first byte is the version of the form. */
import { createCipheriv, createDecipheriv, createSecretKey, randomBytes } from 'node:crypto'
import { LichenError } from '@lichen/core'
import type { SealedSecret } from '@lichen/store'

export interface Sealer {
  /** The sealed value. `context` (e.g. scope and name) must be given again to open it, so that sealed values cannot change places. */
  seal(bytes: Uint8Array, context?: string): Uint8Array
  /** The value. @throws SERVER_MASTER_KEY when it was sealed with another key or context, or was damaged */
  open(sealed: Uint8Array, context?: string): Buffer
}

const version = 1
const nonceBytes = 12
const tagBytes = 16

/**
 * A sealer with this master key of 32 bytes. Random nonces of 96 bits allow 2^32 values for one key (NIST SP 800-38D, 8.3), far above what a
 * deployment keeps.
 * @throws SERVER_MASTER_KEY when the key has another length
 */
export function openSealer(masterKey: Uint8Array): Sealer {
  if (masterKey.byteLength !== 32) throw new LichenError('SERVER_MASTER_KEY', `the master key must have 32 bytes; it has ${masterKey.byteLength}`)
  const key = createSecretKey(masterKey)
  return {
    seal(bytes, context = '') {
      const nonce = randomBytes(nonceBytes)
      const cipher = createCipheriv('aes-256-gcm', key, nonce).setAAD(Buffer.from(context))
      return Buffer.concat([Buffer.of(version), nonce, cipher.update(bytes), cipher.final(), cipher.getAuthTag()])
    },
    open(sealed, context = '') {
      const bytes = Buffer.from(sealed.buffer, sealed.byteOffset, sealed.byteLength)
      if (bytes.byteLength < 1 + nonceBytes + tagBytes || bytes[0] !== version) throw new LichenError('SERVER_MASTER_KEY', 'a sealed value of the store is damaged, or was sealed by a newer Lichen')
      const decipher = createDecipheriv('aes-256-gcm', key, bytes.subarray(1, 1 + nonceBytes), { authTagLength: tagBytes })
        .setAAD(Buffer.from(context))
        .setAuthTag(bytes.subarray(-tagBytes))
      try {
        return Buffer.concat([decipher.update(bytes.subarray(1 + nonceBytes, -tagBytes)), decipher.final()])
      } catch (cause) {
        throw new LichenError('SERVER_MASTER_KEY', 'a sealed value of the store does not open: this is not the master key it was sealed with, or it was changed', { cause })
      }
    },
  }
}

/** The text of a value of the secret store. @throws SERVER_MASTER_KEY as `open` does */
export const openSecret = (sealer: Sealer, { scope, name, sealed }: SealedSecret): string => sealer.open(sealed, sealContext(scope, name)).toString('utf8')

/** The context that values of the secret store are sealed with. */
export const sealContext = (scope: string, name: string): string => `${scope}\n${name}`
