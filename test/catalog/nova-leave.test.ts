/** What takes a compute node out of its cloud: the script itself, which asks an identity service and a compute service of the test. */
import { spawn } from 'node:child_process'
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join, resolve } from 'node:path'
import t, { type Test } from 'tap'

const catalog = resolve(import.meta.dirname, '../../catalog')
const session = readFileSync(join(catalog, 'shared/openstack/session.py'), 'utf8')
const source = readFileSync(join(catalog, 'nova-compute/templates/leave.py.liquid'), 'utf8').replace("{% include 'shared/openstack/session.py' %}", session).replaceAll('time.sleep(2)', 'time.sleep(0.05)')

interface Server {
  readonly id: string
  readonly name: string
  status: string
  task: string | null
  host: string
  /** Why it does not move: `event` is told by the compute service, `log` is in the journal of the node alone. */
  readonly stays?: { readonly event?: string; readonly log?: string; readonly times?: number }
  /** It never ends to move. */
  readonly isSlow?: boolean
  /** It is in error where it arrives. */
  readonly breaks?: string
  fault?: { readonly message: string }
}

interface Migration {
  readonly id: number
  readonly instance_uuid: string
  readonly migration_type: string
  readonly source_compute: string
  readonly dest_compute: string
  status: string
}

/** A cloud of two nodes, n1 (which leaves) and n2. Things go on by one step with each look at the migrations or the servers. */
async function startCloud(t: Test, given: (Partial<Server> & { name: string })[], known: Omit<Migration, 'id'>[] = []) {
  const servers = new Map<string, Server>(given.map((each) => [`id-${each.name}`, { id: `id-${each.name}`, status: 'ACTIVE', task: null, host: 'n1', ...each }]))
  const migrations: Migration[] = known.map((each, index) => ({ id: index, ...each }))
  const cloud = { servers, migrations, said: [] as string[], service: 'enabled', others: [{ host: 'n2', state: 'up', status: 'enabled' }], tries: new Map<string, number>(), conflicts: 0 }
  const actions = new Map<string, { request: string; message: string | null; details?: string | undefined }>()
  const pending: (() => void)[] = []
  const directory = t.testdir()
  const journal = join(directory, 'journal')
  writeFileSync(journal, '')
  const later = (...steps: (() => void)[]): void => void pending.push(...steps)
  const goOn = (): void => pending.shift()?.()

  /** A migration that has begun, and then goes on by these steps, or back when the server stays. */
  const begin = (server: Server, kind: string, status: string, task: string, ...steps: ((migration: Migration) => void)[]): void => {
    const was = server.status
    const migration = { id: migrations.length, instance_uuid: server.id, migration_type: kind, source_compute: 'n1', dest_compute: 'n2', status: 'running' }
    migrations.push(migration)
    Object.assign(server, { status, task })
    const tries = (cloud.tries.get(server.id) ?? 0) + 1
    cloud.tries.set(server.id, tries)
    const request = `req-${server.id}-${tries}`
    actions.set(server.id, { request, message: null })
    if (server.isSlow) return
    if (!server.stays || tries > (server.stays.times ?? Infinity)) return later(...steps.map((step) => () => step(migration)))
    const { event, log } = server.stays
    later(() => {
      Object.assign(server, { status: was, task: null })
      migration.status = 'error'
      actions.set(server.id, { request, message: 'Error', details: event })
      if (log) writeFileSync(journal, `2026-01-01 00:00:00.000 ERROR nova.virt.libvirt.driver: [${request}] ${log}\n`, { flag: 'a' })
    })
  }

  const act = (server: Server, action: Record<string, unknown>): number => {
    const [name] = Object.keys(action) as [string]
    if (cloud.conflicts-- > 0) return 409
    cloud.said.push(`${server.name}: ${name}`)
    const was = server.status
    if (name === 'os-migrateLive') begin(server, 'live-migration', 'MIGRATING', 'migrating', () => Object.assign(server, { status: was, task: null, host: 'n2' }), (migration) => (migration.status = 'completed'))
    else if (name === 'migrate' && server.breaks) begin(server, 'migration', 'RESIZE', 'resize_prep', (migration) => {
      Object.assign(server, { status: 'ERROR', task: null, host: 'n2', fault: { message: server.breaks! } })
      migration.status = 'error'
    })
    else if (name === 'migrate') begin(server, 'migration', 'RESIZE', 'resize_prep', () => Object.assign(server, { task: 'resize_finish', host: 'n2' }), (migration) => {
      Object.assign(server, { status: 'VERIFY_RESIZE', task: null })
      migration.status = 'finished'
    })
    else if (name === 'confirmResize') {
      const migration = migrations.findLast(({ instance_uuid }) => instance_uuid === server.id)!
      migration.status = 'confirming'
      later(() => {
        server.status = 'SHUTOFF'
        migration.status = 'confirmed'
      })
    } else if (name === 'shelve') {
      server.task = 'shelving'
      later(() => Object.assign(server, { status: 'SHELVED_OFFLOADED', task: null, host: '' }))
    } else if (name === 'unshelve') {
      server.task = 'spawning'
      later(() => Object.assign(server, { status: 'ACTIVE', task: null, host: 'n2' }))
    } else if (name === 'os-stop') server.status = 'SHUTOFF'
    return 202
  }

  const http = createServer((request, response) => {
    const parts: Buffer[] = []
    request.on('data', (part: Buffer) => parts.push(part))
    request.on('end', () => {
      const answer = (status: number, body: unknown, headers = {}) => void response.writeHead(status, headers).end(JSON.stringify(body))
      const body = parts.length > 0 ? JSON.parse(Buffer.concat(parts).toString()) as Record<string, unknown> : {}
      const [path, query] = request.url!.split('?') as [string, string | undefined]
      const show = ({ id, name, status, task, fault }: Server) => ({ id, name, status, 'OS-EXT-STS:task_state': task, ...(status === 'ERROR' ? { fault } : {}) })
      const [, root, id, what, which] = path.split('/')
      const server = servers.get(id ?? '')
      if (path === '/v3/auth/tokens') {
        const endpoints = [{ interface: 'internal', region: 'RegionOne', url }]
        return answer(201, { token: { project: { id: 'p1' }, catalog: [{ type: 'compute', endpoints }] } }, { 'X-Subject-Token': 'token' })
      }
      if (root === 'os-services' && request.method === 'GET') return answer(200, { services: cloud.service === 'gone' ? [] : [{ host: 'n1', state: 'up', status: cloud.service }, ...cloud.others].map((each) => ({ id: `service-${each.host}`, ...each })) })
      if (root === 'os-services') {
        const isOver = [...servers.values()].every(({ host }) => host !== 'n1') && migrations.every(({ status }) => ['completed', 'confirmed', 'error'].includes(status))
        if (request.method === 'DELETE' && !isOver) return answer(409, { message: 'the host is not empty' })
        cloud.service = request.method === 'DELETE' ? 'gone' : String(body['status'])
        cloud.said.push(`n1 ${cloud.service}`)
        return answer(200, {})
      }
      if (root === 'os-migrations' && query === 'host=n1') {
        goOn()
        return answer(200, { migrations })
      }
      if (path === '/servers/detail') {
        goOn()
        return answer(200, { servers: [...servers.values()].filter(({ host }) => `all_tenants=1&host=${host}` === query).map(show) })
      }
      if (root !== 'servers' || !server) return answer(404, { message: `nothing at ${path}` })
      if (what === 'action') return answer(act(server, body), { message: 'it is busy' })
      const last = actions.get(server.id)
      if (what === 'os-instance-actions' && which === undefined) return answer(200, { instanceActions: last ? [{ request_id: last.request, message: last.message }] : [] })
      if (what === 'os-instance-actions') return answer(200, { instanceAction: { events: [{ result: 'Success', ...(request.headers['x-openstack-nova-api-version'] === '2.84' ? { details: null } : {}) }, { result: 'Error', details: last!.details ?? null }] } })
      goOn()
      return answer(200, { server: show(server) })
    })
  })
  await new Promise<void>((done) => http.listen(0, '127.0.0.1', done))
  t.teardown(() => http.close())
  const url = `http://127.0.0.1:${(http.address() as AddressInfo).port}`
  const [script, file, programs] = [join(directory, 'leave'), join(directory, 'check.json'), join(directory, 'programs')]
  mkdirSync(programs)
  writeFileSync(join(programs, 'systemctl'), '#!/bin/sh\necho "systemctl $*"\n')
  writeFileSync(join(programs, 'journalctl'), `#!/bin/sh\ncat '${journal}'\n`)
  for (const name of ['systemctl', 'journalctl']) chmodSync(join(programs, name), 0o755)
  writeFileSync(script, source)
  writeFileSync(file, JSON.stringify({ url: `${url}/v3`, user: 'nova', password: 'right', project: 'service', domain: 'Default', region: 'RegionOne', node: 'n1' }))
  const leave = async (policy: string, deadlineS = 30) => {
    const child = spawn('python3', [script, file, policy, String(deadlineS)], { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, PATH: `${programs}:${process.env['PATH']}` } })
    let [said, failed] = ['', '']
    child.stdout.setEncoding('utf8').on('data', (text: string) => (said += text))
    child.stderr.setEncoding('utf8').on('data', (text: string) => (failed += text))
    const code = await new Promise((done) => child.once('close', done))
    return { code, said, failed }
  }
  return { cloud, leave, where: () => Object.fromEntries([...servers.values()].map(({ name, host, status }) => [name, `${status} on ${host}`])) }
}

t.test('servers that run move while they run, those that are stopped move as they are; then the node goes', async (t) => {
  const { cloud, leave, where } = await startCloud(t, [{ name: 'web' }, { name: 'held', status: 'PAUSED' }, { name: 'off', status: 'SHUTOFF' }])
  const { code, said, failed } = await leave('migrate')
  t.equal(code, 0, failed)
  t.same(where(), { web: 'ACTIVE on n2', held: 'PAUSED on n2', off: 'SHUTOFF on n2' })
  t.same(cloud.said, ['n1 disabled', 'web: os-migrateLive', 'held: os-migrateLive', 'off: migrate', 'off: confirmResize', 'n1 gone'])
  t.match(said, /^server web \(id-web, active\): os-migrateLive$/m)
  t.match(said, /^server id-held: live-migration from n1 to n2: running\n[^]*server id-held: live-migration from n1 to n2: completed$/m)
  t.match(said, /^server id-off: migration from n1 to n2: finished\nserver off \(id-off, verify_resize\): confirmResize\n[^]*server id-off: migration from n1 to n2: confirmed\nsystemctl stop nova-compute\.service\n$/m)
})

t.test('a node with servers does not leave when no other one can take them, whatever is to become of them', async (t) => {
  const { cloud, leave, where } = await startCloud(t, [{ name: 'web' }, { name: 'off', status: 'SHUTOFF' }])
  const failed = 'n1 has servers, and there is no other compute node that is up and enabled to take them: web (id-web, active), off (id-off, shutoff)\n'
  const other = cloud.others[0]!
  for (const others of [[], [{ ...other, state: 'down' }], [{ ...other, status: 'disabled' }]]) {
    cloud.others = others
    for (const policy of ['migrate', 'shelve']) t.same(await leave(policy), { code: 1, said: '', failed })
  }
  t.same(cloud.said, [], 'it takes servers as before')
  cloud.others = [other]
  t.match(await leave('migrate'), { code: 0 })
  t.same(where(), { web: 'ACTIVE on n2', off: 'SHUTOFF on n2' })
})

t.test('a node without servers leaves though it is the only one', async (t) => {
  const { cloud, leave } = await startCloud(t, [])
  cloud.others = []
  t.match(await leave('refuse'), { code: 0, failed: '' })
  t.same(cloud.said, ['n1 disabled', 'n1 gone'])
})

t.test('a server that does not move at once is told to once more, with the reason', async (t) => {
  const { cloud, leave, where } = await startCloud(t, [{ name: 'web', stays: { event: 'No valid host was found.', times: 2 } }])
  const { code, said } = await leave('migrate')
  t.equal(code, 0)
  t.same(where(), { web: 'ACTIVE on n2' })
  t.equal(cloud.tries.get('id-web'), 3)
  t.match(said, /^server web \(id-web, active\) has not moved: No valid host was found\.$/m)
})

t.test('one that cannot be moved is given up after some attempts, when the others have moved: with its name and why, and the node takes servers again', async (t) => {
  const log = 'Live Migration failure: unable to connect to server at 10.0.0.2:49152: No route to host'
  const { cloud, leave, where } = await startCloud(t, [{ name: 'web', stays: { log } }, { name: 'db', stays: { event: 'not able to execute ssh command' } }, { name: 'ok' }])
  const { code, failed } = await leave('migrate')
  t.equal(code, 1)
  t.equal(failed, `n1 still has servers, and they do not move: web (id-web, active): in its journal: ${log}; db (id-db, active): not able to execute ssh command\n`)
  t.same([cloud.tries.get('id-web'), cloud.tries.get('id-db')], [3, 3])
  t.same(where(), { web: 'ACTIVE on n1', db: 'ACTIVE on n1', ok: 'ACTIVE on n2' })
  t.same(cloud.said.slice(-1), ['n1 enabled'])
})

t.test('a server that nothing can be done with is told by its fault', async (t) => {
  const { leave } = await startCloud(t, [{ name: 'bad', status: 'ERROR', fault: { message: 'its disk is gone' } }])
  t.match(await leave('migrate'), { code: 1, failed: 'n1 still has servers, and they do not move: bad (id-bad, error): its disk is gone\n' })
})

t.test('what is under way at the deadline is named with how far it is', async (t) => {
  const { cloud, leave } = await startCloud(t, [{ name: 'big', isSlow: true }])
  t.match(await leave('migrate', 1), { code: 1, failed: 'n1 still has servers after 1 s: big (id-big, migrating): migrating; its live-migration from n1 to n2 is running\n' })
  t.equal(cloud.service, 'enabled')
})

t.test('what an attempt before has begun is gone on with', async (t) => {
  const migration = { source_compute: 'n1', dest_compute: 'n2' }
  const { cloud, leave, where } = await startCloud(t, [{ name: 'web', status: 'MIGRATING', task: 'migrating' }, { name: 'off', status: 'VERIFY_RESIZE', host: 'n2' }], [
    { ...migration, instance_uuid: 'id-web', migration_type: 'live-migration', status: 'running' },
    { ...migration, instance_uuid: 'id-off', migration_type: 'migration', status: 'finished' },
    { ...migration, instance_uuid: 'id-old', migration_type: 'live-migration', status: 'error' },
  ])
  cloud.service = 'disabled'
  const end = setTimeout(() => {
    Object.assign(cloud.servers.get('id-web')!, { status: 'ACTIVE', task: null, host: 'n2' })
    cloud.migrations[0]!.status = 'completed'
  }, 500)
  t.teardown(() => clearTimeout(end))
  const { code, failed } = await leave('migrate')
  t.equal(code, 0, failed)
  t.same(where(), { web: 'ACTIVE on n2', off: 'SHUTOFF on n2' })
  t.same(cloud.said, ['n1 disabled', 'off: confirmResize', 'n1 gone'])
})

t.test("a resize is for the server's owner to confirm", async (t) => {
  const { cloud, leave } = await startCloud(t, [{ name: 'grown', status: 'VERIFY_RESIZE', host: 'n2' }], [{ source_compute: 'n1', dest_compute: 'n2', instance_uuid: 'id-grown', migration_type: 'resize', status: 'finished' }])
  t.match(await leave('migrate', 1), { code: 1, failed: 'n1 still has servers after 1 s: server id-grown: resize from n1 to n2 is finished, and waits for somebody to confirm or revert it\n' })
  t.same(cloud.said, ['n1 disabled', 'n1 enabled'])
})

t.test('a server that is busy just then is looked at again', async (t) => {
  const { cloud, leave, where } = await startCloud(t, [{ name: 'web' }])
  cloud.conflicts = 1
  const { code, said } = await leave('migrate')
  t.equal(code, 0)
  t.match(said, /has not moved: .*HTTP 409: .*it is busy/)
  t.same(where(), { web: 'ACTIVE on n2' })
})

t.test('the node stays when a server broke on its way: its disk may be here still', async (t) => {
  const { cloud, leave } = await startCloud(t, [{ name: 'off', status: 'SHUTOFF', breaks: 'no port is free' }])
  t.match(await leave('migrate'), { code: 1, failed: 'server off (id-off, error) has left n1 by a migration that failed: no port is free\n' })
  t.equal(cloud.service, 'enabled')
})

t.test('servers may be shelved instead, and are as before on another node; or they keep the node', async (t) => {
  const { cloud, leave, where } = await startCloud(t, [{ name: 'web' }, { name: 'off', status: 'SHUTOFF' }])
  t.match(await leave('refuse'), { code: 1, failed: /^n1 has servers and is not to leave with them: web \(id-web, active\), off \(id-off, shutoff\); delete or move them/ })
  t.same(cloud.said, [])
  const { code, failed } = await leave('shelve')
  t.equal(code, 0, failed)
  t.same(where(), { web: 'ACTIVE on n2', off: 'SHUTOFF on n2' })
  t.same(cloud.said, ['n1 disabled', 'web: shelve', 'off: shelve', 'web: unshelve', 'off: unshelve', 'off: os-stop', 'n1 gone'])
})
