import { readFileSync } from 'node:fs'
import { networkInterfaces } from 'node:os'
import { resolve } from 'node:path'
import t from 'tap'
import { buildBanner, chooseAdvertisedAddress, parseConfiguration, settings } from '@lichen/server'

const parse = (env: Record<string, string>) => parseConfiguration({ env, workingDirectory: '/work-here', checkout: '/checkout', isTerminal: false })

t.test('without settings it is all in one process, local, with its data in the working directory', async (t) => {
  t.same(parse({ PATH: '/bin' }), { dataDirectory: '/work-here/.lichen', roles: ['api', 'engine', 'gateway'], host: '127.0.0.1', port: 8470, gatewayHost: '0.0.0.0', gatewayPort: 8471, catalogDirectory: '/checkout/catalog', logLevel: 'info', unknownNames: [] })
})

t.test('every setting is read; relative paths start at the working directory, embedded and empty mean the default', async (t) => {
  const key = 'ab'.repeat(32)
  const env = { LICHEN_DATA_DIRECTORY: 'data', LICHEN_ROLES: 'gateway, engine, api', LICHEN_HOST: '::1', LICHEN_PORT: '0', LICHEN_GATEWAY_HOST: '10.0.0.1', LICHEN_GATEWAY_PORT: '9000', LICHEN_GATEWAY_ADVERTISE: '[fd00::1]:9000', LICHEN_STORE_URL: 'sqlite:other.db', LICHEN_BROKER_URL: 'amqp://u:p@rabbit/', LICHEN_MASTER_KEY: key, LICHEN_CATALOG: '/my/catalog', LICHEN_LOG_LEVEL: 'debug' }
  t.match(parse(env), { dataDirectory: '/work-here/data', roles: ['api', 'engine', 'gateway'], host: '::1', port: 0, gatewayHost: '10.0.0.1', gatewayPort: 9000, gatewayAdvertise: '[fd00::1]:9000', storeUrl: 'sqlite:/work-here/other.db', brokerUrl: 'amqp://u:p@rabbit/', masterKey: key, catalogDirectory: '/my/catalog', logLevel: 'debug' })
  t.same(parse({ LICHEN_BROKER_URL: 'embedded', LICHEN_PORT: ' ' }), parse({}))
  t.match(parse({ LICHEN_STORE_URL: 'postgres://u:p@db:5432/lichen?sslmode=verify-full' }), { storeUrl: 'postgres://u:p@db:5432/lichen?sslmode=verify-full' })
})

t.test('every malformed value is reported at once, and secrets are not repeated', async (t) => {
  try {
    parse({ LICHEN_PORT: '80a', LICHEN_GATEWAY_PORT: '70000', LICHEN_ROLES: 'api,web', LICHEN_STORE_URL: 'postgres://db', LICHEN_BROKER_URL: 'http://user:geheim@x', LICHEN_MASTER_KEY: 'geheim', LICHEN_LOG_LEVEL: 'loud', LICHEN_GATEWAY_ADVERTISE: 'nowhere' })
    t.fail('must be refused')
  } catch (error) {
    const { code, problems } = error as { code: string; problems: { path: string; message: string }[] }
    t.equal(code, 'SERVER_CONFIGURATION')
    t.same(problems.map((problem) => problem.path).sort(), ['LICHEN_BROKER_URL', 'LICHEN_GATEWAY_ADVERTISE', 'LICHEN_GATEWAY_PORT', 'LICHEN_LOG_LEVEL', 'LICHEN_MASTER_KEY', 'LICHEN_PORT', 'LICHEN_ROLES', 'LICHEN_STORE_URL'])
    t.notMatch(JSON.stringify(problems), /geheim/)
  }
})

t.test('one role alone needs a broker that others can reach', async (t) => {
  t.throws(() => parse({ LICHEN_ROLES: 'api' }), { code: 'SERVER_CONFIGURATION', problems: [{ path: 'LICHEN_BROKER_URL' }] })
  t.match(parse({ LICHEN_ROLES: 'api', LICHEN_BROKER_URL: 'amqp://x' }), { roles: ['api'] })
})

t.test('names that no program reads are reported; those of the CLI, the agent and the lab are not', async (t) => {
  t.same(parse({ LICHEN_PROT: '1', LICHEN_URL: 'x', LICHEN_TOKEN: 'x', LICHEN_LAB_DIRECTORY: 'x', LICHEN_AGENT_X: 'x' }).unknownNames, ['LICHEN_PROT'])
})

t.test('docs/configuration.md lists exactly the settings, with their meaning and default', async (t) => {
  const text = readFileSync(resolve(import.meta.dirname, '../../docs/configuration.md'), 'utf8')
  const rows = [...text.matchAll(/^\| `(LICHEN_\w+)` \| (.*?) ?\| (.*) \|$/gm)].map(([, name, fallback, meaning]) => ({ name, fallback, meaning }))
  const expected = Object.values(settings).map(({ name, meaning, absent }) => {
    const value: unknown = absent.kind === 'value' ? absent.value : undefined
    return { name, meaning, fallback: value === undefined ? '' : `\`${String(value)}\`` }
  })
  t.same(rows, expected)
})

t.test('a gateway on all addresses is advertised with the first that is not loopback', async (t) => {
  const entry = (address: string, family: 'IPv4' | 'IPv6', internal = false) => ({ address, family, internal, netmask: '', mac: '', cidr: null, ...(family === 'IPv6' ? { scopeid: 0 } : {}) }) as never
  const loopback = { lo: [entry('127.0.0.1', 'IPv4', true), entry('::1', 'IPv6', true)] }
  t.equal(chooseAdvertisedAddress('0.0.0.0', 8471, { ...loopback, eth0: [entry('fe80::1', 'IPv6'), entry('fd00::2', 'IPv6'), entry('192.0.2.7', 'IPv4')] }), '192.0.2.7:8471')
  t.equal(chooseAdvertisedAddress('::', 8471, { ...loopback, eth0: [entry('fe80::1', 'IPv6'), entry('fd00::2', 'IPv6')] }), '[fd00::2]:8471')
  t.equal(chooseAdvertisedAddress('0.0.0.0', 8471, loopback), '127.0.0.1:8471')
  t.equal(chooseAdvertisedAddress('10.1.2.3', 1, networkInterfaces()), '10.1.2.3:1')
})

t.test('the banner has three commands that can be copied, from the checkout and from elsewhere', async (t) => {
  const make = (workingDirectory: string) => buildBanner({ server: { apiUrl: 'http://127.0.0.1:8470', gatewayAddress: '192.0.2.7:8471' }, dataDirectory: '/x/.lichen', checkout: '/src/lichen', workingDirectory, version: '0.1.0', hasColour: false }).filter((line) => line.includes('  #'))
  t.match(make('/src/lichen'), [/^ {2}npx lichen agent --local/, /^ {2}npx lichen apply examples\/hello\.yaml/, /^ {2}npx lichen logs -f latest/])
  t.match(make('/tmp'), [/^ {2}node \/src\/lichen\/packages\/cli\/bin\/lichen\.js agent/, /apply \/src\/lichen\/examples\/hello\.yaml/, /logs/])
  t.ok(make('/src/lichen').every((line) => !line.includes('\u001b')))
})
