/** The port of sealed values, API tokens and the audit trail. */
import type { SealedSecret, SecretStore } from '../ports/secret-store.js'
import type { Connection } from './connection.js'
import { buildSingleWrite } from './single-write.js'
import type { WriteKind, Writer } from './writer.js'

type ApiToken = Parameters<SecretStore['putApiToken']>[0]
type AuditEntry = Parameters<SecretStore['appendAudit']>[0]

const putSecretsIfAbsent = buildSingleWrite('keeping secrets', async (connection: Connection, secrets: readonly SealedSecret[]) => {
  for (const { scope, name, sealed } of secrets) await connection.run('INSERT INTO secrets (scope, name, sealed) VALUES (?, ?, ?) ON CONFLICT DO NOTHING', scope, name, sealed)
})

const putSecret = buildSingleWrite('keeping a secret', async (connection: Connection, { scope, name, sealed }: SealedSecret) => {
  await connection.run('INSERT INTO secrets (scope, name, sealed) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET sealed = excluded.sealed', scope, name, sealed)
})

const putApiToken = buildSingleWrite('keeping an API token', async (connection: Connection, token: ApiToken) => {
  await connection.run(
    `INSERT INTO api_tokens (id, digest, name, created_at, expires_at) VALUES (?, ?, ?, ?, ?)
     ON CONFLICT (id) DO UPDATE SET digest = excluded.digest, name = excluded.name, created_at = excluded.created_at, expires_at = excluded.expires_at`,
    token.id, token.digest, token.name, token.createdAt, token.expiresAt,
  )
})

const appendAudit: WriteKind<AuditEntry, void> = {
  name: 'writing the audit trail',
  async apply(connection, entries) {
    await connection.run(
      'INSERT INTO audit (at, by, what, target, detail) SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4 FROM json_each(?)',
      JSON.stringify(entries.map((entry) => [entry.at, entry.by, entry.what, entry.target, entry.detail])),
    )
    return entries.map(() => undefined)
  },
}

/** Sealed values, API tokens and audit over these connections. */
export function openSecrets(reader: Connection, writer: Writer): SecretStore {
  return {
    async putSecretsIfAbsent(secrets) {
      if (secrets.length > 0) await writer.submit(putSecretsIfAbsent, secrets)
    },
    putSecret: (secret) => writer.submit(putSecret, secret),
    readSecrets: (scope) => reader.all<SealedSecret>('SELECT scope, name, sealed FROM secrets WHERE scope = ? ORDER BY name', scope),
    putApiToken: (token) => writer.submit(putApiToken, token),
    async findApiToken(digest) {
      const [row] = await reader.all<{ id: string; name: string; expiresAt: number | null }>('SELECT id, name, expires_at AS expiresAt FROM api_tokens WHERE digest = ?', digest)
      return row
    },
    appendAudit: (entry) => writer.submit(appendAudit, entry),
  }
}
