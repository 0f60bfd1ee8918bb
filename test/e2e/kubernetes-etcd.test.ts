/** A control plane whose etcd stands outside of it, a component of its own: made, used, its node rebooted as an operation, and taken away while etcd stays as it was. */
import t, { type Test } from 'tap'
import { buildKubernetesPlan } from '../kubernetes/kubernetes-plan.js'
import { buildKubePackages } from '../kubernetes/packages/build.js'
import { serveDirectory } from '../kubernetes/serve-directory.js'
import { cacheDirectory, skipReason } from '../lab/lab-fixture.js'
import { startCluster, step } from './cluster-fixture.js'

t.setTimeout(1_500_000)
const longMs = 600_000

t.test('a control plane with an etcd outside of it', { skip: skipReason() }, async (t) => {
  const kube = await buildKubePackages({ cacheDirectory, log: (line) => t.comment(line) })
  const labelsOf = (node: string) => (node === 'store' ? { role: 'store' } : { cluster: 'demo', role: node === 'cp' ? 'control-plane' : 'worker' })
  const cluster = await startCluster(t, 'e2e-kubernetes-etcd', ['store', 'cp', 'w1'], { privileged: true, labelsOf })
  const files = await serveDirectory(cluster.server().gatewayAddress.replace(/:\d+$/, ''), kube.directory)
  t.teardown(() => files.close())
  const base = buildKubernetesPlan(kube, files.url, { version: kube.versions[0]! })
  const components = base.components
    .filter(({ name }) => name !== 'web')
    .map((component) => (component.name === 'control-plane' ? { ...component, uses: { runtime: 'runtime', network: 'network', etcd: 'store' } } : component))
  const plan = { ...base, nodes: [...base.nodes, { name: 'store', select: { role: 'store' }, count: 1 }], components: [{ name: 'store', blueprint: 'etcd', on: 'store' }, ...components] }
  const kubectl = (words: string): Promise<string> => cluster.shell('cp', `kubectl --kubeconfig /etc/kubernetes/admin.conf ${words}`)
  const keys = async (): Promise<number> => Number((await cluster.shell('store', 'ETCDCTL_API=3 etcdctl --endpoints "http://$(hostname --all-ip-addresses | cut --delimiter=" " --fields=1):2379" get --prefix /registry/ --keys-only | grep --count . || true')).trim())
  const succeed = async (t: Test, id: string) => {
    const task = await cluster.ended(t, id, longMs)
    await cluster.tell(t, id)
    t.match(task, { outcome: 'succeeded' })
    return task
  }

  await step(t, 'it is made, keeps its objects there, and has no etcd of its own', async (t) => {
    await succeed(t, await cluster.submit('apply', plan))
    t.same((await kubectl('get nodes --output name')).trim().split('\n').sort(), ['node/cp', 'node/w1'])
    t.ok((await keys()) > 50, 'objects are in the etcd outside')
    t.equal((await kubectl('--namespace kube-system get pods --selector component=etcd --output name')).trim(), '')
    t.match((await succeed(t, await cluster.submit('apply', plan))).reason, /nothing had to change/)
  })

  await step(t, 'the node of the control plane is rebooted as an operation, and the cluster is well afterwards', async (t) => {
    const before = cluster.lab.bootId('cp')
    await succeed(t, await cluster.operate('kubernetes', { operation: 'reboot', components: ['control-plane'] }))
    t.not(cluster.lab.bootId('cp'), before)
    t.match(await kubectl('get node cp'), /\bReady\s/)
    t.match((await succeed(t, await cluster.submit('apply', plan))).reason, /nothing had to change/)
  })

  await step(t, 'without the cluster in the plan, its nodes are clean and etcd stays', async (t) => {
    await succeed(t, await cluster.submit('apply', { ...plan, components: plan.components.filter(({ name }) => name === 'store') }))
    t.equal(await cluster.shell('cp', 'ls --directory /etc/kubernetes /var/lib/etcd /var/lib/kubelet 2>/dev/null; true'), '')
    t.equal((await cluster.shell('store', 'systemctl is-active etcd')).trim(), 'active')
  })
})
