/** The etcd blueprint on real nodes: one member, then three, worked on one node at a time, through the loss of one of them. */
import t, { type Test } from 'tap'
import { skipReason } from '../lab/lab-fixture.js'
import { eventually } from '../eventually.js'
import { startCluster, step, type Cluster } from './cluster-fixture.js'

t.setTimeout(900_000)

const nodes = ['a', 'b', 'c']

const buildPlan = (name: string, group: object, rollout: object = {}) => ({
  apiVersion: 'lichen.dev/v1',
  kind: 'DeploymentPlan',
  metadata: { name },
  nodes: [{ name: 'members', ...group }],
  components: [{ name: 'store', blueprint: 'etcd@^1', on: 'members', with: { removeData: true } }],
  rollout,
})

t.test('etcd from a plan', { skip: skipReason() }, async (t) => {
  const cluster = await startCluster(t, 'e2e-etcd', nodes)
  const etcdctl = (node: string, words: string) => cluster.shell(node, `etcdctl --endpoints=http://${cluster.lab.node(node).address}:2379 ${words}`)

  await step(t, 'a single member keeps what is put into it, and leaves a clean node', async (t) => {
    const plan = buildPlan('solo', { select: { role: 'a' }, count: 1 })
    await succeed(t, cluster, 'apply', plan)
    await etcdctl('a', 'put greeting hello')
    t.equal(await etcdctl('a', 'get --print-value-only greeting'), 'hello\n')
    await succeed(t, cluster, 'destroy', plan)
    t.equal(await cluster.shell('a', "ls -d /var/lib/etcd /etc/default/etcd /etc/systemd/system/etcd.service.d 2>/dev/null; systemctl list-unit-files --no-legend 'etcd*'; true"), '')
  })

  const plan = buildPlan('three', { count: 3 }, { maxParallelNodes: 1 })
  await step(t, 'three members become one cluster, although nodes are worked on one after another', async (t) => {
    const task = await succeed(t, cluster, 'apply', plan)
    t.same((await cluster.actions(task)).filter((action) => action.attempt !== 1), [], 'no action had to be tried twice')
    t.equal((await etcdctl('a', 'member list')).trim().split('\n').length, 3)
    await etcdctl('a', 'put greeting hello')
    t.equal(await etcdctl('c', 'get --print-value-only greeting'), 'hello\n')
  })

  await step(t, 'the cluster serves without one member, which comes back by itself', async (t) => {
    await cluster.lab.kill('b')
    // When it was the leader, what comes before the others have elected one of them fails.
    await eventually(t, 'it serves', async () => (await etcdctl('a', 'put greeting again')) !== '', { timeoutMs: 60_000 })
    await cluster.lab.start('b')
    const task = await succeed(t, cluster, 'apply', plan)
    t.same((await cluster.actions(task)).filter((action) => action.result?.changed), [], 'nothing had to change')
    t.equal(await etcdctl('b', 'get --print-value-only greeting'), 'again\n')
  })

  await step(t, 'an even number of members is refused', async (t) => {
    const id = await cluster.submit('apply', buildPlan('two', { count: 2 })).catch((error: unknown) => (error as { output: string }).output)
    const said = id.startsWith('t-') ? JSON.stringify(await cluster.ended(t, id)) : id
    t.match(said, /odd number of members/)
  })
})

async function succeed(t: Test, cluster: Cluster, kind: 'apply' | 'destroy', plan: unknown): Promise<string> {
  const id = await cluster.submit(kind, plan)
  t.match(await cluster.ended(t, id), { outcome: 'succeeded' }, `${kind} succeeds`)
  return id
}
