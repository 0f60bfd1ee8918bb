/**
 * A connection to RabbitMQ that comes back, on the next host of the cluster. Owns one socket at a time and the loop that makes the next one; what lives on
 * the connection (channels, consumers) is built by `setUp`, anew each time.
 * Invariants: (1) at most one connection exists; (2) `setUp` runs to its end on a connection before anybody else sees it; (3) any trouble on it, also
 * of one channel, is answered by a new connection, so there is one way to recover and it is used often; (4) the pause between attempts starts
 * small again only after a connection has lasted; (5) after `stop` no socket and no timer is left; (6) every step has a bound, so a broker that froze is left
 * for the next one: connecting 5 s, `setUp` 15 s, silence three heartbeats, closing 2 s.
 */
import { connect, credentials, type ChannelModel } from 'amqplib'
import type { BrokerLog } from '../topology.js'
import type { BrokerHost, Target } from './target.js'

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
  /** Resolves after the first successful set-up, or after every host has failed once. */
  readonly firstAttempt: Promise<void>
  /** Gives the connection up and makes another one. */
  restart(reason: string): void
  stop(): Promise<void>
}

const connectTimeoutMs = 5_000
// Declarations take milliseconds, and RabbitMQ gives up on a queue without a leader after 5 s. Half as long would make a cluster that elects leaders for all its queues at once look dead.
const setUpTimeoutMs = 15_000
const firstPauseMs = 100
// Reached after six rounds. A broker that starts needs 3 to 10 s; longer pauses only add to its outage.
const longestPauseMs = 5_000
const lastingMs = 10_000
const closeTimeoutMs = 2_000

/** Between half of and the full exponential pause, so that many clients do not come back in step. */
export const reconnectPauseMs = (failedRounds: number, random: number): number => Math.min(longestPauseMs, firstPauseMs * 2 ** Math.min(failedRounds, 10)) * (0.5 + random / 2)

/** A connection to this broker. Rejects with the library's error; answers within the connect timeout. */
export async function openConnection(host: BrokerHost, name: string): Promise<ChannelModel> {
  const login = credentials.plain(host.user, host.password)
  return connect(host.url, { ...(await host.readTls()), credentials: login, noDelay: true, keepAlive: true, timeout: connectTimeoutMs, clientProperties: { connection_name: name } })
}

/** Which host comes first: any, so that the connections of many programs spread over the cluster. The others follow in their order. */
export const chooseFirstHost = ({ hosts }: Target, random: number): number => Math.floor(random * hosts.length)

/** Settles as `work` does, or rejects when that takes longer than `ms`. */
export async function within<T>(ms: number, what: string, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: no answer within ${ms} ms`)), ms)
  })
  return Promise.race([work, late]).finally(() => clearTimeout(timer))
}

/** Ends the connection, politely if that takes no longer than two seconds. Never rejects. */
export async function closeConnection(connection: ChannelModel): Promise<void> {
  const { stream } = (connection as unknown as { readonly connection: { readonly stream: { destroy(reason: Error): void } } }).connection
  await within(closeTimeoutMs, 'closing the connection', connection.close()).catch(() => undefined)
  // With a reason, because the library takes only an error for the end: otherwise its heartbeat would go on, and whoever waits for `close` would wait for it to fail.
  stream.destroy(new Error('given up'))
}

/** A running link. Never rejects: trouble is logged and tried again, because the broker being away is no reason not to start. */
export function startLink(options: LinkOptions): Link {
  const { name, log } = options
  const { hosts } = options.target
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
  async function live(host: BrokerHost): Promise<number> {
    const connection = await openConnection(host, name)
    let reason: unknown
    const closed = new Promise<void>((resolve) => connection.on('close', () => resolve()))
    connection.on('error', (error) => (reason = error))
    current = connection
    try {
      if (isStopped) throw new Error('stopped')
      await within(setUpTimeoutMs, 'setting the connection up', options.setUp(connection, link))
    } catch (error) {
      current = undefined
      await closeConnection(connection)
      throw error
    }
    const openedAt = performance.now()
    log.info({ broker: host.label, connection: name }, 'connected to RabbitMQ')
    attempted()
    await closed
    current = undefined
    options.lost()
    if (!isStopped) log.warn({ err: reason, broker: host.label, connection: name }, 'the connection to RabbitMQ is gone; connecting again')
    return performance.now() - openedAt
  }

  async function run(): Promise<void> {
    let failures = 0
    for (let turn = chooseFirstHost(options.target, Math.random()); !isStopped; turn++) {
      const host = hosts[turn % hosts.length] as BrokerHost
      try {
        if ((await live(host)) >= lastingMs) failures = 0
        else failures += 1
      } catch (error) {
        failures += 1
        if (!isStopped) log.warn({ err: error, broker: host.label, connection: name }, 'cannot use RabbitMQ; trying again')
      }
      if (failures >= hosts.length) attempted()
      // The other brokers of a cluster are tried at once; a pause comes when all of them failed.
      if (!isStopped && failures > 0 && failures % hosts.length === 0) await pause(reconnectPauseMs(failures / hosts.length - 1, Math.random()))
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
