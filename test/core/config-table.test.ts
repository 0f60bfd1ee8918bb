import t from 'tap'
import { describeConfig, findUnknownSettings, optionalSetting, parseConfig, readChoice, readHostAndPort, readInteger, readText, requiredSetting } from '@lichen/core'

const table = {
  host: optionalSetting('X_HOST', readText, '127.0.0.1', 'Where to listen.'),
  port: optionalSetting('X_PORT', readInteger(0, 65_535), 80, 'Port.'),
  url: requiredSetting('X_URL', readText, 'the store', { isSecret: true }),
  gateway: optionalSetting<string | undefined>('X_GATEWAY', readHostAndPort, undefined, 'Gateway.'),
  level: optionalSetting('X_LEVEL', readChoice(['info', 'warn']), 'info', 'Level.'),
} as const

t.test('values come typed, with defaults for what is not set or empty', async (t) => {
  t.same(parseConfig(table, { X_URL: ' sqlite:x ', X_PORT: '8080', X_HOST: '', X_GATEWAY: '[::1]:8471' }), { ok: true, value: { host: '127.0.0.1', port: 8080, url: 'sqlite:x', gateway: '[::1]:8471', level: 'info' } })
})

t.test('every problem is reported at once, and secrets are not repeated', async (t) => {
  const secret = { ...table, url: requiredSetting('X_URL', readInteger(1, 2), 'the store', { isSecret: true }) }
  const parsed = parseConfig(secret, { X_URL: 'hunter2', X_PORT: '70000', X_LEVEL: 'loud', X_GATEWAY: 'nowhere' })
  t.equal(parsed.ok, false)
  const problems = parsed.ok ? [] : parsed.problems
  t.same(problems.map(({ path }) => path), ['X_PORT', 'X_URL', 'X_GATEWAY', 'X_LEVEL'])
  t.match(problems[0], { code: 'SERVER_CONFIGURATION', message: 'must be an integer from 0 to 65535; found "70000"' })
  t.notMatch(JSON.stringify(problems), 'hunter2')
  t.match(parseConfig(table, {}), { ok: false, problems: [{ path: 'X_URL', message: 'is needed: the store' }] })
  for (const port of ['1e3', '0x10', '-1', '12.5', 'NaN']) t.equal(parseConfig(table, { X_URL: 'u', X_PORT: port }).ok, false, port)
})

t.test('a printed configuration masks secrets, and typing errors are found', async (t) => {
  const parsed = parseConfig(table, { X_URL: 'hunter2' })
  if (!parsed.ok) throw new Error('not parsed')
  t.same(describeConfig(table, parsed.value), { X_HOST: '127.0.0.1', X_PORT: 80, X_URL: '(secret)', X_GATEWAY: undefined, X_LEVEL: 'info' })
  t.same(findUnknownSettings(table, { X_URL: '', X_PROT: '1', Y: '' }, 'X_'), ['X_PROT'])
})
