import { optionalSetting, readChoice, readHostAndPort, readInteger, readPattern, readText, requiredSetting } from '@lichen/core'

/** The settings of the API server program. docs/api.md lists them. */
export const apiSettings = {
  host: optionalSetting('LICHEN_HOST', readText, '127.0.0.1', 'Address that the API listens on.'),
  port: optionalSetting('LICHEN_PORT', readInteger(0, 65_535), 8470, 'Port of the API; 0 chooses a free one.'),
  storeUrl: requiredSetting('LICHEN_STORE_URL', readPattern(/^(sqlite:.+|postgres(ql)?:\/\/.+)$/, 'a URL of a store, e.g. sqlite:PATH'), 'the store that the engines use too, e.g. sqlite:PATH', { isSecret: true }),
  brokerUrl: requiredSetting('LICHEN_BROKER_URL', readPattern(/^amqps?:\/\/.+$/, 'amqp://… or amqps://…'), 'RabbitMQ, amqp://user:password@host:5672/vhost', { isSecret: true }),
  catalogDirectory: requiredSetting('LICHEN_CATALOG', readText, 'directory of the blueprints'),
  gatewayAddress: requiredSetting('LICHEN_GATEWAY_ADVERTISE', readHostAndPort, 'host:port at which nodes reach the gateway'),
  caDigest: requiredSetting('LICHEN_CA_DIGEST', readPattern(/^[0-9a-f]{64}$/, 'a SHA-256 digest, 64 lower-case hexadecimal digits'), 'SHA-256 of the certificate of the authority, in hex, as the engine logs it at its start'),
  adminToken: optionalSetting<string | undefined>('LICHEN_ADMIN_TOKEN', readPattern(/^[A-Za-z0-9._~+/=-]{20,512}$/, 'a bearer token of at least 20 characters'), undefined, 'A token that is accepted from the start; without it, those of the store are.', { isSecret: true }),
  logLevel: optionalSetting('LICHEN_LOG_LEVEL', readChoice(['debug', 'info', 'warn', 'error']), 'info', 'Own log, to stderr as JSON lines.'),
} as const
