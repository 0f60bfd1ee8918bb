/**
 * A Kubernetes cluster from a plan, on real nodes, with real kubelets: made while an agent is killed in the middle of `kubeadm init` and the server in the middle of a join; used with the stock
 * kubectl; checked, scaled out and in, rebooted, one of its nodes lost, and taken away. Packages and images are the tests' own (docs/kubernetes-packages.md).
 */
import { callApi } from '@lichen/demo'
import t, { type Test } from 'tap'
import { eventually } from '../eventually.js'
import { buildKubernetesPlan } from '../kubernetes/kubernetes-plan.js'
import { makeWebsite } from '../kubernetes/manifests.js'
import { buildKubePackages } from '../kubernetes/packages/build.js'
import { serveDirectory } from '../kubernetes/serve-directory.js'
import { cacheDirectory, skipReason } from '../lab/lab-fixture.js'
import { type Cluster, patienceMs, startCluster, step } from './cluster-fixture.js'

t.setTimeout(1_500_000)

const labelsOf = (node: string): Record<string, string> => ({ cluster: 'demo', role: node === 'cp' ? 'control-plane' : 'worker' })

t.test('Kubernetes from a plan', { skip: skipReason() }, async (t) => {
  const kube = await buildKubePackages({ cacheDirectory, log: (line) => t.comment(line) })
  const cluster = await startCluster(t, 'e2e-kubernetes', ['cp', 'w1', 'w2'], { privileged: true, labelsOf })
  const files = await serveDirectory(cluster.server().gatewayAddress.replace(/:\d+$/, ''), kube.directory)
  t.teardown(() => files.close())
  const version = kube.versions[0]!
  const plan = buildKubernetesPlan(kube, files.url, { version })

  await step(t, 'a node that cannot be one of a cluster is refused with all that is wrong with it, before anything is installed there', async (t) => {
    await cluster.shell('w1', `mkdir --parents /etc/kubernetes && touch /etc/kubernetes/kubelet.conf && systemd-run --unit=taken --quiet perl -MIO::Socket::INET -e 'my $$s = IO::Socket::INET->new(Listen => 1, LocalPort => 10250) or die; sleep'`)
    const id = await cluster.submit('apply', plan)
    t.match(await cluster.ended(t, id), { outcome: 'failed' })
    const refused = (await cluster.actions(id)).find((action) => action.id === 'workers/preflight@w1')
    t.match(refused?.result?.failure, { code: 'COMMAND_CONDITION', message: /one of another cluster, or was \(\/etc\/kubernetes\/kubelet\.conf is there\): take it out with kubeadm reset[^]*TCP port 10250 is taken by another program/ })
    t.equal((await cluster.shell('w1', 'dpkg-query --show kubelet 2>/dev/null || true')).trim(), '', 'no kubelet there')
    await cluster.shell('w1', 'systemctl stop taken && rm --recursive /etc/kubernetes')
  })

  let made = ''
  await step(t, 'it is made by one apply, though an agent dies in kubeadm init and the server in a join', async (t) => {
    made = await cluster.submit('apply', plan)
    await cluster.running(t, 'cp', '^kubeadm init')
    await cluster.shell('cp', 'systemctl kill --kill-who=main --signal=KILL lichen-agent.service')
    await cluster.running(t, 'w1', '^kubeadm join')
    await cluster.killAndRestartServer()
    t.match(await cluster.ended(t, made), { outcome: 'succeeded' })
    await cluster.tell(t, made)
  })

  await step(t, 'all nodes are ready, a pod runs on each worker, and they reach each other', async (t) => {
    t.same(await readNodes(cluster), ['cp True', 'w1 True', 'w2 True'])
    const pods = (await kubectl(cluster, `get pods --output 'jsonpath={range .items[*]}{.metadata.name} {.spec.nodeName} {.status.podIP}{"\\n"}{end}'`)).trim().split('\n').map((line) => line.split(' ') as [string, string, string])
    t.same(pods.map(([, node]) => node).sort(), ['w1', 'w2'])
    for (const [pod, , address] of pods) {
      t.equal((await kubectl(cluster, `logs ${pod}`)).trim(), 'serving')
      for (const [other] of pods) t.equal((await kubectl(cluster, `exec ${other} -- wget -q -O - http://${address}:8080/`)).trim(), pod, `${other} reaches ${pod}`)
    }
    const service = (await kubectl(cluster, `get service web --output 'jsonpath={.spec.clusterIP}'`)).trim()
    const answers = await cluster.shell('cp', `for i in $(seq 20); do timeout 5 perl -MIO::Socket::INET -e 'my $s = IO::Socket::INET->new(PeerAddr => "${service}:80", Timeout => 3) or die; print $s "GET / HTTP/1.0\\r\\n\\r\\n"; my @l = <$s>; print $l[-1]'; done | sort --unique`)
    t.same(answers.trim().split('\n').sort(), pods.map(([pod]) => pod).sort(), 'the service leads to both')
  })

  await step(t, 'what nodes join with is nowhere to be read', async (t) => {
    const { apiUrl, adminToken } = cluster.server()
    const read = async (path: string): Promise<string> => (await fetch(`${apiUrl}${path}`, { headers: { authorization: `Bearer ${adminToken}` } })).text()
    const tokens = (await kubectl(cluster, `--namespace kube-system get secrets --field-selector type=bootstrap.kubernetes.io/token --output 'jsonpath={range .items[*]}{.data.token-secret}{"\\n"}{end}'`)).trim().split('\n').map((text) => Buffer.from(text, 'base64').toString())
    t.ok(tokens.length >= 1)
    const preview = await (await fetch(`${apiUrl}/v1/previews`, { method: 'POST', headers: { 'authorization': `Bearer ${adminToken}`, 'content-type': 'application/json' }, body: JSON.stringify({ kind: 'apply', plan }) })).text()
    for (const [where, text] of Object.entries({ log: await read(`/v1/tasks/${made}/log?format=text`), events: await read(`/v1/tasks/${made}/events?limit=1000`), actions: await read(`/v1/tasks/${made}/actions?limit=1000`), preview })) {
      t.ok(text.length > 1000, `${where} is there`)
      t.notOk(tokens.some((token) => text.includes(token)), `not in the ${where}`)
    }
    t.equal((await cluster.shell('w1', 'grep --recursive --files-with-matches "token:" /var/lib/lichen/kubernetes /run/lichen-join* 2>/dev/null | xargs --no-run-if-empty grep --files-without-match @TOKEN@ || true')).trim(), '', 'nor on a node that has joined')
  })

  await step(t, 'applied again, nothing changes; a kubelet that was changed by hand is shown as a diff, and put right', async (t) => {
    t.match(await cluster.task(await succeed(t, cluster, 'apply', plan)), { reason: /nothing had to change on 3 nodes/ })
    await cluster.shell('w2', "sed --in-place 's/rotateCertificates: true/rotateCertificates: false/' /var/lib/kubelet/config.yaml")
    const check = await succeed(t, cluster, 'check', plan)
    t.match((await cluster.actions(check)).flatMap((action) => action.result?.commands ?? []).map((command) => command.diff ?? '').join(''), /-rotateCertificates: false\n\+rotateCertificates: true/)
    const mended = await succeed(t, cluster, 'apply', plan)
    t.same(await changedNodes(cluster, mended), ['w2'])
  })

  await step(t, 'one more node joins, and the others are left alone', async (t) => {
    await cluster.addNode('w3')
    const grown = await succeed(t, cluster, 'apply', plan)
    t.same(await readNodes(cluster), ['cp True', 'w1 True', 'w2 True', 'w3 True'])
    t.same((await cluster.actions(grown)).filter((action) => action.result?.changed && action.node !== 'w3').map(({ id }) => id), ['control-plane/admit:workers.cluster@cp'], 'the control plane lets it in')
    await eventually(t, 'the others have a route to its pods', async () => (await cluster.shell('w1', 'ip route show proto 76')).trim().split('\n').length === 3, { timeoutMs: patienceMs, intervalMs: 500 })
  })

  await step(t, 'a worker that reboots comes back by itself', async (t) => {
    const bootOf = () => kubectl(cluster, `get node w1 --output 'jsonpath={.status.nodeInfo.bootID}'`)
    const before = await bootOf()
    await cluster.lab.reboot('w1')
    await eventually(t, 'it is ready after its new start', async () => (await bootOf()) !== before && (await readNodes(cluster)).includes('w1 True'), { timeoutMs: patienceMs, intervalMs: 1_000 })
    await eventually(t, 'Lichen finds all as planned', async () => {
      const check = await cluster.submit('check', plan)
      const { outcome } = await cluster.ended(t, check)
      return outcome === 'succeeded' && (await changedNodes(cluster, check)).length === 0
    }, { timeoutMs: patienceMs, intervalMs: 1_000 })
  })

  await step(t, 'a Deployment survives the loss of a worker: its Service keeps answering, and the replica comes back on another one', async (t) => {
    await cluster.lab.writeIn('cp', '/root/survivor.yaml', makeSurvivor(kube.images.find(({ name }) => name === 'busybox')!.reference))
    await kubectl(cluster, 'apply --filename /root/survivor.yaml')
    await kubectl(cluster, 'rollout status deployment/survivor --timeout=120s')
    const readPods = async (): Promise<readonly (readonly string[])[]> =>
      (await kubectl(cluster, `get pods --selector app=survivor --output 'jsonpath={range .items[*]}{.metadata.name} {.spec.nodeName} {.status.conditions[?(@.type=="Ready")].status} {.metadata.deletionTimestamp}{"\\n"}{end}'`)).trim().split('\n').map((line) => line.trim().split(' '))
    const service = (await kubectl(cluster, `get service survivor --output 'jsonpath={.spec.clusterIP}'`)).trim()
    /** What so many requests bring: the name of the pod that answers, or why there is none in parentheses. */
    const ask = async (count: number): Promise<string[]> =>
      (await cluster.shell('cp', `for i in $(seq ${count}); do timeout 3 perl -MIO::Socket::INET -e 'my $s = IO::Socket::INET->new(PeerAddr => "${service}:80", Timeout => 1) or print("($@)\\n"), exit; print $s "GET / HTTP/1.0\\r\\n\\r\\n"; my @l = <$s>; print $l[-1] // "(closed)\\n"' || echo '(no answer)'; done`)).trim().split('\n')
    const before = await readPods()
    // A pod that is ready is not yet known to each node's kube-proxy, which refuses requests to a Service of which it knows no pod.
    await eventually(t, 'the service leads to both', async () => [...new Set(await ask(20))].sort().join() === before.map(([pod]) => pod).sort().join(), { timeoutMs: patienceMs, intervalMs: 100 })
    const [[lostPod, lost], [keptPod]] = before as [[string, string], [string]]
    await cluster.lab.kill(lost)
    // Until the cluster knows that a node is lost, some of the requests go there.
    const meanwhile = [...new Set(await ask(20))]
    t.ok(meanwhile.includes(keptPod), 'the one that is left answers', { meanwhile })
    t.same(meanwhile.filter((answer) => answer !== keptPod && !/^\((IO::Socket::INET: connect: (timeout|No route to host)|no answer)\)$/.test(answer)), [], 'no request is refused')
    const after = await eventually(t, 'two replicas are ready on other workers', async () => {
      const pods = (await readPods()).filter(([, node, isReady, ending]) => node !== lost && isReady === 'True' && ending === undefined)
      return pods.length === 2 ? pods : undefined
    }, { timeoutMs: patienceMs, intervalMs: 1_000 })
    t.ok(after.some(([pod]) => pod === keptPod), 'the other one was left alone')
    t.notOk(after.some(([pod]) => pod === lostPod))
    t.same([...new Set(await ask(20))].sort(), after.map(([pod]) => pod).sort(), 'no request goes to the lost one any more')
    await cluster.lab.start(lost)
    await eventually(t, 'it comes back', async () => (await readNodes(cluster)).includes(`${lost} True`), { timeoutMs: patienceMs, intervalMs: 1_000 })
    await kubectl(cluster, 'delete --filename /root/survivor.yaml --cascade=foreground --timeout=120s')
  })

  await step(t, 'a worker leaves when the budget of its pods allows it, they go elsewhere, and it is clean then', async (t) => {
    await kubectl(cluster, 'rollout status deployment/web --timeout=120s')
    const leaver = (await kubectl(cluster, `get pods --selector app=web --output 'jsonpath={.items[0].spec.nodeName}'`)).trim()
    await kubectl(cluster, 'create poddisruptionbudget web --selector app=web --min-available 2')
    await callApi(cluster.server(), 'PATCH', `/v1/nodes/${leaver}`, { labels: { cluster: null } })
    const refused = await cluster.submit('apply', buildKubernetesPlan(kube, files.url, { version, drainS: 20 }))
    t.match(await cluster.ended(t, refused), { outcome: 'failed' })
    t.match((await cluster.actions(refused)).find(({ id }) => id === `workers/leave@${leaver}`)?.result?.failure, { message: /cannot be drained \(it had 20 s\): default\/web-\S+: its budget web lets nobody go \(2 healthy, 2 needed\)/ })
    t.equal((await kubectl(cluster, `get node ${leaver} --output 'jsonpath={.spec.unschedulable}'`)).trim(), '', 'it takes pods again')
    await kubectl(cluster, `patch poddisruptionbudget web --patch '{"spec":{"minAvailable":1}}'`)
    await succeed(t, cluster, 'apply', plan)
    t.same(await readNodes(cluster), ['cp', 'w1', 'w2', 'w3'].filter((node) => node !== leaver).map((node) => `${node} True`))
    await kubectl(cluster, 'rollout status deployment/web --timeout=120s')
    t.same((await kubectl(cluster, `get pods --selector app=web --output 'jsonpath={.items[*].spec.nodeName}'`)).trim().split(' ').sort(), ['w1', 'w2', 'w3'].filter((node) => node !== leaver))
    t.equal(await readRest(cluster, leaver), '', 'nothing is left there')
  })

  await step(t, 'without it the nodes are as they were', async (t) => {
    await succeed(t, cluster, 'destroy', plan)
    for (const node of ['cp', 'w1', 'w2', 'w3']) t.equal(await readRest(cluster, node), '', `nothing is left on ${node}`)
  })
})

/** Two pods on different nodes that leave a node a moment after it is lost; by default they would wait five minutes for it. */
const makeSurvivor = (image: string): string =>
  makeWebsite({
    name: 'survivor', replicas: 2, image,
    pod: {
      tolerations: ['not-ready', 'unreachable'].map((taint) => ({ key: `node.kubernetes.io/${taint}`, operator: 'Exists', effect: 'NoExecute', tolerationSeconds: 2 })),
      affinity: { podAntiAffinity: { requiredDuringSchedulingIgnoredDuringExecution: [{ topologyKey: 'kubernetes.io/hostname', labelSelector: { matchLabels: { app: 'survivor' } } }] } },
    },
  })

const kubectl = (cluster: Cluster, words: string): Promise<string> => cluster.shell('cp', `kubectl --kubeconfig /etc/kubernetes/admin.conf ${words}`)

/** What Kubernetes has left on a node, in lines. */
const readRest = (cluster: Cluster, node: string): Promise<string> =>
  cluster.shell(node, `
    ls --directory /etc/kubernetes /var/lib/kubelet /var/lib/etcd /opt/cni /etc/cni /var/lib/cni /etc/containerd /var/lib/containerd /run/containerd /var/lib/lichen/kubernetes /usr/local/sbin/lichen-* /etc/*/*lichen-kubernetes* 2>/dev/null
    dpkg-query --show --showformat '\${db:Status-Abbrev} \${Package}\\n' kubelet kubeadm kubectl containerd 2>/dev/null | grep '^.[^n]'
    iptables-save 2>/dev/null | grep --extended-regexp 'KUBE|lichen'
    ip route show proto 76; ip -brief link show type bridge; ip -brief link show type veth | grep --invert-match host0
    pgrep --list-name 'kube|etcd|containerd'; findmnt --list --noheadings --output TARGET | grep --extended-regexp 'kubelet|containerd'
    true`)

/** Name and readiness of each node. */
const readNodes = async (cluster: Cluster): Promise<string[]> =>
  (await kubectl(cluster, `get nodes --output 'jsonpath={range .items[*]}{.metadata.name} {.status.conditions[?(@.type=="Ready")].status}{"\\n"}{end}'`)).trim().split('\n').sort()

const changedNodes = async (cluster: Cluster, task: string): Promise<string[]> =>
  [...new Set((await cluster.actions(task)).filter((action) => action.component !== 'lichen' && action.result?.changed).map(({ node }) => node))].sort()

async function succeed(t: Test, cluster: Cluster, kind: 'apply' | 'check' | 'destroy', plan: unknown): Promise<string> {
  const id = await cluster.submit(kind, plan)
  t.match(await cluster.ended(t, id), { outcome: 'succeeded' }, `${kind} succeeds`)
  for (const { id: action, result } of await cluster.actions(id)) if (result?.failure) t.comment(`${action}: ${result.failure.message}`)
  return id
}
