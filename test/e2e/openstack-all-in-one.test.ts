/** A whole cloud on one node, with the same blueprints: made, used up to a login on a server that runs beside everything else, and taken away. */
import { runInNode } from '@lichen/demo'
import t from 'tap'
import { skipReason } from '../lab/lab-fixture.js'
import { step } from './cluster-fixture.js'
import { leftOfCloud, leftOfCompute, startCloudNodes } from './cloud-fixture.js'

t.setTimeout(1_800_000)

t.test('a cloud on one node', { skip: skipReason() }, async (t) => {
  const cloud = await startCloudNodes(t, 'e2e-all-in-one', { nodes: ['control'], example: 'openstack-all-in-one.yaml' })
  const { cluster, list, openstack, submit } = cloud
  const plan = cloud.planOf()
  let floating = ''

  await step(t, 'it is made by one apply, and applied again nothing changes', async (t) => {
    await submit(t, 'apply', plan, 'succeeded')
    const { task } = await submit(t, 'apply', plan, 'succeeded')
    t.match(task.reason, /nothing had to change on 1 node/)
    t.same(await list('compute service list', 'Binary', 'Host', 'State'), ['nova-compute control up', 'nova-conductor control up', 'nova-scheduler control up'])
    t.same(await list('network agent list', 'Binary', 'Host', 'Alive'), ['neutron-dhcp-agent', 'neutron-l3-agent', 'neutron-linuxbridge-agent', 'neutron-metadata-agent'].map((agent) => `${agent} control true`))
  })

  await step(t, 'a server of it is reached from outside, and knows its name', async (t) => {
    floating = await cloud.makeServer('first')
    t.match(await cloud.login(floating, 'hostname'), /^first$/m)
  })

  await step(t, 'destroy leaves a clean node', async (t) => {
    await openstack('server delete --wait first', `floating ip delete ${floating}`)
    await submit(t, 'destroy', cloud.planOf({ removeData: true }), 'succeeded')
    for (const left of [leftOfCloud, leftOfCompute]) t.equal(await runInNode(cluster.lab, 'control', ['bash', '-c', left]), '')
  })
})
