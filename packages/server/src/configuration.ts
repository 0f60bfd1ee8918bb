/** The settings of the server program as one table. docs/configuration.md lists it (a test compares). */
import { resolve } from 'node:path'
import { LichenError, findUnknownSettings, optionalSetting, parseConfig, readChoice, readHostAndPort, readInteger, readPattern, readText, type ConfigTable, type Problem, type SettingReading } from '@lichen/core'
import type { Role } from './data-directory.js'
import type { ServerConfig } from './start-server.js'

const logLevels = ['debug', 'info', 'warn', 'error'] as const
const noText: string | undefined = undefined

function readRoles(text: string): SettingReading<readonly Role[]> {
  const names = text.split(',').map((name) => name.trim())
  const roles = (['api', 'engine'] as const).filter((role) => names.includes(role))
  return roles.length > 0 && names.length === roles.length ? { ok: true, value: roles } : { ok: false, message: 'must be api, engine or api,engine' }
}

/** Every setting of the server, by the name that the code uses. Defaults that depend on the machine are filled in by `parseConfiguration`. */
export const settings = {
  dataDirectory: optionalSetting('LICHEN_DATA_DIRECTORY', readText, '.lichen', 'Where the database, the master key and the administrator’s token are kept.'),
  roles: optionalSetting<readonly Role[]>('LICHEN_ROLES', readRoles, ['api', 'engine'], 'What this process does: `api`, `engine` or both. Apart, they need RabbitMQ and the same data directory.'),
  host: optionalSetting('LICHEN_HOST', readText, '127.0.0.1', 'Address that the API listens on.'),
  port: optionalSetting('LICHEN_PORT', readInteger(0, 65_535), 8470, 'Port of the API; 0 chooses a free one.'),
  gatewayHost: optionalSetting('LICHEN_GATEWAY_HOST', readText, '0.0.0.0', 'Address that the gateway of the agents listens on.'),
  gatewayPort: optionalSetting('LICHEN_GATEWAY_PORT', readInteger(0, 65_535), 8471, 'Port of the gateway; 0 chooses a free one.'),
  gatewayAdvertise: optionalSetting<string | undefined>('LICHEN_GATEWAY_ADVERTISE', readHostAndPort, undefined, '`host:port` at which nodes reach the gateway. Default: the first address of this machine that is not loopback.'),
  storeUrl: optionalSetting<string | undefined>('LICHEN_STORE_URL', readPattern(/^sqlite:./, 'sqlite:PATH (PostgreSQL is not supported yet)'), noText, 'The store, `sqlite:PATH`. Default: `lichen.db` in the data directory.'),
  brokerUrl: optionalSetting<string | undefined>('LICHEN_BROKER_URL', readPattern(/^(amqps?:\/\/.+|embedded)$/, 'amqp://…, amqps://… or embedded'), noText, 'RabbitMQ, `amqp://user:password@host:5672/vhost`. Default: `embedded`, the broker inside this process.', { isSecret: true }),
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
  if (parsed.ok && parsed.value.roles.length === 1 && isEmbedded(parsed.value.brokerUrl)) {
    problems.push({ code: 'SERVER_CONFIGURATION', path: 'LICHEN_BROKER_URL', message: 'is needed when LICHEN_ROLES names one role: the embedded broker reaches no other process' })
  }
  if (!parsed.ok || problems.length > 0) throw new LichenError('SERVER_CONFIGURATION', 'the settings in the environment cannot be used', { problems })
  const { dataDirectory, catalog, logLevel, storeUrl, brokerUrl, gatewayAdvertise, masterKey, ...rest } = parsed.value
  return {
    ...rest,
    dataDirectory: resolve(input.workingDirectory, dataDirectory),
    catalogDirectory: catalog === undefined ? resolve(input.checkout, 'catalog') : resolve(input.workingDirectory, catalog),
    logLevel: logLevel ?? (input.isTerminal ? 'warn' : 'info'),
    unknownNames: findUnknownSettings(settings, input.env, 'LICHEN_').filter((name) => !isOfAnotherProgram(name)),
    ...(gatewayAdvertise === undefined ? {} : { gatewayAdvertise }),
    ...(storeUrl === undefined ? {} : { storeUrl: `sqlite:${resolve(input.workingDirectory, storeUrl.slice('sqlite:'.length))}` }),
    ...(isEmbedded(brokerUrl) ? {} : { brokerUrl: brokerUrl! }),
    ...(masterKey === undefined ? {} : { masterKey }),
  }
}

const isEmbedded = (brokerUrl: string | undefined): boolean => brokerUrl === undefined || brokerUrl === 'embedded'
