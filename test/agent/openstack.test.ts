// The services themselves are in test/e2e: here is what they do at their edges.
import { createHash } from 'node:crypto'
import { readdirSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { AttemptResult, Command, CommandSpec } from '@lichen/core'
import { eventually } from '../eventually.js'
import { makeDirectory, startGateway, startTestAgent } from './agent.js'
import { makeCommand, type TestGateway } from './gateway.js'
import { startCloud, type TestCloud } from './openstack-cloud.js'

type Spec = CommandSpec<'openstack'>
type Resources = Spec['resources']

interface Fixture {
  readonly cloud: TestCloud
  readonly gateway: TestGateway
  readonly directory: string
  command(resources: Resources, more?: Partial<Omit<Spec, 'auth'>> & { auth?: Partial<Spec['auth']> }, timeoutMs?: number): Command
  run(resources: Resources, more?: Parameters<Fixture['command']>[1], mode?: 'do' | 'check'): Promise<AttemptResult & { log: string }>
}

async function start(t: Test): Promise<Fixture> {
  const gateway = await startGateway(t)
  const { directory } = await startTestAgent(t, gateway)
  const cloud = await startCloud(t)
  const command: Fixture['command'] = (resources, { auth, ...more } = {}, timeoutMs) =>
    makeCommand('openstack', { auth: { url: `${cloud.url}/v3`, user: 'admin', password: 'admin-secret', project: 'admin', region: 'RegionOne', ...auth }, resources, ...more }, timeoutMs)
  return { cloud, gateway, directory, command, run: (resources, more, mode) => answer(t, gateway, [command(resources, more)], mode) }
}

async function answer(t: Test, gateway: TestGateway, commands: Command[], mode: 'do' | 'check' = 'do'): Promise<AttemptResult & { log: string }> {
  const key = gateway.order({ commands, mode, timeoutMs: 60_000 })
  const { result } = await eventually(t, 'the result', () => gateway.resultOf(key), { timeoutMs: 60_000 })
  return { ...result, log: gateway.logOf(key) }
}

const diffOf = (result: AttemptResult): string | undefined => result.commands[0]?.diff
const password = 'glance-secret'
const identities: Resources = [
  { domain: { name: 'heat', description: 'stacks' } },
  { project: { name: 'service' } },
  { user: { name: 'glance', password, email: 'glance@example.org' } },
  { user: { name: 'keeper', domain: 'heat' } },
  { role: { name: 'member' } },
  { grant: { role: 'admin', user: 'glance', project: 'service' } },
  { grant: { role: 'admin', user: 'keeper', userDomain: 'heat', domain: 'heat' } },
  { grant: { role: 'member', user: 'glance', system: true } },
  { service: { type: 'image', name: 'glance', endpoints: { public: 'http://192.0.2.1:9292', internal: 'http://192.0.2.2:9292', admin: 'http://192.0.2.2:9292' } } },
]
const madeLines = [
  '+ domain heat: description "stacks"',
  '+ project service',
  '+ user glance: email "glance@example.org"',
  '+ user keeper (domain heat)',
  '+ role member',
  '+ grant of admin to user glance on project service',
  '+ grant of admin to user keeper on domain heat',
  '+ grant of member to user glance on the system',
  '+ service image: name "glance"',
  '+ endpoint of image, public, in region RegionOne: url "http://192.0.2.1:9292"',
  '+ endpoint of image, internal, in region RegionOne: url "http://192.0.2.2:9292"',
  '+ endpoint of image, admin, in region RegionOne: url "http://192.0.2.2:9292"',
]

t.test('identities and services are made once, put right when they were changed, and taken away', async (t) => {
  const { cloud, run } = await start(t)
  const looked = await run(identities, {}, 'check')
  t.match(looked, { outcome: 'succeeded', changed: true })
  t.same(diffOf(looked)?.split('\n'), madeLines)
  t.same(cloud.writes, [], 'looking changes nothing')

  const made = await run(identities)
  t.match(made, { outcome: 'succeeded', changed: true }, made.log)
  t.same(diffOf(made)?.split('\n'), madeLines)
  for (const line of madeLines) t.ok(made.log.includes(line), line)
  const [{ id: service }] = cloud.all('/v3/services') as [{ id: string }]
  t.same(cloud.all('/v3/endpoints').map((endpoint) => [endpoint['service_id'], endpoint['region_id'], endpoint['interface'], endpoint['url']]), [
    [service, 'RegionOne', 'public', 'http://192.0.2.1:9292'],
    [service, 'RegionOne', 'internal', 'http://192.0.2.2:9292'],
    [service, 'RegionOne', 'admin', 'http://192.0.2.2:9292'],
  ])
  t.equal(cloud.links.size, 3)

  const writes = cloud.writes.length
  const requests = cloud.asked.length
  const { logins } = cloud
  t.match(await run(identities), { outcome: 'succeeded', changed: false })
  t.equal(cloud.writes.length, writes, 'nothing was written')
  t.same(cloud.logins, logins, 'the tokens of the look after the change are good still: that of who acts, and that of the user with the password')
  const reads = cloud.asked.slice(requests).filter(({ method }) => method === 'GET').map(({ path, query }) => JSON.stringify([path, query]))
  t.equal(new Set(reads).size, reads.length, 'nothing is read twice in one look')

  const glance = cloud.all('/v3/users').find((user) => user['name'] === 'glance')!
  Object.assign(glance, { password: 'by hand', enabled: false, email: 'x@example.org' })
  cloud.all('/v3/endpoints')[0]!['url'] = 'http://192.0.2.9:9292'
  cloud.links.clear()
  const drift = await run(identities, {}, 'check')
  t.same(diffOf(drift)?.split('\n'), [
    '  user glance:',
    '- email: "x@example.org"',
    '+ email: "glance@example.org"',
    '- enabled: false',
    '+ enabled: true',
    '  password: no token is given for the one asked for',
    ...madeLines.filter((line) => line.startsWith('+ grant')),
    '  endpoint of image, public, in region RegionOne:',
    '- url: "http://192.0.2.9:9292"',
    '+ url: "http://192.0.2.1:9292"',
  ])
  const repaired = await run(identities)
  t.match(repaired, { outcome: 'succeeded', changed: true })
  t.equal(glance['password'], password)
  t.match(await run(identities, {}, 'check'), { changed: false })

  t.notMatch(JSON.stringify([looked, made, drift, repaired]), /glance-secret|by hand|admin-secret|gAAAA/, 'no password and no token is shown')

  t.same(diffOf(await run(identities, { state: 'absent' }, 'check'))?.split('\n')[0], '- endpoint of image, admin, in region RegionOne')
  const removed = await run(identities.filter((resource) => !resource.role), { state: 'absent' })
  t.match(removed, { outcome: 'succeeded', changed: true }, removed.log)
  t.same(['/v3/domains', '/v3/projects', '/v3/users', '/v3/services', '/v3/endpoints'].map((path) => cloud.all(path).length), [1, 1, 1, 0, 0])
  t.equal(cloud.links.size, 0)
  t.match(await run(identities, { state: 'absent' }, 'check'), { changed: true, commands: [{ diff: '- role member' }] }, 'what others of the list belonged to is gone')
  t.match(await run(identities, { state: 'absent' }), { outcome: 'succeeded', changed: true })
  t.match(await run(identities, { state: 'absent' }), { outcome: 'succeeded', changed: false })
})

t.test('a service that another region uses stays when this region goes', async (t) => {
  const { cloud, run } = await start(t)
  const image: Resources = [{ service: { type: 'image', endpoints: { public: 'http://192.0.2.1:9292' } } }]
  t.match(await run(image), { outcome: 'succeeded' })
  cloud.add('/v3/regions', { id: 'RegionTwo' })
  t.match(await run(image, { auth: { region: 'RegionTwo' } }), { outcome: 'succeeded', commands: [{ diff: '+ endpoint of image, public, in region RegionTwo: url "http://192.0.2.1:9292"' }] })
  t.match(await run(image, { state: 'absent' }), { outcome: 'succeeded', changed: true })
  t.same(cloud.all('/v3/endpoints').map((endpoint) => endpoint['region_id']), ['RegionTwo'])
  t.equal(cloud.all('/v3/services').length, 1)
})

t.test('whatever write it ends at, the next run finishes it and makes nothing twice', async (t) => {
  const { cloud, run } = await start(t)
  const seen = new Set<string>()
  // Each write takes effect, and its answer is lost.
  cloud.disturb = ({ method, path, body }) => {
    const what = `${method} ${path} ${JSON.stringify(body)}`
    if (method === 'GET' || path === '/v3/auth/tokens' || seen.has(what)) return undefined
    seen.add(what)
    return 'break'
  }
  let runs = 0
  for (let result = await run(identities); result.outcome !== 'succeeded'; result = await run(identities)) {
    t.match(result.failure, { code: 'COMMAND_OPENSTACK_UNREACHABLE' })
    if (++runs > 20) break
  }
  t.equal(runs, madeLines.length)
  t.same(['/v3/domains', '/v3/projects', '/v3/users', '/v3/roles', '/v3/services', '/v3/endpoints'].map((path) => cloud.all(path).length), [2, 2, 3, 2, 1, 3])
})

t.test('what is wrong is said by a code, and by what exists', async (t) => {
  const { cloud, run, command, gateway } = await start(t)
  const failures = async (resources: Resources, more: Parameters<Fixture['command']>[1], expected: { code: string; message: RegExp }): Promise<void> => {
    const result = await run(resources, more)
    t.match(result, { outcome: 'failed', failure: expected }, JSON.stringify(result.failure))
  }
  const project: Resources = [{ project: { name: 'demo' } }]
  const network: Resources = [{ network: { name: 'net' } }]

  await failures(project, { auth: { password: 'wrong-secret' } }, { code: 'COMMAND_OPENSTACK_CREDENTIALS', message: /no token for user admin \(domain Default\) in project admin .*answered 401: The request you have made/ })
  await failures(project, { auth: { url: `${cloud.url}/no-keystone/v3` } }, { code: 'COMMAND_OPENSTACK_CREDENTIALS', message: /401/ })
  await failures([{ service: { type: 'image', endpoints: { public: 'http://192.0.2.1' } } }], { auth: { region: 'regionOne' } }, { code: 'COMMAND_OPENSTACK_NOT_FOUND', message: /there is no region regionOne; there is RegionOne/ })
  await failures(network, {}, { code: 'COMMAND_OPENSTACK_NO_ENDPOINT', message: /no public endpoint of a service of type network in region RegionOne; it is empty/ })
  cloud.offer('network', '', 'RegionOne')
  cloud.offer('network', '', 'RegionTwo', 'internal')
  await failures(network, { auth: { region: 'regionOne' } }, { code: 'COMMAND_OPENSTACK_NO_ENDPOINT', message: /in region regionOne; it has public in region RegionOne, internal in region RegionTwo/ })
  await failures([{ flavor: { name: 'f', vcpus: 1, ramMiB: 1, diskGiB: 0 } }], {}, { code: 'COMMAND_OPENSTACK_NO_ENDPOINT', message: /it has services of type network, in region RegionOne, RegionTwo/ })
  await failures([{ user: { name: 'u', domain: 'nowhere' } }], {}, { code: 'COMMAND_OPENSTACK_NOT_FOUND', message: /user u \(domain nowhere\): there is no domain nowhere/ })
  await failures(project, { auth: { system: true } }, { code: 'COMMAND_BAD_SPEC', message: /exactly one of project and system/ })
  await failures([{ grant: { role: 'admin', user: 'admin' } }], {}, { code: 'COMMAND_BAD_SPEC', message: /exactly one of project, domain and system/ })
  await failures([{ image: { name: 'i', diskFormat: 'raw', url: 'http://192.0.2.1/' } }], {}, { code: 'COMMAND_BAD_SPEC', message: /sha256 with url/ })

  cloud.disturb = ({ method }) => (method === 'POST' ? undefined : { status: 403, body: { error: { message: 'You are not authorized to perform the requested action: identity:list_domains.' } } })
  await failures(project, {}, { code: 'COMMAND_OPENSTACK_FORBIDDEN', message: /identity: GET \/domains: answered 403: You are not authorized/ })
  cloud.disturb = ({ path }) => (path === '/v2.0/networks' ? { status: 409, body: { NeutronError: { type: 'OverQuota', message: "Quota exceeded for resources: ['network'].", detail: '' } } } : undefined)
  await failures(network, {}, { code: 'COMMAND_OPENSTACK_QUOTA', message: /OverQuota: Quota exceeded/ })
  cloud.disturb = ({ method, path }) => (method === 'POST' && path === '/v3/projects' ? { status: 409, body: { error: { message: 'it is not possible to do so' } } } : undefined)
  await failures(project, {}, { code: 'COMMAND_OPENSTACK_CONFLICT', message: /answered 409: it is not possible/ })
  cloud.disturb = ({ method, path }) => (method === 'POST' && path === '/v3/projects' ? { status: 400, body: '<html><head><title>no</title></head><body><h1>Bad</h1>request</body></html>' } : undefined)
  await failures(project, {}, { code: 'COMMAND_OPENSTACK_REFUSED', message: /answered 400: Bad request$/ })
  cloud.disturb = () => undefined

  const ids = [cloud.add('/v3/services', { type: 'volume', name: 'a' }), cloud.add('/v3/services', { type: 'volume', name: 'b' })].map((service) => service['id'] as string)
  await failures([{ service: { type: 'volume' } }], {}, { code: 'COMMAND_OPENSTACK_AMBIGUOUS', message: new RegExp(`there are 2 of service type volume: ${ids.join(', ')}`) })

  cloud.disturb = ({ path }) => (path === '/v3/projects' ? 'hang' : undefined)
  t.match(await answer(t, gateway, [command(project, {}, 1500)]), { outcome: 'timedOut', failure: { code: 'COMMAND_TIMED_OUT' } }, 'a server that hangs is waited for as long as the command may take')
})

t.test('in check mode a cloud that is not there yet is a difference', async (t) => {
  const { cloud, run } = await start(t)
  t.match(await run([{ project: { name: 'x' } }], { auth: { password: 'wrong-secret' } }, 'check'), { outcome: 'succeeded', changed: true, commands: [{ diff: /no token for user admin/ }] })
  t.match(await run([{ network: { name: 'x' } }], {}, 'check'), { outcome: 'succeeded', changed: true, commands: [{ diff: '+ network x' }] }, 'nor is a service that is not there')
  cloud.disturb = () => ({ status: 403 })
  t.match(await run([{ project: { name: 'x' } }], {}, 'check'), { outcome: 'failed', failure: { code: 'COMMAND_OPENSTACK_FORBIDDEN' } })
})

t.test('a token serves the commands that follow, until something is changed, it is revoked, or another user asks', async (t) => {
  const { cloud, run } = await start(t)
  const asked = () => cloud.logins.scoped
  await run([{ project: { name: 'service' } }])
  t.equal(asked(), 2, 'one to look and to act, one to look again: what was changed may have changed what tokens say')
  t.match(await run([{ project: { name: 'service' } }]), { outcome: 'succeeded', changed: false })
  t.equal(asked(), 2, 'the next one needs none')
  cloud.revoke()
  t.match(await run([{ project: { name: 'service' } }]), { outcome: 'succeeded', changed: false })
  t.equal(asked(), 3, 'one that is refused is replaced')
  t.match(await run([{ project: { name: 'service' } }], { auth: { password: 'another' } }), { outcome: 'failed', failure: { code: 'COMMAND_OPENSTACK_CREDENTIALS' } }, 'a token is for those who know the password')
})

t.test('servers that are just starting are asked again, tokens that are revoked are replaced, lists are read to their end', async (t) => {
  const { cloud, run } = await start(t)
  let refused = 0
  cloud.disturb = ({ path }) => (path === '/v3/auth/tokens' && refused++ < 2 ? { status: 503, body: 'no app loaded' } : undefined)
  const patient = await run([{ project: { name: 'first' } }])
  t.match(patient, { outcome: 'succeeded', log: /auth\/tokens: answered 503; trying again in 500 ms/ })

  let writes = 0
  cloud.disturb = ({ method, path }) => (method === 'POST' && path === '/v3/projects' ? (writes++, { status: 503 }) : undefined)
  t.match(await run([{ project: { name: 'second' } }]), { outcome: 'failed', failure: { code: 'COMMAND_OPENSTACK_UNREACHABLE', message: /POST \/projects: answered 503/ } })
  t.equal(writes, 1, 'a write is not repeated')

  let isRevoked = false
  cloud.disturb = ({ method, path }) => {
    if (method === 'POST' && path === '/v3/projects' && !isRevoked) {
      isRevoked = true
      cloud.revoke()
    }
    return undefined
  }
  t.match(await run([{ project: { name: 'third' } }]), { outcome: 'succeeded', changed: true })

  cloud.pageSize = 2
  cloud.offer('compute', '/v2.1/')
  cloud.offer('image', '')
  cloud.offer('network', '')
  for (let n = 0; n < 7; n++) {
    cloud.add('/v2.1/flavors', { name: `f${n}`, vcpus: 1, ram: 64, disk: 0 })
    cloud.add('/v3/regions', { id: `R${n}` })
    cloud.add('/v2.0/security-groups', { name: n === 6 ? 'sg' : 'other', project_id: 'p-admin' })
  }
  cloud.disturb = () => undefined
  t.match(await run([{ flavor: { name: 'f6', vcpus: 1, ramMiB: 64, diskGiB: 0 } }, { region: { name: 'R6' } }]), { outcome: 'succeeded', changed: false })
})

t.test('nobody listens: that is tried for a while, and then said', { timeout: 60_000 }, async (t) => {
  const { run } = await start(t)
  const result = await run([{ project: { name: 'x' } }], { auth: { url: 'http://127.0.0.1:9' } })
  t.match(result, { outcome: 'failed', failure: { code: 'COMMAND_OPENSTACK_UNREACHABLE', message: /POST http:\/\/127\.0\.0\.1:9\/v3\/auth\/tokens: .*ECONNREFUSED.* \(5 tries\)/ } }, JSON.stringify(result.failure))
})

t.test('networks, flavors, keys and quotas', async (t) => {
  const { cloud, run } = await start(t)
  cloud.offer('network', '')
  cloud.offer('compute', '/v2.1')
  const resources: Resources = [
    { network: { name: 'provider', type: 'flat', physicalNetwork: 'physnet1', shared: true, external: true } },
    { subnet: { name: 'provider-v4', network: 'provider', cidr: '192.0.2.0/24', gateway: '192.0.2.1', dhcp: true, dns: ['192.0.2.53'], pools: [{ start: '192.0.2.128', end: '192.0.2.199' }] } },
    { network: { name: 'inner' } },
    { subnet: { name: 'inner-v4', network: 'inner', cidr: '198.51.100.0/24', gateway: 'none' } },
    { router: { name: 'out', externalNetwork: 'provider', subnets: ['inner-v4'] } },
    { securityGroup: { name: 'web', description: 'the web' } },
    { securityGroupRule: { group: 'web', protocol: 'tcp', ports: { first: 22, last: 22 } } },
    { securityGroupRule: { group: 'web', remoteGroup: 'web' } },
    { flavor: { name: 'tiny', vcpus: 1, ramMiB: 512, diskGiB: 1, swapMiB: 0, extraSpecs: { 'hw:cpu_policy': 'shared' } } },
    { keypair: { name: 'key', publicKey: 'ssh-ed25519 AAAAC3 me@here' } },
    { quota: { project: 'admin', compute: { cores: 64 }, network: { network: -1 } } },
  ]
  const made = await run(resources)
  t.match(made, { outcome: 'succeeded', changed: true }, JSON.stringify(made.failure))
  t.match(cloud.all('/v2.0/networks')[0], { 'name': 'provider', 'project_id': 'p-admin', 'provider:network_type': 'flat', 'provider:physical_network': 'physnet1', 'shared': true, 'router:external': true })
  t.match(cloud.all('/v2.0/subnets'), [{ ip_version: 4, gateway_ip: '192.0.2.1', enable_dhcp: true }, { gateway_ip: null }])
  t.match(cloud.all('/v2.0/routers')[0], { external_gateway_info: { network_id: cloud.all('/v2.0/networks')[0]!['id'] } })
  t.match(cloud.all('/v2.0/security-group-rules'), [{ direction: 'ingress', ethertype: 'IPv4', protocol: 'tcp', port_range_min: 22 }, { protocol: null, remote_group_id: cloud.all('/v2.0/security-groups')[0]!['id'] }])
  t.equal(cloud.all('/v2.0/ports').length, 1)
  t.match(cloud.all('/v2.1/flavors')[0], { name: 'tiny', vcpus: 1, ram: 512, disk: 1 })
  // As real services show it.
  cloud.all('/v2.1/flavors')[0]!['swap'] = ''
  cloud.all('/v2.0/routers')[0]!['external_gateway_info'].enable_snat = true
  t.match(await run(resources), { outcome: 'succeeded', changed: false })

  cloud.all('/v2.0/networks')[0]!['shared'] = false
  cloud.all('/v2.1/flavors')[0]!['ram'] = 1024
  cloud.all('/v2.1/os-keypairs')[0]!['public_key'] = 'ssh-ed25519 BBBB me@here'
  cloud.values.get('/v2.1/os-quota-sets/p-admin')!['cores'] = 20
  cloud.all('/v2.0/subnets')[1]!['gateway_ip'] = '198.51.100.1'
  const put = await run(resources)
  t.match(put, { outcome: 'succeeded', changed: true }, JSON.stringify(put.failure))
  t.same(diffOf(put)?.split('\n'), [
    '  network provider:', '- shared: false', '+ shared: true',
    '  subnet inner-v4:', '- gateway: "198.51.100.1"', '+ gateway: none',
    '  flavor tiny:', '- ramMiB: 1024', '+ ramMiB: 512',
    // the flavor that is made anew has none
    '  keypair key:', '- publicKey: "ssh-ed25519 BBBB"', '+ publicKey: "ssh-ed25519 AAAAC3"',
    '  compute quota of project admin:', '- cores: 20', '+ cores: 64',
  ])
  t.equal(cloud.all('/v2.1/flavors').length, 1)
  t.match(await run(resources, {}, 'check'), { changed: false })

  const vlan: Resources = [{ network: { name: 'provider', type: 'vlan' } }]
  t.match(await run(vlan, {}, 'check'), { outcome: 'succeeded', changed: true, commands: [{ diff: /- type: "flat"\n\+ type: "vlan"/ }] })
  t.match(await run(vlan), { outcome: 'failed', failure: { code: 'COMMAND_OPENSTACK_FIXED', message: /network provider is there, and type cannot be changed/ } })

  const foreign = cloud.add('/v2.0/networks', { name: 'inner', project_id: 'p-other' })
  t.match(await run(resources), { outcome: 'succeeded', changed: false }, 'one of the same name in another project is not meant')
  const second = cloud.add('/v2.0/networks', { name: 'inner', project_id: 'p-admin' })
  t.match(await run(resources), { failure: { code: 'COMMAND_OPENSTACK_AMBIGUOUS', message: /there are 2 of network name inner/ } })
  cloud.items.set('/v2.0/networks', cloud.all('/v2.0/networks').filter((network) => network !== second && network !== foreign))

  const inner = cloud.all('/v2.0/subnets').find((each) => each['name'] === 'inner-v4')!
  const floating = cloud.add('/v2.0/ports', { network_id: inner['network_id'], device_owner: 'network:floatingip', device_id: 'f-1', fixed_ips: [{ subnet_id: inner['id'], ip_address: '10.0.0.9' }, { subnet_id: 'another', ip_address: '10.1.0.9' }] })
  cloud.disturb = ({ method, path }) => (method === 'DELETE' && path === `/v2.0/subnets/${String(inner['id'])}` ? { status: 409, body: { NeutronError: { type: 'SubnetInUse', message: 'One or more ports have an IP allocation from this subnet.' } } } : undefined)
  const subnet: Resources = [{ subnet: { name: 'inner-v4', network: 'inner', cidr: '10.0.0.0/24' } }]
  const refused = await run(subnet, { state: 'absent' })
  t.match(refused, { outcome: 'failed', failure: { code: 'COMMAND_OPENSTACK_CONFLICT', message: /One or more ports[^]*\nin use: .*\b10\.0\.0\.9 \(network:floatingip f-1\)$/ } }, 'what keeps it is named')
  cloud.disturb = () => undefined
  cloud.items.set('/v2.0/ports', cloud.all('/v2.0/ports').filter((port) => port !== floating))

  const before = cloud.writes.length
  const removed = await run(resources, { state: 'absent' })
  t.match(removed, { outcome: 'succeeded', changed: true }, JSON.stringify(removed.failure))
  t.same(['networks', 'subnets', 'routers', 'ports', 'security-groups', 'security-group-rules'].map((name) => cloud.all(`/v2.0/${name}`).length), [0, 0, 0, 0, 0, 0])
  t.same(cloud.writes.slice(before).map((write) => write.replace(/id-\d+/, 'ID')), [
    'DELETE /v2.1/os-keypairs/key', 'DELETE /v2.1/flavors/ID', 'DELETE /v2.0/security-group-rules/ID', 'DELETE /v2.0/security-group-rules/ID', 'DELETE /v2.0/security-groups/ID',
    'PUT /v2.0/routers/ID/remove_router_interface', 'DELETE /v2.0/routers/ID', 'DELETE /v2.0/subnets/ID', 'DELETE /v2.0/networks/ID', 'DELETE /v2.0/subnets/ID', 'DELETE /v2.0/networks/ID',
  ])
})

t.test('images are uploaded when they are images, and compared by what is in them', async (t) => {
  const { cloud, run, directory } = await start(t)
  cloud.offer('image', '')
  const path = join(directory, 'disk.qcow2')
  const content = Buffer.concat([Buffer.from('QFI\u00fb', 'latin1'), Buffer.alloc(3_000_000, 7)])
  const image = (more: object = {}): Resources => [{ image: { name: 'debian', file: path, diskFormat: 'qcow2', visibility: 'public', properties: { hw_disk_bus: 'virtio' }, ...more } }]

  t.match(await run(image(), {}, 'check'), { changed: true, commands: [{ diff: '+ image debian: diskFormat "qcow2", containerFormat "bare", visibility "public", properties {"hw_disk_bus":"virtio"}' }] })
  t.match(await run(image()), { outcome: 'failed', failure: { code: 'COMMAND_OPENSTACK_IMAGE', message: /disk\.qcow2: there is no such file/ } })
  for (const [what, text, format, message] of [
    ['nothing', '', 'qcow2', /it is empty/],
    ['a page', '<!DOCTYPE html><html>moved</html>', 'raw', /it is a page of HTML/],
    ['something else', 'MZ..............', 'qcow2', /begins with "MZ/],
    ['a packed one', '\u001f\u008b\u0008.....', 'raw', /packed with gzip/],
    ['another format', 'QFI\u00fb......', 'raw', /is of format qcow2/],
  ] as const) {
    writeFileSync(path, Buffer.from(text, 'latin1'))
    t.match(await run(image({ diskFormat: format })), { outcome: 'failed', failure: { code: 'COMMAND_OPENSTACK_IMAGE', message } }, what)
  }
  t.same(cloud.writes, [], 'nothing was made of them')

  writeFileSync(path, content)
  const made = await run(image())
  t.match(made, { outcome: 'succeeded', changed: true, log: /uploading 3000004 bytes/ }, JSON.stringify(made.failure))
  t.match(cloud.all('/v2/images'), [{ name: 'debian', status: 'active', size: content.length, disk_format: 'qcow2', container_format: 'bare', hw_disk_bus: 'virtio', visibility: 'public' }])
  t.notOk('content' in cloud.all('/v2/images')[0]!)
  t.match(await run(image()), { outcome: 'succeeded', changed: false })

  const [first] = cloud.all('/v2/images')
  t.match(await run(image({ visibility: 'private', properties: { hw_disk_bus: 'scsi', os_distro: 'debian' } })), { outcome: 'succeeded', changed: true, commands: [{ diff: '  image debian:\n- visibility: "public"\n+ visibility: "private"\n- hw_disk_bus: "virtio"\n+ hw_disk_bus: "scsi"\n- os_distro: none\n+ os_distro: "debian"' }] })
  t.equal(cloud.all('/v2/images')[0], first, 'properties change in place')

  content[2_000_000] = 8
  writeFileSync(path, content)
  t.match(await run(image(), {}, 'check'), { changed: true, commands: [{ diff: /content: another sha512/ }] })
  writeFileSync(path, 'broken')
  t.match(await run(image()), { failure: { code: 'COMMAND_OPENSTACK_IMAGE' } })
  t.equal(cloud.all('/v2/images').length, 1, 'the old image stays while there is none to replace it')
  writeFileSync(path, content)
  t.match(await run(image()), { outcome: 'succeeded', changed: true })
  t.same(cloud.all('/v2/images').map((each) => each['os_hash_value']), [createHash('sha512').update(content).digest('hex')])

  cloud.disturb = ({ path: asked }) => (asked.endsWith('/file') ? 'break' : undefined)
  t.match(await run([{ image: { name: 'lost', file: path, diskFormat: 'qcow2' } }]), { outcome: 'failed', failure: { code: 'COMMAND_OPENSTACK_UNREACHABLE' } })
  t.equal(cloud.all('/v2/images').length, 1, 'an upload that failed leaves no image')
  cloud.disturb = ({ path: asked }) => (asked.endsWith('/file') ? { status: 413, body: '<html><body>Request Entity Too Large</body></html>' } : undefined)
  t.match(await run([{ image: { name: 'lost', file: path, diskFormat: 'qcow2' } }]), { failure: { code: 'COMMAND_OPENSTACK_QUOTA' } })
  cloud.disturb = () => undefined
  cloud.add('/v2/images', { name: 'lost', owner: 'p-admin', status: 'queued', disk_format: 'qcow2', container_format: 'bare' })
  t.match(await run([{ image: { name: 'lost', file: path, diskFormat: 'qcow2' } }]), { outcome: 'succeeded', changed: true, commands: [{ diff: /- status: "queued"\n\+ status: "active"/ }] }, 'one that was never uploaded is made anew')
  t.same(cloud.all('/v2/images').map((each) => each['status']), ['active', 'active'])
})

t.test('an image from a URL is known by its digest, and fetched only to be uploaded', async (t) => {
  const { cloud, run, directory } = await start(t)
  cloud.offer('image', '')
  let fetched = 0
  const content = Buffer.concat([Buffer.from('QFI\u00fb', 'latin1'), Buffer.alloc(1000)])
  const server = createServer((_request, response) => {
    fetched++
    response.end(content)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => server.close())
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/disk`
  const sha256 = createHash('sha256').update(content).digest('hex')
  const resources: Resources = [{ image: { name: 'debian', url, sha256, diskFormat: 'qcow2' } }, { image: { name: 'kernel', url, sha256, diskFormat: 'aki' } }, { image: { name: 'whole', url, sha256, diskFormat: 'qcow2', kernel: 'kernel' } }]
  const looked = await run(resources, {}, 'check')
  t.match(looked, { changed: true })
  const made = await run(resources)
  t.match(made, { outcome: 'succeeded', changed: true }, JSON.stringify(made.failure))
  t.match(cloud.all('/v2/images')[2], { lichen_sha256: sha256, kernel_id: cloud.all('/v2/images')[1]!['id'] })
  t.match(cloud.all('/v2/images')[1], { disk_format: 'aki', container_format: 'aki' })
  t.equal(fetched, 3)
  t.match(await run(resources), { outcome: 'succeeded', changed: false })
  t.equal(fetched, 3)
  t.match(await run([{ image: { name: 'other', url, sha256: '0'.repeat(64), diskFormat: 'qcow2' } }]), { failure: { code: 'COMMAND_DIGEST_MISMATCH' } })
  t.same(readdirSync(join(directory, 'downloads')), [], 'what was fetched is removed')
})

t.test('a confined agent changes no cloud', async (t) => {
  const gateway = await startGateway(t)
  await startTestAgent(t, gateway, { confine: makeDirectory(t) })
  const command = makeCommand('openstack', { auth: { url: 'http://127.0.0.1:9', user: 'u', password: 'p', project: 'x' }, resources: [] })
  t.match(await answer(t, gateway, [command]), { failure: { code: 'COMMAND_CONFINED' } })
})
