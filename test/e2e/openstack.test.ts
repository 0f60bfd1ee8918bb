/**
 * A cloud from a plan, on real nodes, from the distribution's packages: made while an agent is killed in the middle of an installation and the server in the middle of a migration; used with the
 * stock client up to a login on its servers; checked, reconfigured, grown, one of its compute nodes given up, all its nodes powered off at once, and taken away.
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { callApi, runInNode } from '@lichen/demo'
import t, { type Test } from 'tap'
import { eventually } from '../eventually.js'
import { cacheDirectory, skipReason } from '../lab/lab-fixture.js'
import { buildGuestImage, guestImageProperties } from '../openstack/guest-image/build.js'
import { buildOpenstackPlan, type PlanChanges } from '../openstack/openstack-plan.js'
import { checkout, type Cluster, patienceMs, startCluster, step } from './cluster-fixture.js'
import { readWholeLog } from './log-reader.js'

t.setTimeout(2_700_000)

/** Dozens of services in Python start at once on the cores of one machine. */
const longMs = 900_000

const images = { disk: '/root/guest.raw', kernel: '/root/vmlinuz', initrd: '/root/initrd', properties: guestImageProperties }

t.test('OpenStack from a plan', { skip: skipReason() }, async (t) => {
  const image = await buildGuestImage({ cacheDirectory, log: (line) => t.comment(line) })
  const cluster = await startCluster(t, 'e2e-openstack', ['control', 'compute'], { privileged: true, links: ['eth1'], labelsOf: (node) => ({ role: node === 'control' ? 'control' : 'compute' }) })
  const { lab } = cluster
  for (const [from, to] of [[image.diskPath, images.disk], [image.kernelPath, images.kernel], [image.initrdPath, images.initrd]] as const) await lab.copyIn('control', from, to)
  await cluster.shell('control', 'apt-get update -q >/dev/null && apt-get install -y -q openssh-client >/dev/null && ssh-keygen -q -t ed25519 -N "" -f /root/key')
  const publicKey = (await cluster.shell('control', 'cut --delimiter=" " --fields=1,2 /root/key.pub')).trim()
  const prefix = lab.node('control').address.replace(/\.\d+$/, '')
  const planOf = (changes: Partial<PlanChanges> = {}) => buildOpenstackPlan({ prefix, publicKey, image: images, ...changes })
  const plan = planOf()
  /** Nothing stays of a compute node that leaves. It leaves as it was applied, so this is said before. */
  const cleaned = { 'compute': { removeData: true }, 'compute-network': { removeData: true } }
  /** With one compute node less, whose servers go elsewhere. */
  const settled = planOf({ computeCount: 1, with: { ...cleaned, compute: { ...cleaned.compute, leave: { servers: 'shelve' } } } })
  const openstack = (...commands: string[]): Promise<string> => cluster.shell('control', `. /root/openrc && openstack <<'END'\n${commands.join('\n')}\nEND`)
  /** What the client lists, as rows of one value for each of these columns. */
  const list = async (what: string, ...columns: string[]): Promise<string[]> =>
    (JSON.parse(await cluster.shell('control', `. /root/openrc && openstack ${what} -f json`)) as Record<string, unknown>[]).map((row) => columns.map((column) => String(row[column])).join(' ')).sort()
  const submit = async (t: Test, kind: 'apply' | 'check' | 'destroy', wanted: unknown, outcome: string) => {
    const id = await cluster.submit(kind, wanted)
    const task = await cluster.ended(t, id, longMs)
    t.equal(task.outcome, outcome)
    const actions = await cluster.actions(id)
    const failures = actions.flatMap((action) => (action.result?.failure ? [`${action.id}: ${action.result.failure.code}: ${action.result.failure.message}`] : []))
    if (task.outcome !== outcome) for (const failure of failures) t.comment(failure)
    const changed = actions.filter((action) => !action.id.startsWith('lichen/') && action.result?.changed === true)
    return { id, task, actions, failures: failures.join('\n'), changed }
  }

  await step(t, 'nodes that cannot be what they are to be are refused with all that is wrong with them, before anything is installed there', async (t) => {
    await cluster.shell('control', `systemd-run --unit=taken --quiet perl -MIO::Socket::INET -e 'my $$s = IO::Socket::INET->new(Listen => 1, LocalPort => 9292) or die; sleep'`)
    const { failures } = await submit(t, 'apply', { ...planOf({ with: { compute: { virtType: 'kvm', minMemoryMb: 1_000_000, minDiskMb: 100_000_000 } } }), rollout: { maxFailures: 1 } }, 'failed')
    t.match(failures, /compute\/preflight@compute: COMMAND_PROBE_DEADLINE: [^]*the node has \d+ MiB of memory, and 1000000 are needed[^]*MiB free under \/var\/lib, and 100000000 are needed[^]*no \/dev\/kvm: [^]*virtType: qemu/)
    t.match(failures, /glance\/preflight@control: [^]*TCP port 9292, which glance-api\.service is to listen on, is taken by another program/)
    t.equal((await cluster.shell('compute', 'dpkg-query --show nova-compute 2>/dev/null || true')).trim(), '', 'nothing of it is installed')
    await cluster.shell('control', 'systemctl stop taken')
  })

  let made = ''
  await step(t, 'it is made by one apply, though an agent dies while dpkg unpacks and the server in a migration of the database', async (t) => {
    made = await cluster.submit('apply', plan)
    await cluster.running(t, 'compute', 'dpkg.*--unpack')
    await cluster.shell('compute', 'systemctl kill --kill-who=main --signal=KILL lichen-agent.service')
    await eventually(t, 'nova migrates its database', async () => (await lab.exec('control', ['pgrep', '--full', 'nova-manage (api_)?db sync$'])).exitCode === 0, { timeoutMs: longMs, intervalMs: 100 })
    await cluster.killAndRestartServer()
    t.match(await cluster.ended(t, made, longMs), { outcome: 'succeeded' })
    await cluster.tell(t, made)
  })

  await step(t, 'the stock client sees the services, the agents and what the plan put into the cloud', async (t) => {
    t.match(await cluster.shell('control', '. /root/openrc && openstack token issue -f value -c expires'), /^\d{4}-/)
    const types = ['cloudformation', 'compute', 'identity', 'image', 'network', 'orchestration', 'placement']
    t.same(await list('endpoint list', 'Service Type', 'Interface', 'Region'), types.flatMap((type) => ['admin', 'internal', 'public'].map((name) => `${type} ${name} RegionOne`)))
    t.same(await list('compute service list', 'Binary', 'Host', 'State'), ['nova-compute compute up', 'nova-conductor control up', 'nova-scheduler control up'])
    t.same(await list('network agent list', 'Binary', 'Host', 'Alive'), ['neutron-dhcp-agent control true', 'neutron-l3-agent control true', 'neutron-linuxbridge-agent compute true', 'neutron-linuxbridge-agent control true', 'neutron-metadata-agent control true'])
    t.same(await list('image list', 'Name', 'Status'), ['guest active', 'initrd active', 'kernel active'])
  })

  await step(t, 'a server gets its address, metadata and key, runs its user data, and its security group drops what it should', async (t) => {
    await cluster.shell('control', `printf '#cloud-config\\nruncmd:\\n  - [sh, -c, "echo USERDATA-RAN > /dev/console"]\\n' > /root/user-data`)
    await openstack('server create --flavor small --image guest --network inner --key-name lab --user-data /root/user-data --wait first')
    t.match(await openstack('server show first -f value -c status'), /ACTIVE/)
    await openstack('floating ip create public')
    const [floating] = (await list('floating ip list', 'Floating IP Address')) as [string]
    await openstack(`server add floating ip first ${floating}`)
    const console = () => openstack('console log show first')
    await eventually(t, 'the console shows that its user data ran', async () => /USERDATA-RAN/.test(await console()), { timeoutMs: longMs, intervalMs: 2_000 })
    await eventually(t, 'and the prompt of a login', async () => /login:/.test(await console()), { timeoutMs: patienceMs, intervalMs: 2_000 })
    t.match(await login(cluster, floating, 'hostname'), /^first$/m)
    t.match(await login(cluster, floating, 'wget -q -O - http://169.254.169.254/latest/meta-data/instance-id || curl -s http://169.254.169.254/latest/meta-data/instance-id'), /^i-0/m, 'the metadata service knows it')
    const connect = (port: number) => lab.exec('control', ['timeout', '5', 'bash', '-c', `exec 3<>/dev/tcp/${floating}/${port}`])
    t.equal((await connect(22)).exitCode, 0, 'the port that is let in answers')
    t.equal((await connect(23)).exitCode, 124, 'another one is dropped: no answer, not a refusal')
  })

  await step(t, 'a stack with a server is made and taken away, and the dashboard shows the servers to a real browser', async (t) => {
    await cluster.shell('control', 'apt-get install -y -q python3-heatclient >/dev/null')
    await lab.writeIn('control', '/root/stack.yaml', stack)
    t.match(await openstack('stack create -t /root/stack.yaml --wait small -f value -c stack_status'), /CREATE_COMPLETE/)
    t.match(await openstack('stack output show small address -f value -c output_value'), /^10\.30\.0\.\d+$/m)
    await openstack('stack delete --wait --yes small')
    t.notMatch(await openstack('server list -f value -c Name'), /small/)
    await cluster.shell('control', 'apt-get install -y -q chromium chromium-driver python3-selenium >/dev/null')
    await lab.copyIn('control', join(checkout, 'test/openstack/horizon-login.py'), '/root/horizon-login.py')
    const page = await cluster.shell('control', `. /root/openrc && python3 /root/horizon-login.py http://${lab.node('control').address} /root/servers.png`)
    t.match(page, /^Instances - OpenStack Dashboard\n[^]*first[^]*Active/, 'its page of servers shows the server')
    const picture = Buffer.from(await cluster.shell('control', 'base64 --wrap=0 /root/servers.png'), 'base64')
    mkdirSync(join(checkout, 'build'), { recursive: true })
    writeFileSync(join(checkout, 'build/openstack-servers.png'), picture)
    t.comment(`picture: build/openstack-servers.png, ${picture.length} bytes`)
  })

  await step(t, 'applied again, nothing changes', async (t) => {
    const { task } = await submit(t, 'apply', plan, 'succeeded')
    t.match(task.reason, /nothing had to change on 2 nodes/)
    t.comment(`it took ${task.timing.durationMs} ms, with a server that is emulated beside it`)
  })

  await step(t, 'what was changed by hand is shown without its secrets, and put right; an option restarts what reads it alone', async (t) => {
    await cluster.shell('control', `sed --in-place 's/^workers = 2$/workers = 7/' /etc/glance/glance-api.conf && sed --in-place 's/^processes = .*/processes = 9/' /etc/placement/placement-api-uwsgi.ini`)
    const { changed } = await submit(t, 'check', plan, 'succeeded')
    t.same(changed.map(({ component }) => component).sort().filter((name, index, all) => all.indexOf(name) === index), ['glance', 'placement'])
    t.match(changed.flatMap((action) => action.result!.commands).map(({ diff }) => diff ?? '').join('\n'), /-processes = 9\n\+processes = 2/)
    const startedAt = async (unit: string) => (await cluster.shell('control', `systemctl show --property=ExecMainStartTimestampMonotonic --value ${unit}`)).trim()
    const units = ['glance-api', 'placement-api', 'nova-api', 'nova-conductor', 'neutron-api', 'keystone']
    const before = await Promise.all(units.map(startedAt))
    await submit(t, 'apply', planOf({ with: { nova: { options: { quota: { cores: 40 } } } } }), 'succeeded')
    const after = await Promise.all(units.map(startedAt))
    t.same(units.filter((_, index) => before[index] !== after[index]), ['glance-api', 'placement-api', 'nova-api', 'nova-conductor'])
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
    t.match(await list('network agent list', 'Host', 'Alive'), /true/)
    const old = await lab.exec('control', ['bash', '-c', `. /root/openrc && OS_PASSWORD=${before[0]} openstack token issue`])
    t.match(String(old.stderr), /401/, 'the old password is refused')
    const { task } = await submit(t, 'apply', plan, 'succeeded')
    t.match(task.reason, /nothing had to change on 2 nodes/)
    await openstack('server create --flavor small --image guest --network inner --wait second', 'server delete --wait second')
  })

  await step(t, 'one more compute node changes that node alone, and takes the servers of one that leaves', async (t) => {
    const without = planOf()
    without.components.splice(without.components.findIndex(({ name }) => name === 'compute'), 1)
    const kept = await submit(t, 'apply', without, 'failed')
    t.match(kept.failures, /compute\/remove@compute: [^]*the node still has servers: instance-[0-9a-f]+ /, 'the last compute node is not given up with a server on it')
    await cluster.addNode('compute2')
    const grown = await submit(t, 'apply', planOf({ with: cleaned }), 'succeeded')
    t.same(grown.changed.map(({ node }) => node).filter((node) => node !== 'compute2'), [])
    t.ok((await list('compute service list', 'Binary', 'Host', 'State')).includes('nova-compute compute2 up'))
    await callApi(cluster.server(), 'PATCH', '/v1/nodes/compute', { cordoned: true })
    const refused = await submit(t, 'apply', planOf({ computeCount: 1 }), 'failed')
    t.match(refused.failures, /compute has servers and is not to leave with them: first \([0-9a-f-]{36}, active\)/)
    t.ok((await list('compute service list', 'Binary', 'Host', 'Status')).includes('nova-compute compute enabled'), 'it takes servers as before')
    await submit(t, 'apply', settled, 'succeeded')
    t.match(JSON.parse(await cluster.shell('control', '. /root/openrc && openstack server show first -f json')), { 'status': 'ACTIVE', 'OS-EXT-SRV-ATTR:host': 'compute2' })
    const hosts = [...(await list('compute service list', 'Host')), ...(await list('network agent list', 'Host')), ...(await list('hypervisor list', 'Hypervisor Hostname'))]
    t.notOk(hosts.includes('compute'), 'the cloud has forgotten it')
    t.equal(await runInNode(lab, 'compute', ['bash', '-c', leftOfCompute]), '', 'nothing is left on the node')
  })

  await step(t, 'after a power loss of all nodes everything comes back by itself', async (t) => {
    await Promise.all(['control', 'compute2'].map((node) => lab.kill(node)))
    for (const node of ['control', 'compute2']) await lab.start(node).catch((error: unknown) => t.comment(String(error)))
    await eventually(t, 'Lichen finds all as planned', async () => {
      const id = await cluster.submit('check', settled)
      const { outcome } = await cluster.ended(t, id, longMs)
      return outcome === 'succeeded' && (await cluster.actions(id)).every((action) => action.result?.changed !== true)
    }, { timeoutMs: longMs, intervalMs: 5_000 })
    const [floating] = (await list('floating ip list', 'Floating IP Address')) as [string]
    t.match(await login(cluster, floating, 'hostname'), /^first$/m)
  })

  await step(t, 'no password is in logs, actions, events or previews, and the files that hold one are private', async (t) => {
    const secrets = (await cluster.shell('control', `sed --quiet --regexp-extended 's/^(password|metadata_proxy_shared_secret) = //p; s#^(connection|transport_url) = [^:]*://[^:]*:([^@]*)@.*#\\2#p' /etc/nova/nova.conf /etc/glance/glance-api.conf /etc/neutron/neutron.conf; sed --quiet 's/^export OS_PASSWORD=//p' /root/openrc`)).trim().split('\n')
    t.ok(new Set(secrets).size >= 10, `${new Set(secrets).size} secrets`)
    const { items } = await callApi<{ readonly items: readonly { readonly id: string }[] }>(cluster.server(), 'GET', '/v1/tasks')
    for (const { id } of items) {
      const everything = JSON.stringify([await readWholeLog(cluster.server(), id), await cluster.actions(id), await callApi(cluster.server(), 'GET', `/v1/tasks/${id}/events?limit=1000`)])
      t.notOk(secrets.some((secret) => everything.includes(secret)), `task ${id} shows none`)
    }
    t.notOk(secrets.some((secret) => JSON.stringify(plan).includes(secret)))
    const readable = await cluster.shell('control', `grep --recursive --files-with-matches --fixed-strings ${secrets.map((secret) => `--regexp=${secret}`).join(' ')} /etc /root /var/lib/lichen 2>/dev/null | xargs stat --format='%A %n' | grep --extended-regexp '^.{7}r' || true`)
    t.equal(readable, '', 'no file with one can be read by everybody')
  })

  await step(t, 'destroy leaves clean nodes', async (t) => {
    const cleared = planOf({ computeCount: 1 })
    for (const component of cleared.components) if (!['cache', 'client', 'cloud'].includes(component.name)) component.with = { ...component.with, removeData: true }
    await openstack('server delete --wait first')
    await submit(t, 'destroy', cleared, 'succeeded')
    t.equal(await runInNode(lab, 'compute2', ['bash', '-c', leftOfCompute]), '')
    t.equal(await runInNode(lab, 'control', ['bash', '-c', leftOfControl]), '')
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

/** What a command prints on a server, as the user of the image. */
async function login(cluster: Cluster, address: string, command: string): Promise<string> {
  const ssh = `ssh -i /root/key -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -o ConnectTimeout=5 debian@${address}`
  const until = Date.now() + longMs
  for (;;) {
    const { exitCode, stdout, stderr } = await cluster.lab.exec('control', ['bash', '-c', `${ssh} '${command}'`])
    if (exitCode === 0) return String(stdout)
    if (Date.now() > until) throw new Error(`no login on ${address}: ${String(stderr)}`)
    await new Promise((resolve) => setTimeout(resolve, 2_000))
  }
}

const leftOfCompute = `dpkg-query --show --showformat='\${Status} \${Package}\\n' 'nova-*' 'neutron-*' libvirt-daemon-system 2>/dev/null | grep -v not-installed
  ls -d /etc/nova/nova-compute.conf /etc/neutron/lichen-agents.conf /etc/default/nova-compute /etc/default/neutron-* /usr/local/sbin/lichen-* /var/lib/lichen/compute /var/lib/lichen/compute-network 2>/dev/null
  ip -oneline link show | grep -E 'brq|tap|vxlan-'; iptables-save 2>/dev/null | grep neutron; ip netns list; pgrep --list-full qemu
  true`

const leftOfControl = `dpkg-query --show --showformat='\${Status} \${Package}\\n' 'nova-*' 'neutron-*' glance glance-api placement-api keystone rabbitmq-server 'mariadb-server*' 'heat-*' 'openstack-dashboard*' 2>/dev/null | grep -v not-installed
  ls -d /etc/nova/nova.conf /etc/neutron/neutron.conf /etc/glance /etc/placement /etc/keystone /etc/rabbitmq /var/lib/mysql /var/lib/rabbitmq /var/lib/glance /usr/local/sbin/lichen-* /root/openrc 2>/dev/null
  ss --listening --tcp --numeric --no-header | awk '{print $4}' | grep -E ':(80|3306|4369|5672|11211|5000|8000|8004|9292|8778|8774|8775|9696)$'
  ip -oneline link show | grep -E 'brq|tap|vxlan-'; ip netns list; iptables-save 2>/dev/null | grep neutron
  true`
