/** What an agent is started with, and what is given back. */
import type { Clock } from '@lichen/core'
import type { OnWrite } from './durable-write.js'
import type { KeyAndRequest } from './identity/certificate-request.js'
import type { Log } from './log.js'
import type { LogLimits } from './output/attempt-log.js'

/** The version that the agent tells the engine. */
export const agentVersion = '0.1.0'

/** What an agent needs to know. Times in milliseconds. */
export interface AgentOptions {
  /** `host:port` of the deployment's gateways; one is enough to find the others. */
  readonly gateway: string | readonly string[]
  /** Join token; needed until the node has joined. */
  readonly token?: string | undefined
  /** A file that holds the join token; removed when the node has joined. */
  readonly tokenFile?: string | undefined
  /** Name the node would like: a DNS label. */
  readonly name: string
  readonly labels?: Readonly<Record<string, string>> | undefined
  /** Identity, journal and spool stand here; made with mode 0700 when missing. One agent for one directory. */
  readonly dataDirectory: string
  /** Where what programs print stands until it is masked and spooled. Must be the same at each start. Default: `runs` in the data directory; a file system in memory is better. */
  readonly runDirectory?: string | undefined
  /** Confines the agent's effects to this directory: a local demo agent, no root needed. */
  readonly confine?: string | undefined
  /** The address others reach the node at, where it is not the source address of the way to the gateway. */
  readonly address?: string | undefined
  readonly clock: Clock
  readonly log: Log
  /** Attempts that run at the same time. Default 4: apt and databases share one disk. */
  readonly concurrency?: number | undefined
  readonly logLimits?: LogLimits | undefined
  /** Bytes of log that all attempts together may have waiting for the engine. Default: 1 GiB, or a tenth of the data directory's file system where that is less. */
  readonly spoolLimitBytes?: number | undefined
  /** PATH for commands; a usual one by default. */
  readonly path?: string | undefined
  /** How keys and certificate requests are made. Default: in this process, which then holds the X.509 library in memory. */
  readonly makeKeyAndRequest?: ((name: string) => Promise<KeyAndRequest>) | undefined
  /** For tests: the boot of the node, when it is not this machine's. */
  readonly bootId?: string | undefined
  /** For tests: called right before and after each durable write (durable-write.ts). */
  readonly onWrite?: OnWrite | undefined
  /** Gives up joining. */
  readonly signal?: AbortSignal | undefined
  /** Called when the journal can no longer be made durable: the program should end, and be started again. */
  readonly onFatal?: ((error: unknown) => void) | undefined
}

/** The configured gateways, as a list. */
export const gatewaysOf = ({ gateway }: Pick<AgentOptions, 'gateway'>): readonly string[] => (typeof gateway === 'string' ? [gateway] : gateway)

/** A running agent. */
export interface Agent {
  readonly nodeId: string
  /** `connected`: the stream is open and welcomed. */
  readonly state: 'connecting' | 'connected' | 'stopped'
  /** Why the last stream ended, in words; empty when none did. */
  readonly lastError: string
  /** Attempts that run or wait. */
  readonly attempts: number
  /** Closes everything. Commands that run go on, and are taken up at the next start. */
  stop(): Promise<void>
}
