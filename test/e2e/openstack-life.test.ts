/**
 * What the life of a cloud brings, on real nodes: stacks and the dashboard, changes by hand and by options, other secrets, another compute node and one that leaves, a loss of power of all nodes
 * at once, and its end. openstack.test.ts makes it through every fault.
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { callApi, runInNode } from '@lichen/demo'
import t from 'tap'
import { eventually } from '../eventually.js'
import { skipReason } from '../lab/lab-fixture.js'
import { checkout, patienceMs, step } from './cluster-fixture.js'
import { leftOfCloud, leftOfCompute, longMs, startCloudNodes } from './cloud-fixture.js'

t.setTimeout(2_700_000)

t.test('the life of a cloud', { skip: skipReason() }, async (t) => {
  const cloud = await startCloudNodes(t, 'e2e-openstack-life')
  const { cluster, planOf, openstack, list, submit } = cloud
  const plan = planOf()
  /** Nothing stays of a compute node that leaves. It leaves as it was applied, so this is said before. */
  const cleaned = { 'compute': { removeData: true }, 'compute-network': { removeData: true } }
  /** With one compute node less, whose servers go elsewhere. */
  const smallerBy = (servers: 'migrate' | 'shelve') => planOf({ computeCount: 1, with: { ...cleaned, compute: { ...cleaned.compute, leave: { servers } } } })
  const settled = smallerBy('shelve')
  const cordon = (node: string, cordoned: boolean) => callApi(cluster.server(), 'PATCH', `/v1/nodes/${node}`, { cordoned })
  const statusAndHost = async (server: string) => {
    const shown = JSON.parse(await cluster.shell('control', `. /root/openrc && openstack server show ${server} -f json`)) as Record<string, unknown>
    return `${String(shown['status'])} on ${String(shown['OS-EXT-SRV-ATTR:host'])}`
  }
  const namedHosts = async () => [...(await list('compute service list', 'Host')), ...(await list('network agent list', 'Host')), ...(await list('hypervisor list', 'Hypervisor Hostname'))]
  const units = {
    control: ['mariadb', 'rabbitmq-server', 'memcached', 'keystone', 'glance-api', 'placement-api', 'nova-api', 'nova-api-metadata', 'nova-conductor', 'nova-scheduler', 'neutron-api', 'neutron-rpc-server', 'neutron-dhcp-agent', 'neutron-l3-agent', 'neutron-linuxbridge-agent', 'neutron-metadata-agent', 'heat-api', 'heat-api-cfn', 'heat-engine', 'apache2'],
    compute: ['nova-compute', 'neutron-linuxbridge-agent'],
  }
  /** Node, unit and the id of its start, for each service. */
  const invocations = async () => {
    const shown = Object.entries(units).map(([node, names]) => cluster.shell(node, `for unit in ${names.join(' ')}; do echo "${node} $unit $(systemctl show --property=InvocationID --value "$unit.service")"; done`))
    return (await Promise.all(shown)).flatMap((text) => text.trim().split('\n'))
  }
  const providers = () => list('resource provider list', 'name')
  let floating = ''

  await step(t, 'it is made, and a server of it is reached from outside', async (t) => {
    const { id } = await submit(t, 'apply', plan, 'succeeded')
    await cluster.tell(t, id)
    floating = await cloud.makeServer('first')
    t.match(await cloud.login(floating, 'hostname'), /^first$/m)
  })

  await step(t, 'a stack with a server is made and taken away, and the dashboard shows the servers to a real browser', async (t) => {
    await cluster.shell('control', 'apt-get install -y -q python3-heatclient >/dev/null')
    await cluster.lab.writeIn('control', '/root/stack.yaml', stack)
    t.match(await openstack('stack create -t /root/stack.yaml --wait small -f value -c stack_status'), /CREATE_COMPLETE/)
    t.match(await openstack('stack output show small address -f value -c output_value'), /^10\.30\.0\.\d+$/m)
    await openstack('stack delete --wait --yes small')
    t.notMatch(await openstack('server list -f value -c Name'), /small/)
    await cluster.shell('control', 'apt-get install -y -q chromium chromium-driver python3-selenium >/dev/null')
    await cluster.lab.copyIn('control', join(checkout, 'test/openstack/horizon-login.py'), '/root/horizon-login.py')
    const page = await cluster.shell('control', `. /root/openrc && python3 /root/horizon-login.py http://${cluster.lab.node('control').address} /root/servers.png`)
    t.match(page, /^Instances - OpenStack Dashboard\n[^]*first[^]*Active/, 'its page of servers shows the server')
    const picture = Buffer.from(await cluster.shell('control', 'base64 --wrap=0 /root/servers.png'), 'base64')
    mkdirSync(join(checkout, 'build'), { recursive: true })
    writeFileSync(join(checkout, 'build/openstack-servers.png'), picture)
    t.comment(`picture: build/openstack-servers.png, ${picture.length} bytes`)
  })

  await step(t, 'what was changed by hand is shown without its secrets, and put right; an option restarts what reads it alone', async (t) => {
    await cluster.shell('control', `sed --in-place 's/^workers = 2$/workers = 7/' /etc/glance/glance-api.conf && sed --in-place 's/^processes = .*/processes = 9/' /etc/placement/placement-api-uwsgi.ini`)
    const { changed } = await submit(t, 'check', plan, 'succeeded')
    t.same(changed.map(({ component }) => component).sort().filter((name, index, all) => all.indexOf(name) === index), ['glance', 'placement'])
    const shown = changed.flatMap((action) => action.result!.commands).map(({ diff }) => diff ?? '').join('\n')
    for (const line of [/^-processes = 9\n\+processes = 2$/m, /^-workers = 7\n\+workers = 2$/m]) t.match(shown, line)
    /** Which of the services that a node has were started anew by an apply. */
    const restartedBy = async (wanted: unknown) => {
      const before = await invocations()
      t.same(before.filter((line) => !/ [0-9a-f]{32}$/.test(line)), [], 'all of them run')
      await submit(t, 'apply', wanted, 'succeeded')
      return (await invocations()).filter((line) => !before.includes(line)).map((line) => line.slice(0, line.lastIndexOf(' '))).sort()
    }
    t.same(await restartedBy(plan), ['control glance-api', 'control placement-api'], 'what was put right')
    t.same(await restartedBy(planOf({ with: { nova: { options: { quota: { cores: 40 } } } } })), ['nova-api', 'nova-api-metadata', 'nova-conductor', 'nova-scheduler'].map((unit) => `control ${unit}`), 'what reads nova.conf, and not nova-compute, which has a file of its own')
    t.match(await cluster.shell('control', 'grep --after-context=1 "^\\[quota\\]" /etc/nova/nova.conf'), /cores = 40/)
    await submit(t, 'apply', plan, 'succeeded')
  })

  await step(t, 'all secrets are rotated: everything goes on with the new ones, the old ones are refused', async (t) => {
    const passwords = () => cluster.shell('control', `sed --quiet 's/^export OS_PASSWORD=//p' /root/openrc; sed --quiet --regexp-extended 's#^(connection|transport_url) = [^:]*://[^:]*:([^@]*)@.*#\\2#p' /etc/nova/nova.conf`).then((text) => text.trim().split('\n'))
    const before = await passwords()
    const { id } = await callApi<{ readonly id: string }>(cluster.server(), 'POST', '/v1/deployments/default/openstack/secrets/rotate', {})
    t.match(await cluster.ended(t, id, longMs), { outcome: 'succeeded' })
    await cluster.tell(t, id)
    const after = await passwords()
    t.equal(after.length, before.length)
    t.same(after.filter((password) => before.includes(password)), [], `${before.length} passwords are others`)
    t.match(await list('server list', 'Name', 'Status'), ['first ACTIVE'])
    t.same(await list('network agent list', 'Binary', 'Host', 'Alive'), ['neutron-dhcp-agent control true', 'neutron-l3-agent control true', 'neutron-linuxbridge-agent compute true', 'neutron-linuxbridge-agent control true', 'neutron-metadata-agent control true'])
    const old = await cluster.lab.exec('control', ['bash', '-c', `. /root/openrc && OS_PASSWORD=${before[0]} openstack token issue`])
    t.match(String(old.stderr), /401/, 'the old password is refused')
    const { task } = await submit(t, 'apply', plan, 'succeeded')
    t.match(task.reason, /nothing had to change on 2 nodes/)
    await openstack('server create --flavor small --image guest --network inner --wait second', 'server delete --wait second')
  })

  await step(t, 'one more compute node changes that node alone, and takes the servers of one that leaves, while they run', async (t) => {
    await openstack('server create --flavor small --image guest --network inner --wait asleep', 'server stop asleep')
    await eventually(t, 'the second server is stopped', async () => (await statusAndHost('asleep')) === 'SHUTOFF on compute', { timeoutMs: longMs, intervalMs: 2_000 })
    const without = planOf()
    without.components.splice(without.components.findIndex(({ name }) => name === 'compute'), 1)
    const kept = await submit(t, 'apply', without, 'failed')
    t.match(kept.failures, /compute\/remove@compute: COMMAND_CONDITION: the node still has servers: (?=[^;]*first \([0-9a-f-]{36}\))(?=[^;]*asleep \([0-9a-f-]{36}\))/, 'the last compute node is not given up with a server on it')
    await cluster.addNode('compute2')
    const grown = await submit(t, 'apply', planOf({ with: cleaned }), 'succeeded')
    t.same(grown.changed.map(({ node }) => node).filter((node) => node !== 'compute2'), [])
    t.ok((await list('compute service list', 'Binary', 'Host', 'State')).includes('nova-compute compute2 up'))
    const added = await cloud.makeServer('added', { more: '--availability-zone nova:compute2' })
    t.equal(await statusAndHost('added'), 'ACTIVE on compute2')
    t.match(await cloud.login(added, 'hostname'), /^added$/m, 'the new node runs servers, which are reached')
    await openstack('server delete --wait added', `floating ip delete ${added}`)
    await cluster.shell('control', 'apt-get install -y -q python3-osc-placement >/dev/null')
    t.same(await providers(), ['compute', 'compute2'])
    await cordon('compute', true)
    const refused = await submit(t, 'apply', planOf({ computeCount: 1 }), 'failed')
    t.match(refused.failures, /compute has servers and is not to leave with them: (?=[^;]*first \([0-9a-f-]{36}, active\))(?=[^;]*asleep \([0-9a-f-]{36}, shutoff\))/)
    t.ok((await list('compute service list', 'Binary', 'Host', 'Status')).includes('nova-compute compute enabled'), 'it takes servers as before')
    t.ok((await list('network agent list', 'Host', 'Alive')).includes('compute true'), 'and its servers have their network')
    const bootId = () => cloud.login(floating, 'cat /proc/sys/kernel/random/boot_id')
    const before = await bootId()
    const { id } = await submit(t, 'apply', smallerBy('migrate'), 'succeeded')
    await cluster.tell(t, id)
    t.equal(await statusAndHost('first'), 'ACTIVE on compute2')
    t.equal(await statusAndHost('asleep'), 'SHUTOFF on compute2')
    t.match(before, /^[0-9a-f-]{36}$/m)
    t.equal(await bootId(), before, 'it has run all the time')
    t.notOk((await namedHosts()).includes('compute'), 'the cloud has forgotten it')
    t.same(await providers(), ['compute2'], 'and what it had to give')
    t.equal(await runInNode(cluster.lab, 'compute', ['bash', '-c', leftOfCompute]), '', 'nothing is left on the node')
  })

  await step(t, 'it comes back, and takes the servers of the other one, which are started again', async (t) => {
    await openstack('server delete --wait asleep')
    await cordon('compute', false)
    await submit(t, 'apply', planOf({ computeCount: 2, with: cleaned }), 'succeeded')
    t.ok((await list('compute service list', 'Binary', 'Host', 'State')).includes('nova-compute compute up'))
    await cordon('compute2', true)
    await submit(t, 'apply', settled, 'succeeded')
    t.equal(await statusAndHost('first'), 'ACTIVE on compute')
    t.notOk((await namedHosts()).includes('compute2'), 'the cloud has forgotten it')
    t.same(await providers(), ['compute'])
    t.equal(await runInNode(cluster.lab, 'compute2', ['bash', '-c', leftOfCompute]), '', 'nothing is left on the node')
  })

  await step(t, 'after a power loss of all nodes everything comes back by itself', async (t) => {
    await Promise.all(['control', 'compute'].map((node) => cluster.lab.kill(node)))
    for (const node of ['control', 'compute']) await cluster.lab.start(node).catch((error: unknown) => t.comment(String(error)))
    await cluster.settled(t, 'after the power loss', settled, longMs)
    t.match(await cloud.login(floating, 'hostname'), /^first$/m)
  })

  await step(t, 'no password is in logs, actions, events or previews, and the files that hold one are private', (t) => cloud.lookForSecrets(t, settled))

  await step(t, 'a node that is dead and removed is forgotten, once its servers are', async (t) => {
    await cordon('compute2', false)
    await submit(t, 'apply', planOf({ computeCount: 2, with: cleaned }), 'succeeded')
    await openstack('server create --flavor small --image guest --network inner --availability-zone nova:compute2 --wait lost')
    t.equal(await statusAndHost('lost'), 'ACTIVE on compute2')
    await cluster.lab.kill('compute2')
    await callApi(cluster.server(), 'DELETE', '/v1/nodes/compute2')
    const refused = await submit(t, 'apply', settled, 'failed')
    t.match(refused.failures, /nova\/dismiss:compute\.compute@control: [^]*compute2 is gone, and the cloud still has servers of it: lost \([0-9a-f-]{36}, active\)/)
    await eventually(t, 'the compute service knows that it is down', async () => (await list('compute service list', 'Host', 'State')).includes('compute2 down'), { timeoutMs: patienceMs, intervalMs: 2_000 })
    await openstack('server delete --wait lost')
    await submit(t, 'apply', settled, 'succeeded')
    t.notOk((await namedHosts()).includes('compute2'))
    t.same(await providers(), ['compute'])
  })

  await step(t, 'destroy leaves clean nodes', async (t) => {
    await openstack('server delete --wait first', `floating ip delete ${floating}`)
    await submit(t, 'destroy', planOf({ computeCount: 1, removeData: true }), 'succeeded')
    t.equal(await runInNode(cluster.lab, 'compute', ['bash', '-c', leftOfCompute]), '')
    t.equal(await runInNode(cluster.lab, 'control', ['bash', '-c', leftOfCloud]), '')
  })
})

const stack = `heat_template_version: 2021-04-16
resources:
  network: {type: 'OS::Neutron::Net', properties: {name: small}}
  subnet: {type: 'OS::Neutron::Subnet', properties: {network: {get_resource: network}, cidr: 10.30.0.0/24}}
  server:
    type: OS::Nova::Server
    depends_on: subnet
    properties: {name: small, flavor: small, image: guest, networks: [{network: {get_resource: network}}]}
outputs:
  address: {value: {get_attr: [server, first_address]}}
`
