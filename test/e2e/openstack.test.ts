/**
 * A cloud from a plan on two real nodes, from the distribution's packages: made while agents and a dpkg are killed in the middle of an installation and the server in the middle of a migration,
 * and used with the stock client up to a login on a server of it. What its life brings is in openstack-life.test.ts.
 */
import { runInNode } from '@lichen/demo'
import t from 'tap'
import { eventually } from '../eventually.js'
import { skipReason } from '../lab/lab-fixture.js'
import { patienceMs, step } from './cluster-fixture.js'
import { images, longMs, startCloudNodes } from './cloud-fixture.js'

t.setTimeout(1_500_000)

/** Kills the agent of a node and all that it runs while dpkg is in the middle of a package: all of it is stopped for the moment in which that is looked at. */
const killWithDpkg = `isHalfUnpacked() { dpkg-query --show --showformat='\${db:Status-Eflag}\\n' | grep --quiet reinstreq; }
signal() { systemctl kill --kill-who=all --signal="$1" lichen-agent.service; }
until isHalfUnpacked && signal STOP && isHalfUnpacked; do signal CONT; sleep 0.02; done
signal KILL`

t.test('OpenStack from a plan', { skip: skipReason() }, async (t) => {
  const cloud = await startCloudNodes(t, 'e2e-openstack')
  const { cluster, planOf, openstack, list, submit } = cloud
  const plan = planOf()
  let floating = ''

  await step(t, 'nodes that cannot be what they are to be are refused with all that is wrong with them, before anything is installed on any', async (t) => {
    const installed = (): Promise<string[]> => Promise.all(['control', 'compute'].map((node) => cluster.shell(node, "dpkg-query --show --showformat '${Package} ${Version} ${db:Status-Status}\\n'")))
    const before = await installed()
    await cluster.shell('control', `systemd-run --unit=taken --quiet perl -MIO::Socket::INET -e 'my $$s = IO::Socket::INET->new(Listen => 1, LocalPort => 9292) or die; sleep'`)
    const { failures } = await submit(t, 'apply', planOf({ with: { compute: { virtType: 'kvm', minMemoryMb: 1_000_000, minDiskMb: 100_000_000 } } }), 'failed')
    t.match(failures, /compute\/preflight@compute: COMMAND_CONDITION: [^]*the node has \d+ MiB of memory, and 1000000 are needed[^]*MiB free under \/var\/lib, and 100000000 are needed[^]*no \/dev\/kvm: [^]*virtType: qemu/)
    t.match(failures, /glance\/preflight@control: [^]*TCP port 9292, which glance-api\.service is to listen on, is taken by another program/)
    t.same(await installed(), before)
    await cluster.shell('control', 'systemctl stop taken')
  })

  await step(t, 'it is made by one apply, though an agent dies while dpkg unpacks, another one together with its dpkg, and the server in a migration of the database', async (t) => {
    const made = await cluster.submit('apply', plan)
    const killAgent = async () => {
      await cluster.running(t, 'compute', 'dpkg.*--unpack')
      await cluster.shell('compute', 'systemctl kill --kill-who=main --signal=KILL lichen-agent.service')
    }
    await Promise.all([killAgent(), runInNode(cluster.lab, 'control', ['bash', '-c', killWithDpkg], patienceMs)])
    await eventually(t, 'nova migrates its database', async () => (await cluster.lab.exec('control', ['pgrep', '--full', 'nova-manage (api_)?db sync$'])).exitCode === 0, { timeoutMs: longMs, intervalMs: 100 })
    await cluster.killAndRestartServer()
    t.match(await cluster.ended(t, made, longMs), { outcome: 'succeeded' })
    await cluster.tell(t, made)
    const log = await cluster.log(made)
    for (const said of ['dpkg was interrupted before: dpkg --configure -a', 'what it was unpacking comes again, with what others need: apt-get install --fix-broken']) t.match(log, said)
    for (const node of ['control', 'compute']) t.equal(await cluster.shell(node, 'dpkg --audit'), '', `every package on ${node} is whole`)
  })

  await step(t, 'the stock client sees the services, the agents and what the plan put into the cloud', async (t) => {
    t.match(await cluster.shell('control', '. /root/openrc && openstack token issue -f value -c expires'), /^\d{4}-/)
    const types = ['cloudformation', 'compute', 'identity', 'image', 'network', 'orchestration', 'placement']
    t.same(await list('endpoint list', 'Service Type', 'Interface', 'Region'), types.flatMap((type) => ['admin', 'internal', 'public'].map((name) => `${type} ${name} RegionOne`)))
    t.same(await list('compute service list', 'Binary', 'Host', 'State'), ['nova-compute compute up', 'nova-conductor control up', 'nova-scheduler control up'])
    t.same(await list('network agent list', 'Binary', 'Host', 'Alive'), ['neutron-dhcp-agent control true', 'neutron-l3-agent control true', 'neutron-linuxbridge-agent compute true', 'neutron-linuxbridge-agent control true', 'neutron-metadata-agent control true'])
    t.same(await list('image list', 'Name', 'Status'), ['guest active', 'initrd active', 'kernel active'])
  })

  await step(t, 'applied again, nothing changes', async (t) => {
    const { task } = await submit(t, 'apply', plan, 'succeeded')
    t.match(task.reason, /nothing had to change on 2 nodes/)
    t.comment(`it took ${task.timing.durationMs} ms`)
  })

  await step(t, 'the stock client uploads an image and makes a network, which the router of the plan joins with the public one', async (t) => {
    const idOf = (image: string) => `"$(openstack image show ${image} -f value -c id)"`
    const properties = Object.entries(images.properties).map(([name, value]) => `--property ${name}='${value}'`).join(' ')
    await cluster.shell('control', `. /root/openrc && openstack image create --disk-format raw --file ${images.disk} --property kernel_id=${idOf('kernel')} --property ramdisk_id=${idOf('initrd')} ${properties} uploaded`)
    t.same(await list('image list', 'Name', 'Status'), ['guest active', 'initrd active', 'kernel active', 'uploaded active'])
    await openstack('network create own', 'subnet create --network own --subnet-range 10.40.0.0/24 own-v4', 'router add subnet edge own-v4')
    t.same(await list('network list', 'Name'), ['inner', 'own', 'public'])
  })

  await step(t, 'a server gets its address, metadata and key, runs its user data, and its security group drops what it should', async (t) => {
    await cluster.shell('control', `printf '#cloud-config\\nruncmd:\\n  - [sh, -c, "echo USERDATA-RAN > /dev/console"]\\n' > /root/user-data`)
    floating = await cloud.makeServer('first', { image: 'uploaded', network: 'own', more: '--user-data /root/user-data' })
    t.match(await openstack('server show first -f value -c status'), /ACTIVE/)
    const shown = await openstack('server show first -f value -c image -c addresses')
    t.match(shown, /\buploaded \([0-9a-f-]{36}\)/, 'of the image that the client uploaded')
    t.match(shown, /\bown\b[^]*\b10\.40\.0\.\d+/, 'in the network that it made')
    const console = () => openstack('console log show first')
    await eventually(t, 'the console shows that its user data ran', async () => /USERDATA-RAN/.test(await console()), { timeoutMs: longMs, intervalMs: 2_000 })
    await eventually(t, 'and the prompt of a login', async () => /login:/.test(await console()), { timeoutMs: patienceMs, intervalMs: 2_000 })
    t.match(await cloud.login(floating, 'hostname'), /^first$/m)
    t.match(await cloud.login(floating, 'wget -q -O - http://169.254.169.254/latest/meta-data/instance-id || curl -s http://169.254.169.254/latest/meta-data/instance-id'), /^i-0/m, 'the metadata service knows it')
    const connect = (port: number) => cluster.lab.exec('control', ['timeout', '5', 'bash', '-c', `exec 3<>/dev/tcp/${floating}/${port}`])
    t.equal((await connect(22)).exitCode, 0, 'the port that is let in answers')
    t.equal((await connect(23)).exitCode, 124, 'another one is dropped: no answer, not a refusal')
  })

  await step(t, 'a node that is rebooted comes back with all it had by itself, servers too', async (t) => {
    for (const node of ['compute', 'control']) {
      const bootId = cluster.lab.bootId(node)
      await cluster.lab.reboot(node)
      t.not(cluster.lab.bootId(node), bootId, `${node} has booted anew`)
      await cluster.settled(t, `after a reboot of ${node}`, plan, longMs)
      t.match(await cloud.login(floating, 'hostname'), /^first$/m, 'the server is reached again')
    }
  })

  await step(t, 'no password is in logs, actions, events or previews, and the files that hold one are private', (t) => cloud.lookForSecrets(t, plan))
})
