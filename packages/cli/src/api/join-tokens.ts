import type { Client } from './client.js'

/** What is known of a join token. Times are ms since the epoch. */
export interface JoinToken {
  readonly id: string
  readonly labels: Readonly<Record<string, string>>
  /** Null: any number. */
  readonly usesLeft: number | null
  readonly expiresAt: number
  readonly createdAt: number
  readonly createdBy: string
}

export interface NewJoinToken extends JoinToken {
  /** The whole token; shown this once. */
  readonly token: string
  /** `host:port` of the agents' gateway. */
  readonly gateway: string
  /** Content for /etc/lichen/agent.yaml. */
  readonly agentConfig: string
  /** User data for a machine whose image has the agent. */
  readonly cloudInit: string
}

/** A new join token. `uses`: how many nodes may join with it, null for any number. `labels` are given to each of them. */
export function createJoinToken(client: Client, request: { readonly ttlS: number; readonly uses: number | null; readonly labels: Readonly<Record<string, string>> }): Promise<NewJoinToken> {
  return client.call<NewJoinToken>('POST', '/v1/join-tokens', { body: request })
}
