/** A control plane of three nodes behind a load balancer, from a plan: the same example with another count and an endpoint. Each has a member of etcd; with one of them gone the API still answers. */
import t from 'tap'
import { eventually } from '../eventually.js'
import { buildKubernetesPlan } from '../kubernetes/kubernetes-plan.js'
import { skipReason } from '../lab/lab-fixture.js'
import { patienceMs, step } from './cluster-fixture.js'
import { startControlPlaneNodes } from './control-plane-fixture.js'

t.setTimeout(1_500_000)

t.test('a control plane of three nodes', { skip: skipReason() }, async (t) => {
  const { cluster, kube, filesUrl, endpoint } = await startControlPlaneNodes(t, 'e2e-kubernetes-three', ['a', 'b', 'c'], ['w'])
  const plan = buildKubernetesPlan(kube, filesUrl, { version: kube.versions[0]!, controlPlane: { count: 3, endpoint } })
  // The one worker is to have both.
  plan.components.find(({ name }) => name === 'web')!.with = { manifests: ['apiVersion: v1\nkind: Namespace\nmetadata: {name: web}\n'] }
  const kubectl = (node: string, words: string): Promise<string> => cluster.shell(node, `kubectl --kubeconfig /etc/kubernetes/admin.conf ${words}`)
  const readNodes = async (node: string): Promise<string[]> => (await kubectl(node, `get nodes --output 'jsonpath={range .items[*]}{.metadata.name} {.status.conditions[?(@.type=="Ready")].status}{"\\n"}{end}'`)).trim().split('\n').sort()

  await step(t, 'it is made by one apply, and applied again nothing changes', async (t) => {
    const made = await cluster.submit('apply', plan)
    t.match(await cluster.ended(t, made), { outcome: 'succeeded' })
    for (const action of await cluster.actions(made)) if (action.result?.failure) t.comment(`${action.id}: ${action.result.failure.message}`)
    t.same(await readNodes('a'), ['a True', 'b True', 'c True', 'w True'])
    t.equal((await kubectl('b', '--namespace kube-system get pods --selector component=etcd --output name')).trim().split('\n').length, 3, 'three members of etcd')
    const again = await cluster.submit('apply', plan)
    t.match(await cluster.ended(t, again), { outcome: 'succeeded', reason: /nothing had to change on 4 nodes/ })
  })

  await step(t, 'with one of them gone the API still answers, takes changes, and sees who is missing', async (t) => {
    await cluster.lab.kill('a')
    await eventually(t, 'it answers under its endpoint', async () => (await cluster.lab.exec('w', ['kubectl', '--kubeconfig=/etc/kubernetes/kubelet.conf', '--request-timeout=5s', 'get', '--raw=/readyz'])).exitCode === 0, { timeoutMs: patienceMs, intervalMs: 500 })
    await eventually(t, 'it takes a change', async () => (await cluster.lab.exec('b', ['kubectl', '--kubeconfig=/etc/kubernetes/admin.conf', '--request-timeout=5s', 'create', 'namespace', 'after'])).exitCode === 0, { timeoutMs: patienceMs, intervalMs: 500 })
    await eventually(t, 'a is not ready', async () => (await readNodes('b')).includes('a Unknown'), { timeoutMs: patienceMs, intervalMs: 1_000 })
    await cluster.lab.start('a')
    await eventually(t, 'and is ready again when it is back', async () => (await readNodes('b')).includes('a True'), { timeoutMs: patienceMs, intervalMs: 1_000 })
  })

  await step(t, 'it can be taken away', async (t) => {
    const removed = await cluster.submit('destroy', plan)
    t.match(await cluster.ended(t, removed), { outcome: 'succeeded' })
    for (const action of await cluster.actions(removed)) if (action.result?.failure) t.comment(`${action.id}: ${action.result.failure.message}`)
    for (const node of ['a', 'b', 'c', 'w']) t.equal(await cluster.shell(node, 'ls --directory /etc/kubernetes /var/lib/etcd /var/lib/kubelet 2>/dev/null; true'), '', node)
  })
})
