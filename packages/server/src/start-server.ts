/**
 * The composition: which adapters and programs make one server out of a configuration. Owns the order in which they start and stop, and
 * nothing of what they do.
 *
 * 1. What was started is stopped in the reverse order, also when a later part could not start.
 * 2. Stopping takes no new work first (API, announcer), then lets the engine record what it has, then closes broker and store.
 * 3. The data directory is locked before anything in it is opened and given back last.
 */
import { createHash, randomUUID } from 'node:crypto'
import { hostname, networkInterfaces } from 'node:os'
import { join, resolve } from 'node:path'
import type { AddressInfo } from 'node:net'
import { clockOf, LichenError, type Catalog, type Clock } from '@lichen/core'
import { buildApi, startAnnouncer, type ApiLimits } from '@lichen/api'
import { openEmbeddedBroker, openRabbitBroker, type Broker } from '@lichen/broker'
import { readCatalog } from '@lichen/catalog'
import { openAuthority, openSealer, openSecret, startEngine, type Authority, type EngineOptions, type PartialEngineLimits, type Sealer } from '@lichen/engine'
import { openStore, type Store } from '@lichen/store'
import type { Logger } from 'pino'
import { Registry } from 'prom-client'
import { openAdminToken } from './admin-token.js'
import { chooseAdvertisedAddress } from './advertised-address.js'
import { openDataDirectory, type DataDirectory, type Role } from './data-directory.js'
import { hookBroker, hookStore, type OnWrite } from './durable-write.js'
import { readMasterKey } from './master-key.js'

export interface ServerConfig {
  /** Made when missing, mode 0700. */
  readonly dataDirectory: string
  /** Where the API listens; port 0 chooses a free one. */
  readonly host: string
  readonly port: number
  /** Where agents connect; port 0 chooses a free one. */
  readonly gatewayHost: string
  readonly gatewayPort: number
  /** `host:port` told to joining nodes. Default: the gateway's own address, or this machine's first one when it listens on all. */
  readonly gatewayAdvertise?: string
  /** `sqlite:PATH` or `postgres://…`. Default: `lichen.db` in the data directory. */
  readonly storeUrl?: string
  /** `amqp://…`. Default: the embedded broker, which serves this process alone. */
  readonly brokerUrl?: string
  readonly catalogDirectory: string
  /** Default: all. */
  readonly roles?: readonly Role[]
  /** Of the engine; default: made of host name and data directory. */
  readonly engineName?: string
  /** 64 hexadecimal digits. Default: `master.key` in the data directory. */
  readonly masterKey?: string
  readonly version: string
  /** Of engine and API; defaults are theirs. */
  readonly limits?: { readonly engine?: PartialEngineLimits; readonly api?: Partial<ApiLimits> }
  readonly log: Logger
  /** The server cannot go on and has stopped its engine: another process has its name. */
  readonly failed?: (error: LichenError) => void
  /** For tests: called right before and after each durable write (durable-write.ts). */
  readonly onWrite?: OnWrite
}

export interface Server {
  /** Origin of the API, e.g. `http://127.0.0.1:8470`; empty without the role `api`. */
  readonly apiUrl: string
  /** Port of the agents' gateway; 0 without the role `gateway`. */
  readonly gatewayPort: number
  /** `host:port` that join tokens are given out with. */
  readonly gatewayAddress: string
  /** Bearer token of the administrator; undefined without the role `api`. */
  readonly adminToken: string | undefined
  /** Resolves when all is closed; asking again waits for the same end. */
  stop(): Promise<void>
}

/** What is to be undone, newest first. */
type Undo = { readonly what: string; readonly stop: () => Promise<unknown> | unknown }

/**
 * A running server.
 * @throws SERVER_LOCKED, SERVER_PORT_TAKEN, SERVER_MASTER_KEY; STORE_*, BROKER_UNAVAILABLE and BLUEPRINT_* as their packages say. Nothing is
 * left running then.
 */
export async function startServer(config: ServerConfig): Promise<Server> {
  const undo: Undo[] = []
  let stopping: Promise<void> | undefined
  const stop = () => (stopping ??= stopAll(undo, config.log))
  try {
    return { ...(await startParts(config, undo)), stop }
  } catch (error) {
    await stop()
    throw error
  }
}

async function startParts(config: ServerConfig, undo: Undo[]): Promise<Omit<Server, 'stop'>> {
  const { log } = config
  const roles = config.roles ?? ['api', 'engine', 'gateway']
  const dataDirectory = resolve(config.dataDirectory)
  const clock = clockOf(globalThis)
  const now = clock.now
  const registry = new Registry()
  const catalog = await readCatalog(config.catalogDirectory)
  const data = await openDataDirectory(dataDirectory, roles)
  undo.push({ what: 'data directory', stop: () => data.close() })
  const { store, sealer, authority } = await openTruth(config, dataDirectory, now, undo)
  const opened = await openBroker(config, log)
  const broker = config.onWrite ? hookBroker(opened, config.onWrite) : opened
  undo.push({ what: 'broker', stop: () => broker.close() })

  let gatewayPort = config.gatewayPort
  const advertise = (port: number): string => config.gatewayAdvertise ?? chooseAdvertisedAddress(config.gatewayHost, port, networkInterfaces())
  if (roles.includes('engine') || roles.includes('gateway')) {
    const engine = await startEngine({
      store, broker, catalog, authority, sealer, clock, log, registry, ...identify(config, dataDirectory, roles), takesTasks: roles.includes('engine'), limits: config.limits?.engine ?? {},
      ...(roles.includes('gateway') ? { gateway: { host: config.gatewayHost, port: config.gatewayPort, advertise } } : {}),
      ...(config.failed ? { failed: config.failed } : {}),
    }).catch((error: unknown) => {
      throw describeListenError(error, 'LICHEN_GATEWAY_PORT', config.gatewayHost, config.gatewayPort)
    })
    undo.push({ what: 'engine', stop: () => engine.stop() })
    if (roles.includes('gateway')) gatewayPort = engine.gatewayPort
  }
  const gatewayAddress = advertise(gatewayPort)
  const api = roles.includes('api') ? await startApi({ config, store, broker, catalog, sealer, authority, gatewayAddress, registry, now, clock, data, dataDirectory }, undo) : undefined
  return { apiUrl: api?.apiUrl ?? '', adminToken: api?.adminToken, gatewayPort: roles.includes('gateway') ? gatewayPort : 0, gatewayAddress }
}

/**
 * Who this engine is. The name is the same at every start on this data directory, so that an engine which was killed takes its tasks back at once: its lock on the directory
 * proves that the one before it is dead. It is different for each directory and machine. A name that was given proves nothing.
 */
function identify({ engineName }: ServerConfig, dataDirectory: string, roles: readonly Role[]): Pick<EngineOptions, 'identity' | 'isSuccessor'> {
  const kind = roles.includes('engine') ? '' : '-gateway'
  const name = engineName ?? `${hostname()}-${createHash('sha256').update(dataDirectory).digest('hex').slice(0, 8)}${kind}`
  return { identity: { name, instance: randomUUID() }, isSuccessor: engineName === undefined }
}

async function openTruth(config: ServerConfig, dataDirectory: string, now: () => number, undo: Undo[]) {
  const storeUrl = config.storeUrl ?? `sqlite:${join(dataDirectory, 'lichen.db')}`
  const opened = await openStore(storeUrl, config.log)
  const store = config.onWrite ? hookStore(opened, config.onWrite) : opened
  undo.push({ what: 'store', stop: () => store.close() })
  // What is sealed first, and stays, are the keys of the deployment. Whether they are there says more than a file or a database that is there.
  const isStoreUsed = (await store.secrets.readSecrets('server')).length > 0
  const masterKey = await readMasterKey({ dataDirectory, given: config.masterKey, isStoreUsed })
  const sealer = openSealer(masterKey)
  const authority = await openAuthority({ store, sealer, now })
  return { store, sealer, authority }
}

function openBroker(config: ServerConfig, log: Logger): Promise<Broker> {
  return config.brokerUrl === undefined ? Promise.resolve(openEmbeddedBroker()) : openRabbitBroker({ url: config.brokerUrl, log })
}

interface ApiParts {
  readonly config: ServerConfig
  readonly store: Store
  readonly broker: Broker
  readonly catalog: Catalog
  readonly sealer: Sealer
  readonly authority: Authority
  readonly gatewayAddress: string
  readonly registry: Registry
  readonly now: () => number
  readonly clock: Clock
  readonly data: DataDirectory
  readonly dataDirectory: string
}

async function startApi(parts: ApiParts, undo: Undo[]): Promise<{ readonly apiUrl: string; readonly adminToken: string }> {
  const { config, store, broker, catalog, sealer, authority, gatewayAddress, registry, now, clock, data } = parts
  const adminToken = await openAdminToken(parts.dataDirectory, store, now)
  const announcer = startAnnouncer({ store, broker, clock, log: config.log })
  undo.push({ what: 'announcer', stop: () => announcer.stop() })
  const api = buildApi({ store, broker, catalog, announcer, unseal: (secret) => openSecret(sealer, secret), caDigest: authority.caDigest, gatewayAddress, now, log: config.log, registry, version: config.version, limits: config.limits?.api ?? {} })
  undo.push({ what: 'api', stop: () => api.close() })
  await api.listen({ host: config.host, port: config.port }).catch((error: unknown) => {
    throw describeListenError(error, 'LICHEN_PORT', config.host, config.port)
  })
  const address = api.server.address() as AddressInfo
  const host = config.host === '0.0.0.0' ? '127.0.0.1' : config.host === '::' || config.host === '::1' ? '[::1]' : config.host
  const apiUrl = `http://${host}:${address.port}`
  await data.writeNote({ pid: process.pid, apiUrl, gatewayAddress })
  return { apiUrl, adminToken }
}

function describeListenError(error: unknown, setting: string, host: string, port: number): unknown {
  const text = error instanceof Error ? `${(error as { code?: string }).code ?? ''} ${error.message}` : String(error)
  if (!/EADDRINUSE|EADDRNOTAVAIL|EACCES|No address added/.test(text)) return error
  const found = /EACCES/.test(text) ? 'this user may not listen there' : /EADDRNOTAVAIL/.test(text) ? 'this machine has no such address' : 'something else listens there'
  return new LichenError('SERVER_PORT_TAKEN', `cannot listen on ${host}:${port}: ${found}; choose another with ${setting}`, { cause: error })
}

async function stopAll(undo: Undo[], log: Logger): Promise<void> {
  for (let part = undo.pop(); part; part = undo.pop()) {
    try {
      await part.stop()
    } catch (error) {
      log.error({ err: error, part: part.what }, 'could not be stopped')
    }
  }
}
