/** Volumes of a cloud, in LVM and on a share, on nodes with kernels of their own: they need the device mapper, iSCSI and NFS of a kernel, and the nodes of a lab have that of this host. */
import t, { type Test } from 'tap'
import { eventually } from '../eventually.js'
import { skipReason } from '../lab/lab-fixture.js'
import { step } from './cluster-fixture.js'
import { leftOfCompute, startCloudNodes } from './cloud-fixture.js'
import { startOwnKernelMachine } from './own-kernel-fixture.js'

t.setTimeout(3_600_000)

/** On such a kernel everything takes several times as long. */
const longMs = 1_800_000

/** Prints what a node has of volumes; nothing when it has nothing. */
const ofVolumes = `dpkg-query --show --showformat='\${Status} \${Package}\\n' 'cinder-*' python3-cinder tgt 2>/dev/null | grep -v not-installed
  ls -d /etc/cinder /var/lib/cinder /var/log/cinder /etc/default/cinder-* /etc/systemd/system/lichen-cinder-* /usr/local/sbin/lichen-cinder-* /var/lib/lichen/volumes 2>/dev/null
  losetup --list --noheadings 2>/dev/null; vgs --noheadings 2>/dev/null; findmnt --noheadings --types nfs,nfs4
  ss --listening --tcp --numeric --no-header | awk '{print $4}' | grep -E ':(8776|3260)$'
  true`

/** A cloud whose nodes of servers and of volumes have kernels of their own, not made yet. */
async function startVolumeNodes(t: Test) {
  const cloud = await startCloudNodes(t, 'e2e-openstack-volumes', { nodes: ['control'], limitMs: longMs, clientMs: longMs })
  const { cluster, openstack } = cloud
  const [compute, storage] = await Promise.all([
    startOwnKernelMachine(t, cluster, { host: 'compute-host', number: 201, memoryMb: 3072, diskGb: 12, labels: { role: 'compute' }, packages: ['nova-compute', 'nova-compute-kvm', 'genisoimage', 'neutron-linuxbridge-agent', 'ipset', 'conntrack', 'nfs-common'] }),
    startOwnKernelMachine(t, cluster, { host: 'storage-host', number: 202, memoryMb: 2048, diskGb: 16, labels: { role: 'storage' }, packages: ['python3-cinder', 'nfs-kernel-server'] }),
  ])
  const planOf = (backend: object, role = 'storage') => {
    // Security groups track connections in zones, which these kernels lack. They are tried in openstack.test.ts.
    const open = { securitygroup: { enable_security_group: false, firewall_driver: 'noop' } }
    const plan = cloud.planOf({ with: { compute: { removeData: true }, 'compute-network': { removeData: true, options: open } } })
    const volumes = { name: 'volumes', blueprint: 'cinder@^1', on: 'storage', with: { backend, removeData: true }, uses: { database: 'db', messages: 'messages', identity: 'keystone', image: 'glance', cache: 'cache' } }
    return {
      ...plan,
      nodes: [...plan.nodes, { name: 'storage', select: { role }, count: 1 }],
      components: [...plan.components.filter(({ name }) => !['heat', 'dashboard'].includes(name)), volumes],
    }
  }
  const shown = async (what: string, field: string) => String((JSON.parse(await openstack(`${what} -f json`)) as Record<string, unknown>)[field])
  const status = (volume: string) => shown(`volume show ${volume}`, 'status')
  const becomes = (t: Test, what: string, wanted: string) => eventually(t, `${what} is ${wanted}`, async () => (await status(what)) === wanted, { timeoutMs: longMs, intervalMs: 2_000 })
  return { cloud, compute, storage, planOf, shown, becomes }
}

t.test('volumes in LVM', { skip: skipReason() }, async (t) => {
  const { cloud, planOf, shown, becomes } = await startVolumeNodes(t)
  const { cluster, openstack, list, submit } = cloud
  const lvm = { type: 'lvm', loopFileGb: 5 }
  const plan = planOf(lvm)

  await step(t, 'a node whose kernel lacks what volumes need is refused before anything of them is installed there', async (t) => {
    const { failures } = await submit(t, 'apply', { ...planOf(lvm, 'control'), rollout: { maxFailures: 1 } }, 'failed')
    t.match(failures, /volumes\/preflight@control: COMMAND_PROBE_DEADLINE: [^]*the node has no \/dev\/mapper\/control: its kernel lacks dm_mod/)
    t.equal((await cluster.shell('control', ofVolumes)).trim(), '/var/lib/lichen/volumes', 'nothing of it is there but what looked')
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

t.test('volumes on a share', { skip: skipReason() }, async (t) => {
  const { cloud, compute, storage, planOf, becomes } = await startVolumeNodes(t)
  const { openstack, list, submit } = cloud
  const share = { type: 'nfs', shares: [`${storage.address}:/srv/volumes`] }
  await step(t, 'volumes are files on a share, and a server writes on one', async (t) => {
    await storage.shell('mkdir /srv/volumes && echo "/srv/volumes *(rw,no_root_squash,no_subtree_check)" >/etc/exports && systemctl restart nfs-server')
    await submit(t, 'apply', planOf(share), 'succeeded')
    const { task } = await submit(t, 'apply', planOf(share), 'succeeded')
    t.match(task.reason, /nothing had to change on 3 nodes/)
    t.same(await list('volume service list', 'Binary', 'Host', 'State'), ['cinder-scheduler storage up', 'cinder-volume storage@nfs up'])
    const floating = await cloud.makeServer('first')
    await openstack('volume create --size 1 file')
    await becomes(t, 'file', 'available')
    await openstack('server add volume first file')
    await becomes(t, 'file', 'in-use')
    t.match(await cloud.login(floating, 'printf lichen | sudo dd of=/dev/vdb conv=fsync status=none && lsblk --noheadings --nodeps --output NAME,SIZE /dev/vdb'), /^vdb +1G$/m)
    t.equal(await storage.shell('head --bytes=6 /srv/volumes/volume-*'), 'lichen')
    await openstack('server remove volume first file')
    await becomes(t, 'file', 'available')
  })

  await step(t, 'destroy leaves clean nodes, and the share as it is', async (t) => {
    const [floating] = (await list('floating ip list', 'Floating IP Address')) as [string]
    await openstack('server delete --wait first', `floating ip delete ${floating}`)
    await submit(t, 'destroy', planOf(share), 'succeeded')
    t.equal((await storage.shell(ofVolumes)).trim(), '')
    t.equal((await compute.shell(leftOfCompute)).trim(), '')
    t.match(await storage.shell('ls /srv/volumes'), /^volume-/m)
  })
})
