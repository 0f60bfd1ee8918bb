/** What takes nodes that are gone out of a cloud: the scripts themselves, which ask an identity service and a cloud of the test. */
import { spawn } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join, resolve } from 'node:path'
import t, { type Test } from 'tap'

const read = (name: string): string => readFileSync(resolve(import.meta.dirname, '../../catalog', name), 'utf8')
const sourceOf = (name: string): string => read(name).replace("{% include 'shared/openstack/session.py' %}", read('shared/openstack/session.py'))

interface Entry {
  readonly id: string
  readonly host: string
  readonly binary?: string
}

/** A cloud that knows these services, agents and servers. */
async function start(t: Test, template: string) {
  const cloud = { services: [] as Entry[], agents: [] as Entry[], servers: [] as (Entry & { readonly name: string; readonly status: string })[], status: 200 }
  const server = createServer((request, response) => {
    const answer = (status: number, body: unknown, headers = {}) => void response.writeHead(status, headers).end(JSON.stringify(body))
    const { pathname, searchParams } = new URL(request.url!, url)
    const of = <Known extends Entry>(list: readonly Known[]) => list.filter(({ host }) => host === searchParams.get('host'))
    if (pathname === '/v3/auth/tokens') return answer(201, { token: { project: { id: 'p1' }, catalog: ['network', 'compute'].map((type) => ({ type, endpoints: [{ interface: 'internal', region: 'RegionOne', url }] })) } }, { 'X-Subject-Token': 'token' })
    if (cloud.status !== 200) return answer(cloud.status, {})
    if (request.method === 'GET' && pathname === '/os-services') return answer(200, { services: cloud.services })
    if (request.method === 'GET' && pathname === '/servers/detail') return answer(200, { servers: of(cloud.servers) })
    if (request.method === 'GET' && pathname === '/v2.0/agents') return answer(200, { agents: of(cloud.agents) })
    const [, list, id] = /^\/(?:v2\.0\/)?(os-services|agents)\/(.+)$/.exec(pathname) ?? []
    if (request.method !== 'DELETE' || list === undefined) return answer(404, { message: `${request.method} ${pathname}` })
    const name = list === 'agents' ? 'agents' : 'services'
    cloud[name] = cloud[name].filter((each) => each.id !== id)
    answer(204, {})
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => server.close())
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const directory = t.testdir()
  const [script, file] = [join(directory, 'forget'), join(directory, 'check.json')]
  writeFileSync(script, sourceOf(template))
  writeFileSync(file, JSON.stringify({ url: `${url}/v3`, user: 'nova', password: 'secret', project: 'service', domain: 'Default', region: 'RegionOne' }))
  const run = async (what: 'is-done' | 'do', ...hosts: string[]) => {
    const child = spawn('python3', [script, file, what, ...hosts], { stdio: ['ignore', 'pipe', 'pipe'] })
    let [printed, said] = ['', '']
    child.stdout.setEncoding('utf8').on('data', (text: string) => (printed += text))
    child.stderr.setEncoding('utf8').on('data', (text: string) => (said += text))
    const code = await new Promise((resolve) => child.once('close', resolve))
    return { code, printed, said }
  }
  return { cloud, run }
}

t.test('a compute node that is gone is forgotten once no server of it is left', async (t) => {
  const { cloud, run } = await start(t, 'nova-controller/templates/forget.py.liquid')
  cloud.services = ['n1', 'n2', 'n3'].map((host) => ({ id: `s-${host}`, host }))
  cloud.servers = [{ id: 'i1', host: 'n2', name: 'first', status: 'ACTIVE' }, { id: 'i2', host: 'n2', name: 'second', status: 'ERROR' }, { id: 'i3', host: 'n1', name: 'elsewhere', status: 'ACTIVE' }]
  t.match(await run('is-done', 'n4'), { code: 0 }, 'one that left in order')
  t.match(await run('is-done', 'n4', 'n2'), { code: 1 })
  t.match(await run('do', 'n3', 'n2'), { code: 1, printed: 'n3 is forgotten\n', said: 'n2 is gone, and the cloud still has servers of it: first (i1, active), second (i2, error); bring them up on another node (openstack server evacuate) or delete them, and apply again\n' })
  t.same(cloud.services.map(({ host }) => host), ['n1', 'n2'])
  cloud.servers = cloud.servers.filter(({ host }) => host !== 'n2')
  t.match(await run('do', 'n3', 'n2'), { code: 0, printed: 'n2 is forgotten\n' })
  t.match(await run('is-done', 'n3', 'n2'), { code: 0 })
  t.same(cloud.services.map(({ host }) => host), ['n1'])
  cloud.status = 503
  for (const what of ['is-done', 'do'] as const) t.match(await run(what, 'n2'), { code: 1, said: /^the compute service: .*HTTP 503/ })
})

t.test('agents of nodes that are gone are forgotten', async (t) => {
  const { cloud, run } = await start(t, 'shared/openstack/forget-agents.py.liquid')
  cloud.agents = [['a1', 'n1', 'neutron-dhcp-agent'], ['a2', 'n2', 'neutron-linuxbridge-agent'], ['a3', 'n2', 'neutron-l3-agent']].map(([id, host, binary]) => ({ id: id!, host: host!, binary: binary! }))
  t.match(await run('is-done', 'n3'), { code: 0 })
  t.match(await run('is-done', 'n3', 'n2'), { code: 1 })
  t.match(await run('do', 'n3', 'n2'), { code: 0, printed: 'neutron-linuxbridge-agent of n2 is forgotten\nneutron-l3-agent of n2 is forgotten\n' })
  t.same(cloud.agents.map(({ id }) => id), ['a1'])
  t.match(await run('is-done', 'n3', 'n2'), { code: 0 })
  cloud.status = 503
  for (const what of ['is-done', 'do'] as const) t.match(await run(what, 'n2'), { code: 1, said: /^the network service: .*HTTP 503/ })
})
