/** The port of sealed values, API tokens and the audit trail. */
import type { SealedSecret, SecretStore } from '../ports/secret-store.js'
import type { Reader } from './reader.js'
import { buildSingleWrite } from './single-write.js'
import type { WriteKind, Writer } from './writer.js'

type ApiToken = Parameters<SecretStore['putApiToken']>[0]
type AuditEntry = Parameters<SecretStore['appendAudit']>[0]

const putSecretsIfAbsent: WriteKind<readonly SealedSecret[], void> = {
  name: 'keeping secrets',
  isAtomic: true,
  weigh: (secrets) => secrets.reduce((sum, secret) => sum + 128 + secret.sealed.byteLength, 0),
  async apply(session, jobs) {
    const secrets = jobs.flat()
    await session.run(
      `INSERT INTO secrets (scope, name, sealed) SELECT * FROM unnest($1::text[], $2::text[], $3::bytea[]) AS given (scope, name, sealed)
       ORDER BY scope COLLATE "C", name COLLATE "C" ON CONFLICT DO NOTHING`,
      secrets.map(({ scope }) => scope), secrets.map(({ name }) => name), secrets.map(({ sealed }) => sealed),
    )
    return jobs.map(() => undefined)
  },
}

const putSecret = buildSingleWrite('keeping a secret', async (session, { scope, name, sealed }: SealedSecret) => {
  await session.run('INSERT INTO secrets (scope, name, sealed) VALUES ($1, $2, $3) ON CONFLICT (scope, name) DO UPDATE SET sealed = excluded.sealed', scope, name, sealed)
}, ({ scope, name }) => `${scope} ${name}`)

const putApiToken = buildSingleWrite('keeping an API token', async (session, token: ApiToken) => {
  await session.run(
    `INSERT INTO api_tokens (id, digest, name, created_at, expires_at) VALUES ($1, $2, $3, $4, $5)
     ON CONFLICT (id) DO UPDATE SET digest = excluded.digest, name = excluded.name, created_at = excluded.created_at, expires_at = excluded.expires_at`,
    token.id, token.digest, token.name, token.createdAt, token.expiresAt,
  )
}, ({ id }) => id)

const appendAudit = buildSingleWrite('writing the audit trail', async (session, entry: AuditEntry) => {
  await session.run('INSERT INTO audit (at, by, what, target, detail) VALUES ($1, $2, $3, $4, $5)', entry.at, entry.by, entry.what, entry.target, entry.detail)
}, () => '')

/** Sealed values, API tokens and audit over these sessions. */
export function openSecrets(reader: Reader, writer: Writer): SecretStore {
  return {
    async putSecretsIfAbsent(secrets) {
      if (secrets.length > 0) await writer.submit(putSecretsIfAbsent, secrets)
    },
    putSecret: (secret) => writer.submit(putSecret, secret),
    readSecrets: (scope) => reader.all<SealedSecret>('SELECT scope, name, sealed FROM secrets WHERE scope = $1 ORDER BY name', scope),
    putApiToken: (token) => writer.submit(putApiToken, token),
    async findApiToken(digest) {
      const [row] = await reader.all<{ id: string; name: string; expiresAt: number | null }>('SELECT id, name, expires_at AS "expiresAt" FROM api_tokens WHERE digest = $1', digest)
      return row
    },
    appendAudit: (entry) => writer.submit(appendAudit, entry),
  }
}
