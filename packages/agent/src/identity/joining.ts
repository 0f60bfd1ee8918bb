/** Seeing to it that the node has an identity: with patience towards gateways that are not there, and none towards a refusal. */
import { readFileSync, rmSync } from 'node:fs'
import { LichenError, pauseFor } from '@lichen/core'
import { type AgentOptions, agentVersion, gatewaysOf } from '../agent-options.js'
import { nodeDisk } from '../disk/node-disk.js'
import { Backoff } from '../link/backoff.js'
import type { KeyAndRequest } from './certificate-request.js'
import { type Identity, readIdentity, readOrMakeJoiningKey, writeIdentity } from './identity.js'
import { join } from './join.js'

/** Joins if that is still to be done, and gives back the node's id. Throws as `startAgent` does, and AGENT_UNREACHABLE at once instead of trying again. */
export async function joinOnce(options: AgentOptions): Promise<string> {
  nodeDisk.makeDirectory(options.dataDirectory)
  return (readIdentity(nodeDisk, options.dataDirectory) ?? (await joinAny(options))).nodeId
}

/** The node's identity; joins for it when there is none, again and again while no gateway can be reached. Throws as `join` does when it is refused, or when `signal` ended it. */
export async function joinPatiently(options: AgentOptions): Promise<Identity> {
  const present = readIdentity(nodeDisk, options.dataDirectory)
  if (present) return present
  const backoff = new Backoff({ firstMs: 500, maxMs: 30_000, goodAfterMs: Infinity, random: Math.random })
  for (;;) {
    try {
      return await joinAny(options)
    } catch (error) {
      if (!isUnavailable(error) || options.signal?.aborted) throw error
      const waitMs = backoff.next(0)
      options.log.warn({ gateways: gatewaysOf(options), error: error.message, waitMs: Math.round(waitMs) }, 'joining did not work; trying again')
      const { over, end } = pauseFor(options.clock, waitMs)
      options.signal?.addEventListener('abort', end, { once: true })
      await over
      options.signal?.removeEventListener('abort', end)
    }
  }
}

const isUnavailable = (error: unknown): error is LichenError => error instanceof LichenError && error.entry.kind === 'unavailable'

/** Asks one gateway after the other; only what cannot be reached is passed over. */
async function joinAny(options: AgentOptions): Promise<Identity> {
  const gateways = gatewaysOf(options)
  for (const [index, gateway] of gateways.entries()) {
    try {
      return await joinAndStore(options, gateway)
    } catch (error) {
      if (!isUnavailable(error) || index === gateways.length - 1 || options.signal?.aborted) throw error
    }
  }
  throw new LichenError('REQUEST_SHAPE', 'gateway: there is none')
}

async function joinAndStore(options: AgentOptions, gateway: string): Promise<Identity> {
  const token = options.token ?? (options.tokenFile === undefined ? undefined : readFileSync(options.tokenFile, 'utf8'))
  if (token === undefined) throw new LichenError('JOIN_TOKEN_INVALID', 'the node has not joined yet, and neither token nor tokenFile is configured')
  const { name, labels = {}, clock, dataDirectory } = options
  const make = (): Promise<KeyAndRequest> => readOrMakeJoiningKey(nodeDisk, dataDirectory, () => (options.makeKeyAndRequest ?? makeHere)(name))
  const identity = await join({ gateway, token, name, labels, agentVersion, makeKeyAndRequest: make, clock })
  writeIdentity(nodeDisk, dataDirectory, identity, options.onWrite)
  if (options.tokenFile !== undefined) rmSync(options.tokenFile, { force: true })
  options.log.info({ nodeId: identity.nodeId, gateway }, 'the node has joined')
  return identity
}

/** Makes key and request in this process, which then holds the X.509 library in memory. */
export const makeHere = async (name: string): Promise<KeyAndRequest> => (await import('./certificate-request.js')).makeKeyAndRequest(name)
