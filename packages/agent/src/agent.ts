/** Starts an agent on this machine: locks its directory, joins if that is still to be done, and hands the machine's own clock, disk, programs and network to it. */
import { randomUUID } from 'node:crypto'
import { statfsSync } from 'node:fs'
import { join } from 'node:path'
import { LichenError } from '@lichen/core'
import { type Agent, type AgentOptions, gatewaysOf } from './agent-options.js'
import { isNoSpace } from './disk/disk.js'
import { nodeDisk } from './disk/node-disk.js'
import { findAddress } from './facts/address.js'
import { readFacts } from './facts/facts.js'
import { lockDataDirectory } from './identity/data-lock.js'
import { joinPatiently, makeHere } from './identity/joining.js'
import { parseAddress } from './identity/pinned-ca.js'
import { openGrpcTransport } from './link/grpc-transport.js'
import { readSigningKeys } from './orders/verified.js'
import { openNodePrograms } from './programs/node-programs.js'
import { readBootId } from './programs/process-group.js'
import { defaultSpoolLimitBytes, startAgentWith } from './running-agent.js'

/**
 * A started agent that has joined. While no gateway can be reached, joining is tried again with a backoff, until `signal` says no more.
 * @throws JOIN_TOKEN_INVALID, JOIN_TOKEN_EXPIRED, JOIN_CA_MISMATCH, JOIN_NAME_TAKEN, JOIN_BAD_REQUEST when joining is refused.
 * @throws AGENT_DATA_IN_USE when another agent runs on the data directory.
 * @throws AGENT_DISK_FULL when there is no room for files that are not there yet. A full disk on which an agent ran before does not matter.
 */
export async function startAgent(options: AgentOptions): Promise<Agent> {
  const gateways = gatewaysOf(options)
  for (const gateway of gateways) parseAddress(gateway)
  try {
    return await startLocked(options, gateways)
  } catch (error) {
    if (!isNoSpace(error)) throw error
    const { path = options.dataDirectory } = error as NodeJS.ErrnoException
    throw new LichenError('AGENT_DISK_FULL', `no room at ${path} (data directory ${options.dataDirectory}, commands in ${runDirectoryOf(options)}): ${(error as Error).message}`, { cause: error })
  }
}

const runDirectoryOf = ({ runDirectory, dataDirectory }: AgentOptions): string => runDirectory ?? join(dataDirectory, 'runs')

async function startLocked(options: AgentOptions, gateways: readonly string[]): Promise<Agent> {
  nodeDisk.makeDirectory(options.dataDirectory)
  const unlock = lockDataDirectory(options.dataDirectory)
  try {
    const { clock, confine, bootId = readBootId() } = options
    const identity = await joinPatiently(options)
    const address = options.address ?? (await findAddress(parseAddress(gateways[0]!).host))
    return await startAgentWith({
      ...options,
      random: Math.random,
      disk: nodeDisk,
      programs: openNodePrograms({ directory: runDirectoryOf(options), clock, bootId, onWrite: options.onWrite }),
      transport: openGrpcTransport(clock, options.makeKeyAndRequest ?? makeHere),
      identity,
      readKeys: readSigningKeys,
      readFacts: () => ({ ...readFacts(address), bootId, ...(confine === undefined ? {} : { confinedTo: confine }) }),
      bootId,
      instance: randomUUID(),
      gateways,
      spoolLimitBytes: options.spoolLimitBytes ?? defaultSpoolLimit(options.dataDirectory),
      onStopped: unlock,
    })
  } catch (error) {
    unlock()
    throw error
  }
}

/** A small disk is not for logs. */
function defaultSpoolLimit(dataDirectory: string): number {
  const { blocks, bsize } = statfsSync(dataDirectory)
  return Math.min(defaultSpoolLimitBytes, Math.floor((blocks * bsize) / 10))
}
