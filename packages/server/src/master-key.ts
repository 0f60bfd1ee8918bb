import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { LichenError } from '@lichen/core'
import { readSecretFile, writeSecretFileIfAbsent } from './secret-file.js'

const fileName = 'master.key'
const keyBytes = 32

/**
 * The key that everything secret in the store is sealed with, 32 bytes. From `given` (64 hexadecimal digits, of LICHEN_MASTER_KEY) when there
 * is one, else from `master.key` in the data directory, which is made on the first start.
 * @throws SERVER_MASTER_KEY when the text is no such key, or when the file is gone although the store has been used (`isStoreUsed`): a
 * new key would make every stored secret unreadable in silence.
 */
export async function readMasterKey(input: { readonly dataDirectory: string; readonly given: string | undefined; readonly isStoreUsed: boolean }): Promise<Uint8Array> {
  if (input.given !== undefined) return parseMasterKey(input.given, 'LICHEN_MASTER_KEY')
  const path = join(input.dataDirectory, fileName)
  const found = await readSecretFile(path)
  if (found !== undefined) return parseMasterKey(found, path)
  if (input.isStoreUsed) throw new LichenError('SERVER_MASTER_KEY', `${path} is missing, but the store holds values that were sealed with a master key; put the file back, or set LICHEN_MASTER_KEY to the key of the first server`)
  return parseMasterKey(await writeSecretFileIfAbsent(path, randomBytes(keyBytes).toString('hex')), path)
}

function parseMasterKey(text: string, from: string): Uint8Array {
  if (/^[0-9a-f]{64}$/i.test(text)) return Uint8Array.from(Buffer.from(text, 'hex'))
  throw new LichenError('SERVER_MASTER_KEY', `${from} must hold 64 hexadecimal digits (32 bytes); found ${text.length} characters`)
}
