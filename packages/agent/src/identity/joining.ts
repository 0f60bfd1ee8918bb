/** Seeing to it that the node has an identity: with patience towards a gateway that is not there, and none towards a refusal. */
import { mkdirSync, readFileSync, rmSync } from 'node:fs'
import { LichenError } from '@lichen/core'
import { type AgentOptions, agentVersion } from '../agent-options.js'
import { Backoff } from '../link/backoff.js'
import type { KeyAndRequest } from './certificate-request.js'
import { type Identity, readIdentity, readOrMakeJoiningKey, writeIdentity } from './identity.js'
import { join } from './join.js'

/** Joins if that is still to be done, and gives back the node's id. Throws as `startAgent` does, and AGENT_UNREACHABLE at once instead of trying again. */
export async function joinOnce(options: AgentOptions): Promise<string> {
  mkdirSync(options.dataDirectory, { recursive: true, mode: 0o700 })
  return (readIdentity(options.dataDirectory) ?? (await joinAndStore(options))).nodeId
}

/** The node's identity; joins for it when there is none, again and again while the gateway cannot be reached. Throws as `join` does when it is refused, or when `signal` ended it. */
export async function joinPatiently(options: AgentOptions): Promise<Identity> {
  const present = readIdentity(options.dataDirectory)
  if (present) return present
  const backoff = new Backoff({ firstMs: 500, maxMs: 30_000, goodAfterMs: Infinity, random: Math.random })
  for (;;) {
    try {
      return await joinAndStore(options)
    } catch (error) {
      if (!(error instanceof LichenError) || error.entry.kind !== 'unavailable' || options.signal?.aborted) throw error
      const waitMs = backoff.next(0)
      options.log.warn({ gateway: options.gateway, error: error.message, waitMs: Math.round(waitMs) }, 'joining did not work; trying again')
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, waitMs)
        options.signal?.addEventListener('abort', () => (clearTimeout(timer), resolve()), { once: true })
      })
    }
  }
}

async function joinAndStore(options: AgentOptions): Promise<Identity> {
  const token = options.token ?? (options.tokenFile === undefined ? undefined : readFileSync(options.tokenFile, 'utf8'))
  if (token === undefined) throw new LichenError('JOIN_TOKEN_INVALID', 'the node has not joined yet, and neither token nor tokenFile is configured')
  const { gateway, name, labels = {} } = options
  const make = (): Promise<KeyAndRequest> => readOrMakeJoiningKey(options.dataDirectory, () => (options.makeKeyAndRequest ?? makeHere)(name))
  const identity = await join({ gateway, token, name, labels, agentVersion, makeKeyAndRequest: make })
  writeIdentity(options.dataDirectory, identity)
  if (options.tokenFile !== undefined) rmSync(options.tokenFile, { force: true })
  options.log.info({ nodeId: identity.nodeId, gateway }, 'the node has joined')
  return identity
}

/** Makes key and request in this process, which then holds the X.509 library in memory. */
export const makeHere = async (name: string): Promise<KeyAndRequest> => (await import('./certificate-request.js')).makeKeyAndRequest(name)
