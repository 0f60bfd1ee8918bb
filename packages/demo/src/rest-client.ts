/** What the demo and the end-to-end tests ask of the public API. */
import { setTimeout as sleep } from 'node:timers/promises'
import { DemoFailure } from './failure.js'

export interface ServerAddress {
  readonly apiUrl: string
  readonly adminToken: string
}

/** A node as the API shows it, as far as needed here. */
export interface ApiNode {
  readonly id: string
  readonly state: 'ready' | 'lost'
  readonly labels: Readonly<Record<string, string>>
  readonly facts: { readonly bootId: string; readonly address: string }
}

/** The JSON of an answer. @throws DemoFailure when the answer is not one of success; whatever `fetch` throws when there is none. */
export async function callApi<T>(server: ServerAddress, method: 'GET' | 'POST' | 'PATCH' | 'DELETE', path: string, body?: unknown): Promise<T> {
  const response = await fetch(`${server.apiUrl}${path}`, {
    method,
    headers: { authorization: `Bearer ${server.adminToken}`, accept: 'application/json', ...(body === undefined ? {} : { 'content-type': 'application/json' }) },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  })
  const text = await response.text()
  if (!response.ok) throw new DemoFailure(`${method} ${path}: ${response.status}`, text)
  return (text === '' ? undefined : JSON.parse(text)) as T
}

/** A join token for `uses` nodes, good for a quarter of an hour: enough for the slowest boot, useless to whoever finds it on a node later. */
export async function createJoinToken(server: ServerAddress, uses: number): Promise<string> {
  const { token } = await callApi<{ readonly token: string }>(server, 'POST', '/v1/join-tokens', { ttlS: 900, uses })
  return token
}

/** All nodes that the server knows. */
export async function readNodes(server: ServerAddress): Promise<readonly ApiNode[]> {
  return (await callApi<{ readonly items: readonly ApiNode[] }>(server, 'GET', '/v1/nodes')).items
}

/** Resolves when these nodes are ready. @throws DemoFailure after `timeoutMs`, with what was seen. */
export async function waitForNodes(server: ServerAddress, names: readonly string[], timeoutMs: number, signal?: AbortSignal): Promise<void> {
  const until = Date.now() + timeoutMs
  for (;;) {
    const nodes = await readNodes(server)
    const missing = names.filter((name) => nodes.find((node) => node.id === name)?.state !== 'ready')
    if (missing.length === 0) return
    if (Date.now() > until) throw new DemoFailure(`${missing.join(', ')} not ready within ${timeoutMs / 1000} s; the server knows ${nodes.map((node) => `${node.id} (${node.state})`).join(', ') || 'no node'}`)
    await sleep(100, undefined, signal ? { signal } : {})
  }
}
