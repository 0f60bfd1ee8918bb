/** The look at a service of a cloud: the script itself, which asks an identity service and an image service of the test. */
import { spawn } from 'node:child_process'
import { mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join, resolve } from 'node:path'
import t, { type Test } from 'tap'

const shared = (name: string): string => readFileSync(resolve(import.meta.dirname, '../../catalog/shared/openstack', name), 'utf8')
const source = shared('api-check.py.liquid').replace("{% include 'shared/openstack/session.py' %}", shared('session.py'))

async function start(t: Test) {
  const cloud = { password: 'right', logins: 0, valid: new Set<string>(), status: 200, public: 'http://192.0.2.1:9292', answers: {} as Record<string, unknown> }
  const server = createServer((request, response) => {
    const parts: Buffer[] = []
    request.on('data', (part: Buffer) => parts.push(part))
    request.on('end', () => {
      const answer = (status: number, body: unknown, headers = {}) => void response.writeHead(status, headers).end(JSON.stringify(body))
      if (request.url === '/v3/auth/tokens') {
        cloud.logins++
        if (JSON.parse(Buffer.concat(parts).toString()).auth.identity.password.user.password !== cloud.password) return answer(401, { error: 'not authorised' })
        const token = `token-${cloud.logins}`
        cloud.valid.add(token)
        const endpoints = [['public', cloud.public], ['internal', url]].map(([name, where]) => ({ interface: name, region: 'RegionOne', url: where }))
        return answer(201, { token: { project: { id: 'p1' }, catalog: ['image', 'volumev3', 'network', 'compute'].map((type) => ({ type, endpoints })) } }, { 'X-Subject-Token': token })
      }
      return answer(cloud.valid.has(String(request.headers['x-auth-token'])) ? cloud.status : 401, cloud.answers[String(request.url)] ?? {})
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => server.close())
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const directory = t.testdir()
  const [script, file] = [join(directory, 'api-check'), join(directory, 'check.json')]
  writeFileSync(script, source)
  /** Its exit code and what it says; how many tokens it asked for. */
  const look = async (changes: { password?: string; public?: string; expects?: object[] } = {}) => {
    const expects = changes.expects ?? [{ endpoint: 'image', public: changes.public ?? 'http://192.0.2.1:9292' }, { get: '/v2/images', of: 'image' }]
    writeFileSync(file, JSON.stringify({ url: `${url}/v3`, user: 'glance', password: changes.password ?? 'right', project: 'service', domain: 'Default', region: 'RegionOne', node: 'control', units: ['no-such-unit.service'], expects }))
    const before = cloud.logins
    const child = spawn('python3', [script, file], { stdio: ['ignore', 'ignore', 'pipe'] })
    let said = ''
    child.stderr.setEncoding('utf8').on('data', (text: string) => (said += text))
    const code = await new Promise((resolve) => child.once('close', resolve))
    return { code, said, logins: cloud.logins - before }
  }
  return { cloud, look, kept: `${file}.token`, directory }
}

const well = { code: 0, said: '' }

t.test('its token is kept for the next look, for nobody else to read', async (t) => {
  const { look, kept } = await start(t)
  t.same(await look(), { ...well, logins: 1 })
  t.equal(statSync(kept).mode & 0o777, 0o600)
  t.same(await look(), { ...well, logins: 0 })
  writeFileSync(kept, '{"who": "cut o')
  t.same(await look(), { ...well, logins: 1 }, 'one that cannot be read is none')
  writeFileSync(kept, '["of another"]')
  t.same(await look(), { ...well, logins: 1 }, 'nor is what is no token')
  writeFileSync(kept, JSON.stringify({ ...JSON.parse(readFileSync(kept, 'utf8')), until: Date.now() / 1000 - 1 }))
  t.same(await look(), { ...well, logins: 1 }, 'nor is one whose time is over')
})

t.test('a token that is good no more is replaced', async (t) => {
  const { cloud, look } = await start(t)
  await look()
  cloud.valid.clear()
  t.same(await look(), { ...well, logins: 1 })
})

t.test('what is found with a token from before is looked at once more with a new one', async (t) => {
  const { cloud, look } = await start(t)
  await look()
  cloud.public = 'http://192.0.2.2:9292'
  t.same(await look({ public: cloud.public }), { ...well, logins: 1 }, 'the catalogue has changed since')
  t.match(await look({ public: 'http://192.0.2.3:9292' }), { code: 1, said: 'public endpoint of image in region RegionOne: wanted http://192.0.2.3:9292, found http://192.0.2.2:9292\n', logins: 1 })
  cloud.status = 503
  t.match(await look({ public: cloud.public }), { code: 1, said: /\/v2\/images: HTTP 503/, logins: 1 })
})

t.test('a token belongs to the password that it was given for', async (t) => {
  const { look } = await start(t)
  await look()
  t.match(await look({ password: 'wrong' }), { code: 1, said: /^no token for user glance in project service: http.*HTTP 401/, logins: 1 })
})

t.test('a backend of volumes is well once the scheduler puts volumes on it', async (t) => {
  const { cloud, look } = await start(t)
  const expects = [{ services: ['cinder-volume@lvm'], of: 'volumev3' }]
  const service = (changes: object = {}) => ({ services: [{ binary: 'cinder-volume', host: 'control@lvm', state: 'up', backend_state: 'up', updated_at: '2026-01-01T00:00:00', ...changes }] })
  const pools = (...names: string[]) => ({ pools: names.map((name) => ({ name })) })
  for (const [services, named, said] of [
    [{ services: [] }, pools(), /^cinder-volume@lvm on control has not reported yet$/m],
    [service({ state: 'down' }), pools('control@lvm#lvm'), /^cinder-volume@lvm on control is down \(last heard of at 2026/],
    [service({ backend_state: null }), pools('control@lvm#lvm'), /is up, but its backend is not: not heard of yet$/m],
    [service(), pools('other@lvm#lvm', 'control@lvm2#lvm2'), /is up, but the scheduler has not heard of its backend yet: no volume can be put on it$/m],
  ] as const) {
    cloud.answers = { '/os-services': services, '/scheduler-stats/get_pools': named }
    t.match(await look({ expects }), { code: 1, said })
  }
  cloud.answers = { '/os-services': service(), '/scheduler-stats/get_pools': pools('control@lvm#lvm') }
  t.match(await look({ expects }), well)
})

t.test('a node that runs servers is well once it is up and mapped in its cell', async (t) => {
  const { cloud, look } = await start(t)
  const expects = [{ compute: 'n1' }]
  const lookAt = (service: object | undefined, ...mapped: string[]) => {
    cloud.answers['/os-services?binary=nova-compute&host=n1'] = { services: service ? [{ binary: 'nova-compute', host: 'n1', state: 'up', updated_at: '2026-01-01T00:00:00', ...service }] : [] }
    cloud.answers['/os-hypervisors/detail'] = { hypervisors: mapped.map((host) => ({ service: { host } })) }
    return look({ expects })
  }
  t.match(await lookAt(undefined), { code: 1, said: 'nova-compute on n1 has not reported to the compute service yet\n' })
  t.match(await lookAt({ state: 'down' }, 'n1'), { code: 1, said: 'nova-compute on n1 is down (last heard of at 2026-01-01T00:00:00)\n' })
  t.match(await lookAt({}, 'n10', 'control'), { code: 1, said: 'nova-compute on n1 is up, but not mapped in its cell yet: no server can be put on it\n' })
  t.match(await lookAt({}, 'n10', 'n1'), well)
})

t.test('a process of the compute service that is down is named, as long as none of its name is up on the node', async (t) => {
  const { cloud, look } = await start(t)
  const expects = [{ services: ['nova-conductor', 'nova-scheduler'], of: 'compute' }]
  const service = (binary: string, state: string, host = 'control', minute = 0) => ({ binary, host, state, updated_at: `2026-01-01T00:0${minute}:00` })
  const lookAt = (...services: object[]) => {
    cloud.answers['/os-services'] = { services }
    return look({ expects })
  }
  const conductor = service('nova-conductor', 'up')
  t.match(await lookAt(conductor, service('nova-scheduler', 'up', 'other')), { code: 1, said: 'nova-scheduler on control has not reported yet\n' })
  t.match(await lookAt(conductor, service('nova-scheduler', 'down', 'control', 2), service('nova-scheduler', 'down', 'control', 1)), { code: 1, said: 'nova-scheduler on control is down (last heard of at 2026-01-01T00:02:00)\n' })
  t.match(await lookAt(conductor, service('nova-scheduler', 'down'), service('nova-scheduler', 'up')), well)
})

t.test('an agent of the network that is not alive is named', async (t) => {
  const { cloud, look } = await start(t)
  const expects = [{ agents: ['neutron-linuxbridge-agent', 'neutron-l3-agent'] }]
  const agent = (binary: string, alive: boolean) => ({ binary, alive, heartbeat_timestamp: '2026-01-01 00:00:00' })
  const lookAt = (...agents: object[]) => {
    cloud.answers['/v2.0/agents?host=control'] = { agents }
    return look({ expects })
  }
  const bridge = agent('neutron-linuxbridge-agent', true)
  t.match(await lookAt(bridge), { code: 1, said: 'neutron-l3-agent on control has not reported to the network service yet\n' })
  t.match(await lookAt(bridge, agent('neutron-l3-agent', false)), { code: 1, said: 'neutron-l3-agent on control is not alive (last heard of at 2026-01-01 00:00:00)\n' })
  t.match(await lookAt(bridge, agent('neutron-l3-agent', true)), well)
})

t.test('a network whose addresses nobody gives is named', async (t) => {
  const { cloud, look, directory } = await start(t)
  const network = (id: string, name = '', up = true) => ({ id, name, admin_state_up: up })
  const askFor = async (...networks: object[]) => {
    cloud.answers['/v2.0/agents/a1/dhcp-networks'] = { networks }
    return look({ expects: [{ dhcp: directory }] })
  }
  cloud.answers['/v2.0/agents?host=control&binary=neutron-dhcp-agent'] = { agents: [{ id: 'a1' }] }
  cloud.answers['/v2.0/subnets?enable_dhcp=true&ip_version=4&fields=network_id'] = { subnets: ['served', 'stale', 'missing'].map((id) => ({ network_id: id })) }
  const dnsmasq = spawn('sh', ['-c', 'read line', `${directory}/served/hosts`], { stdio: ['pipe', 'ignore', 'ignore'] })
  t.teardown(() => dnsmasq.stdin!.end())
  for (const id of ['served', 'stale']) {
    mkdirSync(join(directory, id))
    writeFileSync(join(directory, id, 'pid'), `${dnsmasq.pid}\n`)
  }
  t.match(await askFor(network('served', 'inner'), network('without-addresses'), network('missing', 'off', false)), well)
  t.match(await askFor(network('served'), network('missing', 'outer')), { code: 1, said: 'servers get no address in network outer: neutron-dhcp-agent on control is alive, but runs no dnsmasq there (when it stays so, restart it)\n' })
  t.match(await askFor(network('stale')), { code: 1, said: /^servers get no address in network stale: / }, 'the process with that number is another one')
  t.match(await askFor(), well)
})
