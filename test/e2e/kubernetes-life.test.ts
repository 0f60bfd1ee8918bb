/**
 * What a cluster lives through after it was made: it is upgraded while an agent dies in the middle of `kubeadm upgrade`, nodes are drained as budgets of disruption allow, leave and are clean
 * afterwards, are rebooted, get new certificates; and its control plane shrinks, but not below what etcd needs.
 */
import { callApi } from '@lichen/demo'
import t, { type Test } from 'tap'
import { eventually } from '../eventually.js'
import { buildKubernetesPlan, type KubernetesPlan, type PlanChanges } from '../kubernetes/kubernetes-plan.js'
import { skipReason } from '../lab/lab-fixture.js'
import { type Cluster, patienceMs, step } from './cluster-fixture.js'
import { startControlPlaneNodes } from './control-plane-fixture.js'

t.setTimeout(1_800_000)

/** Five nodes are upgraded one after the other. */
const upgradeMs = 900_000

t.test('the life of a Kubernetes cluster', { skip: skipReason() }, async (t) => {
  const { cluster, kube, filesUrl, endpoint, addresses } = await startControlPlaneNodes(t, 'e2e-kubernetes-life', ['a', 'b', 'c'], ['w1', 'w2'])
  const [first, second] = kube.versions as [string, string]
  const planOf = ({ count = 3, ...changes }: Omit<PlanChanges, 'controlPlane'> & { readonly count?: number }) => soften(buildKubernetesPlan(kube, filesUrl, { ...changes, controlPlane: { count, endpoint } }))
  const kubectl = (words: string): Promise<string> => cluster.shell('a', `kubectl --kubeconfig /etc/kubernetes/admin.conf ${words}`)
  const readNodes = async (): Promise<string[]> => (await kubectl(`get nodes --output 'jsonpath={range .items[*]}{.metadata.name} {.status.nodeInfo.kubeletVersion} {.status.conditions[?(@.type=="Ready")].status}{.spec.unschedulable}{"\\n"}{end}'`)).trim().split('\n').sort()
  const all = (version: string, names: readonly string[]): string[] => names.map((name) => `${name} v${version} True`)
  const submit = async (t: Test, kind: 'apply' | 'check', plan: unknown, outcome: string): Promise<{ id: string; reason: string; failures: string }> => {
    const id = await cluster.submit(kind, plan)
    const { reason } = await told(t, cluster, id, outcome)
    return { id, reason, failures: (await cluster.actions(id)).flatMap(({ result }) => result?.failure?.message ?? []).join('\n') }
  }

  await step(t, 'it is made, and gives its kubeconfig to who asks for it', async (t) => {
    await submit(t, 'apply', planOf({ version: first }), 'succeeded')
    t.same(await readNodes(), all(first, ['a', 'b', 'c', 'w1', 'w2']))
    const { value } = await callApi<{ readonly value: string }>(cluster.server(), 'GET', '/v1/deployments/default/kubernetes/outputs/control-plane/kubeconfig')
    t.equal(value, await cluster.shell('a', 'cat /etc/kubernetes/admin.conf'))
  })

  await step(t, 'a version that kubeadm could not upgrade to is refused before anything is changed', async (t) => {
    const { failures } = await submit(t, 'apply', { ...planOf({ version: first }), components: withVersion(planOf({ version: first }), '1.22.0') }, 'failed')
    t.match(failures, /has Kubernetes 1\.20\.2, and 1\.22\.0 is 2 minor versions later: .* let 1\.21 come first/)
    t.same(await readNodes(), all(first, ['a', 'b', 'c', 'w1', 'w2']))
  })

  await step(t, 'another version in the plan upgrades node after node, though an agent dies in kubeadm upgrade', async (t) => {
    const id = await cluster.submit('apply', planOf({ version: second }))
    // Whichever node comes first changes the cluster, the others follow.
    await eventually(t, 'kubeadm upgrades b', async () => (await cluster.lab.exec('b', ['pgrep', '--full', '^kubeadm upgrade (apply|node)'])).exitCode === 0, { timeoutMs: upgradeMs, intervalMs: 50 })
    await cluster.shell('b', 'systemctl kill --kill-who=main --signal=KILL lichen-agent.service')
    await told(t, cluster, id, 'succeeded')
    t.same(await readNodes(), all(second, ['a', 'b', 'c', 'w1', 'w2']))
    const upgrades = (await cluster.actions(id)).filter(({ name }) => name === 'upgrade')
    t.same(upgrades.map(({ node }) => node).sort(), ['a', 'b', 'c', 'w1', 'w2'])
    t.match(await kubectl(`--namespace kube-system get pods --output 'jsonpath={.items[*].spec.containers[*].image}'`), new RegExp(`^(?!.*:v${first.replaceAll('.', '\\.')})`, 's'), 'nothing of the old version runs')
    t.match((await submit(t, 'apply', planOf({ version: second }), 'succeeded')).reason, /nothing had to change on 5 nodes/)
  })

  // An upgrade of one worker after the other may have left all pods on one of them: that is the one to look at.
  let leaver = 'w2', stayer = 'w1'

  await step(t, 'a worker leaves when the budgets of its pods allow it, and is clean then', async (t) => {
    await kubectl('create poddisruptionbudget web --selector app=web --min-available 2')
    if ((await kubectl(`get pods --selector app=web --output 'jsonpath={.items[0].spec.nodeName}'`)).trim() === 'w1') [leaver, stayer] = ['w1', 'w2']
    await callApi(cluster.server(), 'PATCH', `/v1/nodes/${leaver}`, { labels: { cluster: null } })
    const kept = await submit(t, 'apply', planOf({ version: second, drainS: 20 }), 'failed')
    t.match(kept.failures, /w[12] cannot be drained \(it had 20 s\): default\/web-\S+: its budget web lets nobody go \(2 healthy, 2 needed\)/)
    t.same(await readNodes(), all(second, ['a', 'b', 'c', 'w1', 'w2']), 'it takes pods again')
    await kubectl('delete poddisruptionbudget web')
    await submit(t, 'apply', planOf({ version: second }), 'succeeded')
    t.same(await readNodes(), all(second, ['a', 'b', 'c', stayer]))
    t.equal(await cluster.shell(leaver, `ls --directory /etc/kubernetes /var/lib/kubelet /etc/cni /var/lib/cni /etc/containerd /var/lib/containerd /var/lib/lichen/kubernetes 2>/dev/null; iptables-save 2>/dev/null | grep KUBE; pgrep --list-name 'kube|containerd'; true`), '')
  })

  await step(t, 'a worker is drained, rebooted, and takes pods again', async (t) => {
    const bootOf = () => cluster.shell(stayer, 'cat /proc/sys/kernel/random/boot_id')
    const before = await bootOf()
    await told(t, cluster, await cluster.operate('kubernetes', { operation: 'reboot', components: ['workers'], nodes: [stayer] }), 'succeeded')
    t.not(await bootOf(), before)
    t.same(await readNodes(), all(second, ['a', 'b', 'c', stayer]))
  })

  await step(t, 'certificates are renewed and used, and a check says how long they are valid', async (t) => {
    const served = () => cluster.shell('c', `timeout 10 openssl s_client -connect ${addresses.get('c')}:6443 </dev/null 2>/dev/null | openssl x509 -noout -serial`)
    await cluster.shell('c', 'command -v openssl >/dev/null || apt-get install --yes --quiet openssl >/dev/null')
    const before = await served()
    await told(t, cluster, await cluster.operate('kubernetes', { operation: 'renewCertificates', components: ['control-plane'] }), 'succeeded')
    t.match(await served(), /^serial=/)
    t.not(await served(), before)
    const { id } = await submit(t, 'check', planOf({ version: second }), 'succeeded')
    t.match(await cluster.log(id), /c control-plane\/check \| \/etc\/kubernetes\/pki\/apiserver\.crt: valid for 36\d days/)
  })

  await step(t, 'the control plane shrinks, but not below what its etcd needs', async (t) => {
    // Its etcd stops; a node that is away altogether would be waited for.
    await cluster.shell('c', 'mv /etc/kubernetes/manifests/etcd.yaml /root/')
    await eventually(t, 'etcd misses c', async () => (await cluster.lab.exec('b', ['/var/lib/lichen/kubernetes/etcd', 'may-leave'])).exitCode !== 0, { timeoutMs: patienceMs, intervalMs: 1_000 })
    const { failures } = await submit(t, 'apply', planOf({ version: second, count: 1 }), 'failed')
    t.match(failures, /b cannot leave etcd: members are 2 of 3 healthy \(not c\); of the 2 that would be left 1 would be healthy, and 2 must be/)
    await cluster.shell('c', 'mv /root/etcd.yaml /etc/kubernetes/manifests/')
    await eventually(t, 'c is back', async () => (await readNodes()).includes(`c v${second} True`) && (await cluster.lab.exec('b', ['/var/lib/lichen/kubernetes/etcd', 'may-leave'])).exitCode === 0, { timeoutMs: patienceMs, intervalMs: 1_000 })
    await submit(t, 'apply', planOf({ version: second, count: 1 }), 'succeeded')
    t.same(await readNodes(), all(second, ['a', stayer]))
    // What the API still has of pods on nodes that are gone, Kubernetes collects within a minute.
    await eventually(t, 'etcd runs on a alone', async () => (await kubectl('--namespace kube-system get pods --selector component=etcd --output name')).trim() === 'pod/etcd-a', { timeoutMs: patienceMs, intervalMs: 1_000 })
    t.equal(await cluster.shell('c', 'ls --directory /etc/kubernetes /var/lib/etcd /var/lib/kubelet 2>/dev/null; true'), '')
    t.match((await submit(t, 'apply', planOf({ version: second, count: 1 }), 'succeeded')).reason, /nothing had to change/)
  })
})

/** The same, with pods that also run on one worker when the other one is away. */
function soften(plan: KubernetesPlan): KubernetesPlan {
  const web = plan.components.find(({ name }) => name === 'web')!
  web.with = JSON.parse(JSON.stringify(web.with).replace('DoNotSchedule', 'ScheduleAnyway')) as Record<string, unknown>
  return plan
}

/** The components, the control plane's of another version: one that no packages are there for. */
const withVersion = (plan: KubernetesPlan, version: string) => plan.components.map((component) => (component.name === 'control-plane' ? { ...component, with: { ...component.with, version } } : component))

/** The task when it has ended so; what failed in it is told. */
async function told(t: Test, cluster: Cluster, id: string, outcome: string) {
  const task = await cluster.ended(t, id, upgradeMs)
  t.match(task, { outcome })
  for (const { id: action, result } of await cluster.actions(id)) if (result?.failure) t.comment(`${action}: ${result.failure.message}`)
  return task
}
