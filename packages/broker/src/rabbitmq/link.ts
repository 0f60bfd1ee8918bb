/**
 * A connection to RabbitMQ that comes back. Owns one socket at a time and the loop that makes the next one; what lives on the connection
 * (channels, consumers) is built by `setUp`, anew each time.
 * Invariants: (1) at most one connection exists; (2) `setUp` runs to its end on a connection before anybody else sees it; (3) any trouble on it, also
 * of one channel, is answered by a new connection, so there is one way to recover and it is used often; (4) the pause between attempts starts
 * small again only after a connection has lasted; (5) after `stop` no socket and no timer is left.
 */
import { connect, type ChannelModel } from 'amqplib'
import type { BrokerLog } from '../topology.js'

/** Where RabbitMQ is. */
export interface Target {
  /** One for each broker of a cluster; tried in turn. */
  readonly urls: readonly string[]
  readonly tls?: { readonly ca?: string; readonly cert?: string; readonly key?: string }
}

export interface LinkOptions {
  readonly target: Target
  /** For the log and the broker's own list of connections. */
  readonly name: string
  readonly log: BrokerLog
  /** Makes all that is needed on a fresh connection. A rejection counts as a failed attempt. */
  setUp(connection: ChannelModel, link: Link): Promise<void>
  /** What `setUp` made is gone. Called once for each successful `setUp`. */
  lost(): void
}

export interface Link {
  /** Resolves after the first successful set-up, or after every URL has failed once. */
  readonly firstAttempt: Promise<void>
  /** Gives the connection up and makes another one. */
  restart(reason: string): void
  stop(): Promise<void>
}

// A broker that is silent for two beats is gone. Half as long cuts connections in a long garbage collection, twice as long hides a dead host for 40 s.
const heartbeatS = 10
const connectTimeoutMs = 5_000
const firstPauseMs = 100
// Reached after six rounds. A broker that starts needs 3 to 10 s; longer pauses only add to its outage.
const longestPauseMs = 5_000
const lastingMs = 10_000
const closeTimeoutMs = 2_000

/** The URL without user and password, for messages. */
export function maskUrl(url: string): string {
  const { protocol, host, pathname } = new URL(url)
  return `${protocol}//${host}${pathname}`
}

function withDefaults(url: string): string {
  const parsed = new URL(url)
  if (!parsed.searchParams.has('heartbeat')) parsed.searchParams.set('heartbeat', String(heartbeatS))
  return parsed.href
}

/** Between half of and the full exponential pause, so that many clients do not come back in step. */
export const reconnectPauseMs = (failedRounds: number, random: number): number => Math.min(longestPauseMs, firstPauseMs * 2 ** Math.min(failedRounds, 10)) * (0.5 + random / 2)

/** A connection to the broker at `url`. Rejects with the library's error; answers within the connect timeout. */
export const openConnection = (url: string, tls: Target['tls'], name: string): Promise<ChannelModel> =>
  connect(withDefaults(url), { ...tls, noDelay: true, keepAlive: true, timeout: connectTimeoutMs, clientProperties: { connection_name: name } })

/** Ends the connection, politely if that takes no longer than two seconds. Never rejects. */
export async function closeConnection(connection: ChannelModel): Promise<void> {
  const { stream } = (connection as unknown as { readonly connection: { readonly stream: { destroy(): void } } }).connection
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, closeTimeoutMs)
  })
  await Promise.race([connection.close().catch(() => undefined), late])
  clearTimeout(timer)
  stream.destroy()
}

/** A running link. Never rejects: trouble is logged and tried again, because the broker being away is no reason not to start. */
export function startLink(options: LinkOptions): Link {
  const { name, log } = options
  const { urls, tls } = options.target
  let isStopped = false
  let current: ChannelModel | undefined
  let endPause: (() => void) | undefined
  let attempted: () => void = () => undefined
  const firstAttempt = new Promise<void>((resolve) => {
    attempted = resolve
  })

  function pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms)
      endPause = () => {
        clearTimeout(timer)
        resolve()
      }
    })
  }

  /** Connects, sets up, and resolves when the connection is lost, with how long it lasted. Rejects when it never worked. */
  async function live(url: string): Promise<number> {
    const connection = await openConnection(url, tls, name)
    let reason: unknown
    const closed = new Promise<void>((resolve) => connection.on('close', () => resolve()))
    connection.on('error', (error) => (reason = error))
    current = connection
    try {
      if (isStopped) throw new Error('stopped')
      await options.setUp(connection, link)
    } catch (error) {
      current = undefined
      await closeConnection(connection)
      throw error
    }
    const openedAt = performance.now()
    log.info({ broker: maskUrl(url), connection: name }, 'connected to RabbitMQ')
    attempted()
    await closed
    current = undefined
    options.lost()
    if (!isStopped) log.warn({ err: reason, broker: maskUrl(url), connection: name }, 'the connection to RabbitMQ is gone; connecting again')
    return performance.now() - openedAt
  }

  async function run(): Promise<void> {
    let failures = 0
    for (let turn = 0; !isStopped; turn++) {
      const url = urls[turn % urls.length] as string
      try {
        if ((await live(url)) >= lastingMs) failures = 0
        else failures += 1
      } catch (error) {
        failures += 1
        if (!isStopped) log.warn({ err: error, broker: maskUrl(url), connection: name }, 'cannot use RabbitMQ; trying again')
      }
      if (failures >= urls.length) attempted()
      // The other brokers of a cluster are tried at once; a pause comes when all of them failed.
      if (!isStopped && failures > 0 && failures % urls.length === 0) await pause(reconnectPauseMs(failures / urls.length - 1, Math.random()))
    }
    attempted()
  }

  const link: Link = {
    firstAttempt,
    restart(reason) {
      const unwanted = current
      // A connection that is lost closes its channels first, in the same turn of the event loop: then there is nothing to give up.
      setImmediate(() => {
        if (unwanted === undefined || current !== unwanted || isStopped) return
        log.warn({ reason, connection: name }, 'giving the connection to RabbitMQ up for a new one')
        void closeConnection(unwanted)
      })
    },
    async stop() {
      isStopped = true
      endPause?.()
      if (current) await closeConnection(current)
      await running
    },
  }
  const running = run()
  return link
}
