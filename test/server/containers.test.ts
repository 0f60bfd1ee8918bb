import { existsSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import t from 'tap'
import { parse } from 'yaml'
import { parseConfiguration, settings } from '@lichen/server'

// There is not always a Docker engine where the tests run: what the files name is compared with what there is.
const root = resolve(import.meta.dirname, '../..')
const dockerfile = readFileSync(join(root, 'Dockerfile'), 'utf8')
const compose = parse(readFileSync(join(root, 'docker-compose.yml'), 'utf8'), { merge: true }) as {
  services: Record<string, { image?: string; build?: { target: string }; environment?: Record<string, string>; volumes?: string[]; depends_on?: Record<string, { condition: string }>; healthcheck?: { test?: string[] }; command?: string[] }>
  volumes: Record<string, unknown>
}

t.test('the Dockerfile has the targets that the compose file builds, and copies and runs what exists', async (t) => {
  const targets = [...dockerfile.matchAll(/^FROM \S+ AS (\w+)$/gm)].map((match) => match[1])
  t.same(Object.values(compose.services).flatMap((service) => service.build?.target ?? []).filter((target) => !targets.includes(target)), [])
  for (const [, path] of dockerfile.matchAll(/\/opt\/lichen\/(\S+) \/opt/g)) t.ok(existsSync(join(root, path!)), String(path))
  const programs = [...`${dockerfile}\n${JSON.stringify(compose)}`.matchAll(/packages\/(\w+)\/dist\/(\w+)\.js/g)]
  t.ok(programs.length >= 3)
  for (const [, name, file] of programs) t.ok(existsSync(join(root, `packages/${name}/src/${file}.ts`)), `${name}/${file}`)
  t.ok(existsSync(join(root, 'packages/cli/bin/lichen.js')))
})

t.test('every setting of the server services is one, and they start with them', async (t) => {
  const known = Object.values(settings).map((setting) => setting.name)
  for (const [name, roles] of [['api-1', ['api']], ['api-2', ['api']], ['engine-1', ['engine', 'gateway']], ['engine-2', ['engine', 'gateway']]] as const) {
    const environment = compose.services[name]?.environment ?? {}
    t.same(Object.keys(environment).filter((key) => !known.includes(key as never)), [], name)
    const env = Object.fromEntries(Object.entries(environment).map(([key, value]) => [key, value.replace(/\$\{\w+:-([^}]*)\}/g, '$1')]))
    const parsed = parseConfiguration({ env, workingDirectory: '/', checkout: '/', isTerminal: false })
    t.match(parsed, { roles, storeUrl: 'postgres://lichen:lichen@postgres:5432/lichen' })
    t.equal(parsed.brokerUrl?.split(',').length, 3, 'every member of the cluster')
    if (name.startsWith('engine')) t.equal(parsed.gatewayAdvertise, `${name}:8471`)
  }
  const image = Object.fromEntries([...dockerfile.matchAll(/(LICHEN_\w+)=(\S+)/g)].map((match) => [match[1], match[2]]))
  t.match(parseConfiguration({ env: image, workingDirectory: '/', checkout: '/', isTerminal: false }), { host: '0.0.0.0', dataDirectory: '/var/lib/lichen', unknownNames: [] })
})

t.test('volumes are declared, dependencies exist, and who is waited for to be healthy has a check of it', async (t) => {
  for (const [name, service] of Object.entries(compose.services)) {
    for (const volume of service.volumes ?? []) t.ok(volume.split(':')[0]! in compose.volumes, `${name}: ${volume}`)
    for (const [other, { condition }] of Object.entries(service.depends_on ?? {})) {
      const found = compose.services[other]
      t.ok(found, `${name} depends on ${other}`)
      if (condition === 'service_healthy') t.ok(found?.healthcheck?.test ?? (found?.image === 'lichen-server' && dockerfile.includes('HEALTHCHECK')), `${other} has a check`)
    }
  }
})
