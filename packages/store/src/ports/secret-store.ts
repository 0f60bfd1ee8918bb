/** Port: sealed values (secrets of deployments, secret outputs, keys of the server), API tokens, and the audit trail. The store sees ciphertext only. */
export interface SealedSecret {
  readonly scope: string
  readonly name: string
  /** AES-256-GCM: nonce, ciphertext and tag, as the sealer made them. */
  readonly sealed: Uint8Array
}

export interface SecretStore {
  /** Inserts what is not there; what is there stays. Gives back all of the scope afterwards. */
  putSecretsIfAbsent(secrets: readonly SealedSecret[]): Promise<void>
  putSecret(secret: SealedSecret): Promise<void>
  readSecrets(scope: string): Promise<readonly SealedSecret[]>
  putApiToken(token: { readonly id: string; readonly digest: string; readonly name: string; readonly createdAt: number; readonly expiresAt: number | null }): Promise<void>
  findApiToken(digest: string): Promise<{ readonly id: string; readonly name: string; readonly expiresAt: number | null } | undefined>
  appendAudit(entry: { readonly at: number; readonly by: string; readonly what: string; readonly target: string; readonly detail: string }): Promise<void>
}
