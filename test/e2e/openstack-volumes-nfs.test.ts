/** Volumes on a share (NFS). */
import t from 'tap'
import { skipReason } from '../lab/lab-fixture.js'
import { leftOfCompute } from './cloud-fixture.js'
import { step } from './cluster-fixture.js'
import { ofVolumes, startVolumeNodes } from './volume-nodes-fixture.js'

t.setTimeout(3_600_000)

t.test('volumes on a share', { skip: skipReason() }, async (t) => {
  const { cloud, compute, storage, planOf, detach, makeWritten } = await startVolumeNodes(t)
  const { openstack, list, submit } = cloud
  const share = { type: 'nfs', shares: [`${storage.address}:/srv/volumes`] }
  await step(t, 'volumes are files on a share, and a server writes on one', async (t) => {
    await storage.shell('mkdir /srv/volumes && echo "/srv/volumes *(rw,no_root_squash,no_subtree_check)" >/etc/exports && systemctl restart nfs-server')
    await submit(t, 'apply', planOf(share), 'succeeded')
    const { task } = await submit(t, 'apply', planOf(share), 'succeeded')
    t.match(task.reason, /nothing had to change on 3 nodes/)
    t.same(await list('volume service list', 'Binary', 'Host', 'State'), ['cinder-scheduler storage up', 'cinder-volume storage@nfs up'])
    await makeWritten(t, await cloud.makeServer('first'), 'file')
    t.equal(await storage.shell('head --bytes=6 /srv/volumes/volume-*'), 'lichen')
    await detach(t, 'file')
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
