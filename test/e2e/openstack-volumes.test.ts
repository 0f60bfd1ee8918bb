/** Volumes of a cloud, in LVM, on nodes with kernels of their own: they need the device mapper and the iSCSI of a kernel, and the nodes of a lab have that of this host. */
import t, { type Test } from 'tap'
import { eventually } from '../eventually.js'
import { skipReason } from '../lab/lab-fixture.js'
import { step } from './cluster-fixture.js'
import { startCloudNodes } from './cloud-fixture.js'
import { startOwnKernelMachine } from './own-kernel-fixture.js'

t.setTimeout(3_600_000)

/** On such a kernel everything takes several times as long. */
const longMs = 1_800_000

/** Prints what a node has of volumes; nothing when it has nothing. */
const ofVolumes = `dpkg-query --show --showformat='\${Status} \${Package}\\n' 'cinder-*' python3-cinder tgt 2>/dev/null | grep -v not-installed; ls -d /etc/cinder /var/lib/cinder 2>/dev/null; true`

t.test('volumes of a cloud', { skip: skipReason() }, async (t) => {
  const cloud = await startCloudNodes(t, 'e2e-openstack-volumes', { nodes: ['control'], limitMs: longMs, clientMs: longMs })
  const { cluster, openstack, list, submit } = cloud
  await Promise.all([
    startOwnKernelMachine(t, cluster, { host: 'compute-host', number: 201, memoryMb: 3072, diskGb: 12, labels: { role: 'compute' }, packages: ['nova-compute', 'nova-compute-kvm', 'genisoimage', 'neutron-linuxbridge-agent', 'ipset', 'conntrack'] }),
    startOwnKernelMachine(t, cluster, { host: 'storage-host', number: 202, memoryMb: 2048, diskGb: 16, labels: { role: 'storage' }, packages: ['python3-cinder'] }),
  ])
  const planOf = (role: string) => {
    // Security groups track connections in zones, which these kernels lack. They are tried in openstack.test.ts.
    const open = { securitygroup: { enable_security_group: false, firewall_driver: 'noop' } }
    const plan = cloud.planOf({ with: { 'compute-network': { options: open } } })
    const volumes = { name: 'volumes', blueprint: 'cinder@^1', on: 'storage', with: { backend: { type: 'lvm', loopFileGb: 5 } }, uses: { database: 'db', messages: 'messages', identity: 'keystone', image: 'glance', cache: 'cache' } }
    return {
      ...plan,
      nodes: [...plan.nodes, { name: 'storage', select: { role }, count: 1 }],
      components: [...plan.components.filter(({ name }) => !['heat', 'dashboard'].includes(name)), volumes],
    }
  }
  const plan = planOf('storage')
  const shown = async (what: string, field: string) => String((JSON.parse(await openstack(`${what} -f json`)) as Record<string, unknown>)[field])
  const status = (volume: string) => shown(`volume show ${volume}`, 'status')
  const becomes = (t: Test, what: string, wanted: string) => eventually(t, `${what} is ${wanted}`, async () => (await status(what)) === wanted, { timeoutMs: longMs, intervalMs: 2_000 })

  await step(t, 'a node whose kernel lacks what volumes need is refused before anything of them is installed there', async (t) => {
    const { failures } = await submit(t, 'apply', { ...planOf('control'), rollout: { maxFailures: 1 } }, 'failed')
    t.match(failures, /volumes\/preflight@control: COMMAND_PROBE_DEADLINE: [^]*the node has no \/dev\/mapper\/control: its kernel lacks dm_mod/)
    t.equal(await cluster.shell('control', ofVolumes), '', 'nothing of it is there')
  })

  await step(t, 'it is made by one apply, and a second one changes nothing', async (t) => {
    const { id } = await submit(t, 'apply', plan, 'succeeded')
    await cluster.tell(t, id)
    t.same(await list('volume service list', 'Binary', 'Host', 'State'), ['cinder-scheduler storage up', 'cinder-volume storage@lvm up'])
    const { task } = await submit(t, 'apply', plan, 'succeeded')
    t.match(task.reason, /nothing had to change on 3 nodes/)
  })

  await step(t, 'a server writes on a volume, which keeps it: detached, copied and made larger', async (t) => {
    const floating = await cloud.makeServer('first')
    await openstack('volume create --size 1 data')
    await becomes(t, 'data', 'available')
    await openstack('server add volume first data')
    await becomes(t, 'data', 'in-use')
    t.match(await cloud.login(floating, 'printf lichen | sudo dd of=/dev/vdb conv=fsync status=none && lsblk --noheadings --nodeps --output NAME,SIZE /dev/vdb'), /^vdb +1G$/m)
    await openstack('server remove volume first data')
    await becomes(t, 'data', 'available')
    await openstack('volume snapshot create --volume data before')
    await eventually(t, 'the snapshot is made', async () => (await shown('volume snapshot show before', 'status')) === 'available', { timeoutMs: longMs, intervalMs: 2_000 })
    await openstack('volume create --snapshot before copy')
    await becomes(t, 'copy', 'available')
    await openstack('volume set --size 2 data')
    await becomes(t, 'data', 'available')
    t.equal(await shown('volume show data', 'size'), '2')
    await openstack('server add volume first copy')
    await becomes(t, 'copy', 'in-use')
    t.equal(await cloud.login(floating, 'sudo head --bytes=6 /dev/vdb'), 'lichen')
  })
})
