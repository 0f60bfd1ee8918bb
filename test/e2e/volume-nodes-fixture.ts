/** A cloud with volumes on nodes with kernels of their own: they need the device mapper, iSCSI and NFS of a kernel, and the nodes of a lab have that of this host. */
import type { Test } from 'tap'
import { eventually } from '../eventually.js'
import { startCloudNodes } from './cloud-fixture.js'
import { startOwnKernelMachine } from './own-kernel-fixture.js'

/** On such a kernel everything takes several times as long. */
export const volumesLongMs = 1_800_000

/** Prints what a node has of volumes; nothing when it has nothing. */
export const ofVolumes = `dpkg-query --show --showformat='\${Status} \${Package}\\n' 'cinder-*' python3-cinder tgt 2>/dev/null | grep -v not-installed
  ls -d /etc/cinder /var/lib/cinder /var/log/cinder /etc/default/cinder-* /etc/systemd/system/lichen-cinder-* /usr/local/sbin/lichen-cinder-* /etc/systemd/system/tgt.service.d /var/lib/lichen/volumes 2>/dev/null
  losetup --list --noheadings 2>/dev/null; vgs --noheadings 2>/dev/null; findmnt --noheadings --types nfs,nfs4
  ss --listening --tcp --numeric --no-header | awk '{print $4}' | grep -E ':(8776|3260)$'
  true`

/** A cloud whose nodes of servers and of volumes have kernels of their own, not made yet. */
export async function startVolumeNodes(t: Test) {
  const cloud = await startCloudNodes(t, 'e2e-openstack-volumes', { nodes: ['control'], limitMs: volumesLongMs, clientMs: volumesLongMs })
  const { cluster, openstack, list } = cloud
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
  const becomes = (t: Test, volume: string, wanted: string) => eventually(t, `${volume} is ${wanted}`, async () => (await status(volume)) === wanted, { timeoutMs: volumesLongMs, intervalMs: 2_000 })
  const disappear = (t: Test, what: string) => eventually(t, `there is no ${what}`, async () => (await list(`${what} list`, 'Name')).length === 0, { timeoutMs: volumesLongMs, intervalMs: 2_000 })
  const attach = async (t: Test, volume: string) => {
    await openstack(`server add volume first ${volume}`)
    await becomes(t, volume, 'in-use')
  }
  const detach = async (t: Test, volume: string) => {
    await openstack(`server remove volume first ${volume}`)
    await becomes(t, volume, 'available')
  }
  /** A volume of one GiB that the server, which has this address, has written on. */
  const makeWritten = async (t: Test, floating: string, volume: string) => {
    await openstack(`volume create --size 1 ${volume}`)
    await becomes(t, volume, 'available')
    await attach(t, volume)
    t.match(await cloud.login(floating, 'printf lichen | sudo dd of=/dev/vdb conv=fsync status=none && lsblk --noheadings --nodeps --output NAME,SIZE /dev/vdb'), /^vdb +1G$/m)
  }
  const written = async (floating: string) => cloud.login(floating, 'sudo head --bytes=6 /dev/vdb')
  return { cloud, compute, storage, planOf, shown, status, becomes, disappear, attach, detach, makeWritten, written }
}
