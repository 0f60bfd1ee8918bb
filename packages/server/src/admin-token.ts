import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { bootstrapAdminToken } from '@lichen/api'
import type { Store } from '@lichen/store'
import { readSecretFile, writeSecretFileIfAbsent } from './secret-file.js'

/** Where the administrator's token of a data directory stands. */
export const adminTokenPath = (dataDirectory: string): string => join(dataDirectory, 'admin.token')

/**
 * The administrator's bearer token. Made on the first start and kept in `admin.token` (mode 0600) for the CLI; the store has its digest
 * only. Removing the file makes another token at the next start; the old one stays valid. Asking again changes nothing.
 */
export async function openAdminToken(dataDirectory: string, store: Pick<Store, 'secrets'>, now: () => number): Promise<string> {
  const path = adminTokenPath(dataDirectory)
  const token = (await readSecretFile(path)) || (await writeSecretFileIfAbsent(path, `lichen_${randomBytes(32).toString('base64url')}`))
  return bootstrapAdminToken(store, { now, token })
}
