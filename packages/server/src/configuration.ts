/** The settings of the server program as one table. docs/configuration.md lists it (a test compares). */
import { resolve } from 'node:path'
import { LichenError, findUnknownSettings, optionalSetting, parseConfig, readChoice, readHostAndPort, readInteger, readPattern, readText, type ConfigTable, type Problem, type SettingReading } from '@lichen/core'
import type { Role } from './data-directory.js'
import type { ServerConfig } from './start-server.js'

const logLevels = ['debug', 'info', 'warn', 'error'] as const
const noText: string | undefined = undefined
const allRoles: readonly Role[] = ['api', 'engine', 'gateway']

function readRoles(text: string): SettingReading<readonly Role[]> {
  const names = text.split(',').map((name) => name.trim())
  const roles = allRoles.filter((role) => names.includes(role))
  return roles.length > 0 && names.length === roles.length ? { ok: true, value: roles } : { ok: false, message: 'must be one or several of api, engine and gateway, separated by commas' }
}

/** Every setting of the server, by the name that the code uses. Defaults that depend on the machine are filled in by `parseConfiguration`. */
export const settings = {
  dataDirectory: optionalSetting('LICHEN_DATA_DIRECTORY', readText, '.lichen', 'Where the database, the master key and the administrator’s token are kept.'),
  roles: optionalSetting<readonly Role[]>('LICHEN_ROLES', readRoles, allRoles, 'What this process does: any of `api` (HTTP), `engine` (drives tasks) and `gateway` (agents connect to it). Apart, they need RabbitMQ, and either the same data directory or PostgreSQL and the same `LICHEN_MASTER_KEY`.'),
  host: optionalSetting('LICHEN_HOST', readText, '127.0.0.1', 'Address that the API listens on.'),
  port: optionalSetting('LICHEN_PORT', readInteger(0, 65_535), 8470, 'Port of the API; 0 chooses a free one.'),
  gatewayHost: optionalSetting('LICHEN_GATEWAY_HOST', readText, '0.0.0.0', 'Address that the gateway of the agents listens on.'),
  gatewayPort: optionalSetting('LICHEN_GATEWAY_PORT', readInteger(0, 65_535), 8471, 'Port of the gateway; 0 chooses a free one.'),
  gatewayAdvertise: optionalSetting<string | undefined>('LICHEN_GATEWAY_ADVERTISE', readHostAndPort, undefined, '`host:port` at which nodes reach the gateway. Default: the first address of this machine that is not loopback.'),
  engineName: optionalSetting<string | undefined>('LICHEN_ENGINE_NAME', readPattern(/^[A-Za-z0-9][A-Za-z0-9.-]{0,62}$/, 'up to 63 letters, digits, dots and hyphens'), noText, 'Name of this engine among others; no two that run may have the same. Default: made of the host name and the data directory.'),
  storeUrl: optionalSetting<string | undefined>('LICHEN_STORE_URL', readPattern(/^(sqlite:.|postgres(ql)?:\/\/[^/]*\/.)/, 'sqlite:PATH or postgres://user:password@host:5432/database'), noText, 'The store: `sqlite:PATH`, or PostgreSQL, `postgres://user:password@host:5432/database`; parameters such as `?sslmode=verify-full` are passed on. Default: `lichen.db` in the data directory.', { isSecret: true }),
  brokerUrl: optionalSetting<string | undefined>('LICHEN_BROKER_URL', readPattern(/^(amqps?:\/\/.+|embedded)$/, 'amqp://…, amqps://… or embedded'), noText, 'RabbitMQ, `amqp://user:password@host:5672/vhost`; the nodes of a cluster as several such URLs with commas between them; `amqps://` for TLS, with `?cacertfile=`, `certfile=` and `keyfile=`. Default: `embedded`, the broker inside this process.', { isSecret: true }),
  masterKey: optionalSetting<string | undefined>('LICHEN_MASTER_KEY', readPattern(/^[0-9a-fA-F]{64}$/, '64 hexadecimal digits'), noText, 'Key that secrets in the store are sealed with. Default: `master.key` in the data directory, made on the first start.', { isSecret: true }),
  catalog: optionalSetting<string | undefined>('LICHEN_CATALOG', readText, noText, 'Directory of the blueprints. Default: `catalog` of the checkout.'),
  logLevel: optionalSetting<(typeof logLevels)[number] | undefined>('LICHEN_LOG_LEVEL', readChoice(logLevels), undefined, 'Own log, JSON lines on stderr: `debug`, `info`, `warn`, `error`. Default: `info`; `warn` when stderr is a terminal.'),
} as const satisfies ConfigTable

export type Configuration = Omit<ServerConfig, 'log' | 'version'> & {
  readonly logLevel: (typeof logLevels)[number]
  /** `LICHEN_*` names in the environment that no program of Lichen reads: probably typing errors, worth a warning. */
  readonly unknownNames: readonly string[]
}

// Settings of the CLI, of agents and of the lab may stand in the same environment.
const isOfAnotherProgram = (name: string): boolean => /^LICHEN_(URL|TOKEN|(AGENT|LAB|DEMO|BENCH|TEST)_.*)$/.test(name)

/**
 * The configuration from an environment. Empty values count as not set. Relative paths start at `workingDirectory`.
 * @throws SERVER_CONFIGURATION with every problem
 */
export function parseConfiguration(input: { readonly env: Readonly<Record<string, string | undefined>>; readonly workingDirectory: string; readonly checkout: string; readonly isTerminal: boolean }): Configuration {
  const parsed = parseConfig(settings, input.env)
  const problems: Problem[] = parsed.ok ? [] : [...parsed.problems]
  if (parsed.ok && parsed.value.roles.length < allRoles.length && isEmbedded(parsed.value.brokerUrl)) {
    problems.push({ code: 'SERVER_CONFIGURATION', path: 'LICHEN_BROKER_URL', message: 'is needed when LICHEN_ROLES leaves a role to another process: the embedded broker reaches no other process' })
  }
  if (!parsed.ok || problems.length > 0) throw new LichenError('SERVER_CONFIGURATION', 'the settings in the environment cannot be used', { problems })
  const { dataDirectory, catalog, logLevel, storeUrl, brokerUrl, gatewayAdvertise, masterKey, engineName, ...rest } = parsed.value
  return {
    ...rest,
    dataDirectory: resolve(input.workingDirectory, dataDirectory),
    catalogDirectory: catalog === undefined ? resolve(input.checkout, 'catalog') : resolve(input.workingDirectory, catalog),
    logLevel: logLevel ?? (input.isTerminal ? 'warn' : 'info'),
    unknownNames: findUnknownSettings(settings, input.env, 'LICHEN_').filter((name) => !isOfAnotherProgram(name)),
    ...(gatewayAdvertise === undefined ? {} : { gatewayAdvertise }),
    ...(storeUrl === undefined ? {} : { storeUrl: resolveStoreUrl(storeUrl, input.workingDirectory) }),
    ...(isEmbedded(brokerUrl) ? {} : { brokerUrl: brokerUrl! }),
    ...(masterKey === undefined ? {} : { masterKey }),
    ...(engineName === undefined ? {} : { engineName }),
  }
}

const resolveStoreUrl = (storeUrl: string, workingDirectory: string): string => (storeUrl.startsWith('sqlite:') ? `sqlite:${resolve(workingDirectory, storeUrl.slice('sqlite:'.length))}` : storeUrl)
const isEmbedded = (brokerUrl: string | undefined): boolean => brokerUrl === undefined || brokerUrl === 'embedded'
