/**
 * A cloud with three controllers from a plan, on real nodes: one address in front of what runs three times, which goes on when the controller that has it loses its power, and comes back
 * when all of them did.
 */
import { callApi } from '@lichen/demo'
import t, { type Test } from 'tap'
import { eventually } from '../eventually.js'
import { cacheDirectory, skipReason } from '../lab/lab-fixture.js'
import { buildGuestImage, guestImageProperties } from '../openstack/guest-image/build.js'
import { buildOpenstackPlan } from '../openstack/openstack-plan.js'
import { leftOfCloud, leftOfCompute } from './cloud-fixture.js'
import { startCluster, step } from './cluster-fixture.js'

t.setTimeout(3_600_000)

/** Three times dozens of services in Python, on the cores of one machine. */
const longMs = 1_500_000
const controllers = ['control1', 'control2', 'control3']
const images = { disk: '/root/guest.raw', kernel: '/root/vmlinuz', initrd: '/root/initrd', properties: guestImageProperties }

t.test('three controllers from a plan', { skip: skipReason() }, async (t) => {
  const image = await buildGuestImage({ cacheDirectory, log: (line) => t.comment(line) })
  const cluster = await startCluster(t, 'e2e-three', [...controllers, 'compute'], { privileged: true, links: ['eth1'], labelsOf: (node) => ({ role: node === 'compute' ? 'compute' : 'control' }) })
  const { lab } = cluster
  for (const [from, to] of [[image.diskPath, images.disk], [image.kernelPath, images.kernel], [image.initrdPath, images.initrd]] as const) await lab.copyIn('control1', from, to)
  const prefix = lab.node('control1').address.replace(/\.\d+$/, '')
  const virtual = `${prefix}.10`
  // one process of each kind is enough for each of three
  const small = { keystone: { processes: 1 }, glance: { workers: 1 }, placement: { processes: 1 }, nova: { processes: 1, conductorWorkers: 1 }, neutron: { processes: 1, dhcpAgentsPerNetwork: 2 }, heat: { processes: 1, engineWorkers: 1 }, dashboard: { processes: 1 } }
  const planOf = (removeData = false) =>
    buildOpenstackPlan({ example: 'openstack-three.yaml', prefix, publicKey: 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGJ5dGVzIG9mIGEga2V5IHRoYXQgbm9ib2R5IGhhcyEh', image: images, removeData, with: small })
  const plan = planOf()
  const list = async (node: string, what: string, ...columns: string[]): Promise<string[]> =>
    (JSON.parse(await cluster.shell(node, `. /root/openrc && openstack ${what} -f json`)) as Record<string, unknown>[]).map((row) => columns.map((column) => String(row[column])).join(' ')).sort()
  const succeed = async (t: Test, kind: 'apply' | 'destroy', wanted = plan) => {
    const id = await cluster.submit(kind, wanted)
    const task = await cluster.ended(t, id, longMs)
    t.equal(task.outcome, 'succeeded', task.reason)
    const actions = await cluster.actions(id)
    if (task.outcome !== 'succeeded') for (const { id, result } of actions) if (result?.failure) t.comment(`${id}: ${result.failure.code}: ${result.failure.message}`)
    return { id, task, changed: actions.filter((action) => !action.id.startsWith('lichen/') && action.result?.changed === true).map(({ id }) => id) }
  }
  const holders = async (): Promise<string[]> => {
    const found = await Promise.all(controllers.map(async (node) => ((await lab.exec(node, ['bash', '-c', `ip -oneline address show to ${virtual}`])).stdout.toString().trim() === '' ? [] : [node])))
    return found.flat()
  }
  const moveAddress = async (t: Test, from: string): Promise<void> => {
    await cluster.shell(from, 'systemctl restart keepalived.service')
    await eventually(t, 'another one has the address', async () => (await holders()).some((node) => node !== from), { timeoutMs: longMs, intervalMs: 1_000 })
  }

  await step(t, 'it is made by one apply', async (t) => {
    const { id } = await succeed(t, 'apply')
    await cluster.tell(t, id)
  })

  await step(t, 'every controller does its part, and clients see one address', async (t) => {
    t.same((await list('control2', 'endpoint list', 'URL')).filter((url) => !url.startsWith(`http://${virtual}:`)), [])
    t.same(await list('control3', 'compute service list', 'Binary', 'Host', 'State'), ['nova-compute compute up', ...controllers.map((node) => `nova-conductor ${node} up`), ...controllers.map((node) => `nova-scheduler ${node} up`)])
    t.match(await cluster.shell('control1', `mariadb --batch --skip-column-names --execute "SHOW STATUS LIKE 'wsrep_cluster_size'"`), /3/)
    t.equal((await holders()).length, 1, 'one of them has the address')
  })

  /** Whether each controller's Keystone, asked by its own address, knows the token, and not from what one of them put into the cache. */
  const knownAt = async (node: string, token: string): Promise<string[]> => {
    const urls = controllers.map((each) => `http://${lab.node(each).address}:5000/v3/auth/tokens`).join(' ')
    return (await cluster.shell(node, `apt-get install --yes --quiet curl >/dev/null; for cache in ${controllers.map((each) => lab.node(each).address).join(' ')}; do printf 'flush_all\\r\\nquit\\r\\n' >/dev/tcp/$cache/11211; done; for url in ${urls}; do curl --silent --output /dev/null --write-out '%{http_code}\\n' --header 'X-Auth-Token: ${token}' --header 'X-Subject-Token: ${token}' $url; done`)).trim().split('\n')
  }
  const issue = async (node: string): Promise<string> => (await cluster.shell(node, '. /root/openrc && openstack token issue -f value -c id')).trim()

  await step(t, 'a token of one Keystone is known to the others, also when the key of tokens is rotated', async (t) => {
    const token = await issue('control1')
    t.same(await knownAt('control1', token), ['200', '200', '200'])
    const { id } = await callApi<{ readonly id: string }>(cluster.server(), 'POST', '/v1/deployments/default/openstack-three/secrets/rotate', { secrets: ['keystone.tokenKey'] })
    t.match(await cluster.ended(t, id, longMs), { outcome: 'succeeded' })
    const keys = await Promise.all(controllers.map((node) => cluster.shell(node, 'cd /etc/keystone/fernet-keys && sha256sum $(ls | sort --numeric-sort | tail --lines=1) && ls | wc --lines')))
    t.equal(new Set(keys).size, 1, `all have the same key with the highest number: ${keys.map((text) => text.replace(/[0-9a-f]{64}/, '…')).join(' ')}`)
    t.same(await knownAt('control1', token), ['200', '200', '200'], 'a token from before')
    t.same(await knownAt('control1', await issue('control2')), ['200', '200', '200'], 'a token with the new key')
  })

  await step(t, 'applied again, nothing changes', async (t) => {
    const { changed, task } = await succeed(t, 'apply')
    t.same(changed, [])
    t.comment(`it took ${task.timing.durationMs} ms`)
  })

  await step(t, 'the address moves to another controller, and no service waits on a connection that ended with it', async (t) => {
    const [keeper] = (await holders()) as [string]
    await moveAddress(t, keeper)
    const moved = new Date().toISOString()
    await eventually(t, 'connections from the address are gone where it was', async () => (await cluster.shell(keeper, `ss --no-header --tcp src ${virtual}`)) === '', { timeoutMs: 60_000, intervalMs: 1_000 })
    const isBehind = (reported: string): boolean => Date.parse(`${reported}Z`) < Date.parse(moved)
    await eventually(t, 'every service of Nova has reported since', async () => !(await list(keeper, 'compute service list', 'Updated At')).some(isBehind), { timeoutMs: 300_000, intervalMs: 2_000 })
  })

  await step(t, 'a server is made while the controller that had the address is without power', async (t) => {
    // Images are files of one controller, so no server is made without that one: another one gets the address first.
    const [keeper] = (await holders()) as [string]
    if ((await lab.exec(keeper, ['systemctl', 'is-active', '--quiet', 'glance-api.service'])).exitCode === 0) await moveAddress(t, keeper)
    const [lost] = (await holders()) as [string]
    const other = controllers.find((node) => node !== lost)!
    await lab.kill(lost)
    t.comment(`${lost} had the address`)
    const killed = performance.now()
    await eventually(t, 'clients get tokens again', async () => (await lab.exec(other, ['bash', '-c', '. /root/openrc && timeout 20 openstack token issue'])).exitCode === 0, { timeoutMs: longMs, intervalMs: 1_000 })
    t.comment(`tokens again after ${Math.round((performance.now() - killed) / 1000)} s`)
    await eventually(t, 'a server is made', async () => {
      const { exitCode, stdout, stderr } = await lab.exec(other, ['bash', '-c', '. /root/openrc && timeout 300 openstack server create --flavor small --image guest --network inner --wait first'], { timeoutMs: 400_000 })
      if (exitCode !== 0) t.comment(`${String(stdout)}${String(stderr)}`.trim().slice(0, 500))
      if (exitCode !== 0) await lab.exec(other, ['bash', '-c', '. /root/openrc && openstack server delete --wait first'])
      return exitCode === 0
    }, { timeoutMs: longMs, intervalMs: 5_000 })
    t.comment(`a server is there after ${Math.round((performance.now() - killed) / 1000)} s`)
    await lab.start(lost)
    await cluster.settled(t, 'after it has come back', plan, longMs)
  })

  await step(t, 'after a power loss of all of them at once everything comes back by itself', async (t) => {
    await Promise.all([...controllers, 'compute'].map((node) => lab.kill(node)))
    // All at once: a server of a cluster holds up the boot of its node until it has heard of the others, for longer than the lab waits for a boot on a machine with few cores.
    await lab.up({ nodes: [...controllers, 'compute'], isPrivileged: true, links: ['eth1'] }).catch((error: unknown) => t.comment(String(error)))
    await cluster.settled(t, 'after the power loss', plan, longMs)
    t.match(await list('control1', 'server list', 'Name'), ['first'])
  })

  await step(t, 'destroy leaves clean nodes', async (t) => {
    await cluster.shell('control1', '. /root/openrc && openstack server delete --wait first')
    const { task } = await succeed(t, 'destroy', planOf(true))
    t.comment(`it took ${task.timing.durationMs} ms`)
    t.equal(await cluster.shell('compute', leftOfCompute), '')
    for (const node of controllers) for (const left of [leftOfCloud, leftOfAddress]) t.equal(await cluster.shell(node, left), '', node)
    t.same(await holders(), [], 'nobody has the address')
  })
})

/** Prints what a node has of a virtual address; nothing when it has nothing. */
const leftOfAddress = `dpkg-query --show --showformat='\${Status} \${Package}\\n' haproxy keepalived galera-4 2>/dev/null | grep -v not-installed
  ls -d /etc/haproxy /etc/keepalived /var/lib/haproxy /etc/default/haproxy /etc/sysctl.d/*lichen* 2>/dev/null
  sysctl net.ipv4.ip_nonlocal_bind net.ipv4.tcp_keepalive_time net.ipv4.tcp_retries2 | grep --invert-match --extended-regexp ' = (0|7200|15)$'
  true`
