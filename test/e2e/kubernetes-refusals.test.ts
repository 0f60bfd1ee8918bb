/**
 * What cannot become a Kubernetes cluster, on real nodes: each time a clear word with its code, the node and what was found there, and nothing half-done that nobody speaks of. What stands before the cluster costs two
 * nodes and no kubelet; what needs one shares one cluster.
 */
import { callApi } from '@lichen/demo'
import t, { type Test } from 'tap'
import { eventually } from '../eventually.js'
import { makeSigningKey } from '../agent/apt-repository.js'
import { buildKubernetesPlan, type KubernetesPlan } from '../kubernetes/kubernetes-plan.js'
import { makeDeployment } from '../kubernetes/manifests.js'
import { buildKubePackages } from '../kubernetes/packages/build.js'
import { serveDirectory } from '../kubernetes/serve-directory.js'
import { cacheDirectory, makeDirectory, skipReason } from '../lab/lab-fixture.js'
import { type Cluster, patienceMs, startCluster, step, type Task } from './cluster-fixture.js'

t.setTimeout(1_200_000)

t.test('what cannot become a Kubernetes cluster', { skip: skipReason() }, async (t) => {
  const kube = await buildKubePackages({ cacheDirectory, log: (line) => t.comment(line) })
  const cluster = await startCluster(t, 'e2e-kubernetes-refusals', ['cp', 'w1'], { privileged: true, labelsOf: (node) => ({ cluster: 'demo', role: node === 'cp' ? 'control-plane' : 'worker' }) })
  const files = await serveDirectory(cluster.server().gatewayAddress.replace(/:\d+$/, ''), kube.directory)
  t.teardown(() => files.close())
  const version = kube.versions[0]!
  const kubectl = (words: string): Promise<string> => cluster.shell('cp', `kubectl --kubeconfig /etc/kubernetes/admin.conf ${words}`)
  const source = { url: `${files.url}/repository`, suite: './', key: readKey(buildKubernetesPlan(kube, files.url, { version })) }

  /** One pod, and a drain that is given up soon. `changes`: parameters of components, over those of the plan. */
  const planOf = (changes: Readonly<Record<string, Record<string, unknown>>> = {}, edit: (plan: PlanDraft) => void = () => undefined): PlanDraft => {
    const plan = buildKubernetesPlan(kube, files.url, { version }) as PlanDraft
    const web = plan.components.find(({ name }) => name === 'web')!
    web.with = { ...web.with, manifests: (web.with!['manifests'] as string[]).map((manifest) => manifest.replace('replicas: 2', 'replicas: 1').replace('DoNotSchedule', 'ScheduleAnyway')) }
    plan.components.find(({ name }) => name === 'workers')!.with!['drain'] = { deadlineS: 10 }
    for (const [name, parameters] of Object.entries(changes)) {
      const component = plan.components.find((each) => each.name === name)!
      component.with = { ...component.with, ...parameters }
    }
    // What is wrong on one node hides nothing on the other.
    plan.rollout = { maxFailures: 9 }
    edit(plan)
    return plan
  }
  /** Applies what does not succeed; failures by the id of their action. */
  const fail = async (t: Test, plan: PlanDraft): Promise<Readonly<Record<string, { readonly code: string; readonly message: string }>>> => {
    const id = await cluster.submit('apply', plan)
    t.match(await cluster.ended(t, id), { outcome: 'failed', failure: { code: /./, message: /./ } })
    return failuresOf(t, cluster, id)
  }
  const succeed = async (t: Test, plan: PlanDraft): Promise<void> => {
    const id = await cluster.submit('apply', plan)
    t.match(await cluster.ended(t, id), { outcome: 'succeeded' })
    await failuresOf(t, cluster, id)
  }
  const problemsOf = async (plan: PlanDraft): Promise<readonly { readonly code: string; readonly path: string; readonly message: string }[]> => {
    const { apiUrl, adminToken } = cluster.server()
    const answer = await fetch(`${apiUrl}/v1/tasks`, { method: 'POST', headers: { 'authorization': `Bearer ${adminToken}`, 'content-type': 'application/json' }, body: JSON.stringify({ kind: 'apply', plan }) })
    if (answer.ok) throw new Error(`accepted: ${await answer.text()}`)
    return ((await answer.json()) as { readonly problems: readonly { readonly code: string; readonly path: string; readonly message: string }[] }).problems
  }
  const label = (node: string, labels: Record<string, string>): Promise<unknown> => callApi(cluster.server(), 'PATCH', `/v1/nodes/${node}`, { labels })
  const installed = (node: string): Promise<string> => cluster.shell(node, "dpkg-query --show --showformat '${Package} ' kubelet kubeadm kubectl 2>/dev/null || true")

  await step(t, 'more nodes than there are, and one node for two kubelets, are refused with the plan', async (t) => {
    t.match(await problemsOf(planOf({}, (plan) => (plan.nodes.find(({ name }) => name === 'workers')!.count = 3))), [{ code: 'PLAN_TOO_FEW_NODES', path: 'nodes[2]', message: 'group "workers" needs 3 nodes with cluster=demo, role=worker; 1 of 2 match' }])
    t.match(await problemsOf(planOf({}, (plan) => delete plan.nodes.find(({ name }) => name === 'workers')!.select!['role'])), [{ code: 'PLAN_NODE_TAKEN', path: 'components[3].on', message: '"workers" needs the kubelet of cp for itself, and it belongs to "control-plane" of this plan: choose other nodes for one of them' }])
  })

  await step(t, 'a mirror that does not answer and a key that is another one are told, and nothing of them stays', async (t) => {
    const refused = await fail(t, planOf({
      'control-plane': { packages: { ...packagesOf(planOf()), source: { ...source, url: 'http://127.0.0.1:9/repository' } } },
      'runtime': { packages: { source: { ...source, key: makeSigningKey(makeDirectory(t)).publicKey } } },
    }))
    t.match(refused, {
      'control-plane/packages@cp': { code: 'COMMAND_REPOSITORY_UNREACHABLE', message: /http:\/\/127\.0\.0\.1:9\/repository.*Connection refused/s },
      'workers/packages@w1': { code: 'COMMAND_REPOSITORY_UNREACHABLE', message: /Connection refused/ },
      'runtime/packages@cp': { code: 'COMMAND_REPOSITORY_UNTRUSTED', message: /NO_PUBKEY/ },
    })
    for (const node of ['cp', 'w1']) t.equal(await cluster.shell(node, 'ls /etc/apt/sources.list.d /etc/apt/keyrings 2>/dev/null | grep lichen || true'), '', `no repository stays on ${node}`)
  })

  await step(t, 'a version that the repository does not have is named, and no other one is installed', async (t) => {
    const refused = await fail(t, planOf({ 'control-plane': { version: '1.20.99' } }))
    t.match(refused['control-plane/packages@cp'], { code: 'COMMAND_PACKAGE_UNKNOWN', message: /kubelet=1\.20\.99\S*, kubeadm=1\.20\.99/ })
    t.same([await installed('cp'), await installed('w1')], ['', ''])
  })

  await step(t, 'swap, a port that is taken and a clock that is a day behind are told before anything is installed', async (t) => {
    // As lxcfs does it: the nodes of the lab share the kernel of their host, which has no swap to turn on for one of them.
    await cluster.shell('cp', `printf 'Filename\\tType\\tSize\\tUsed\\tPriority\\n/swapfile file\\t1048572\\t0\\t-2\\n' >/run/swaps && mount --bind /run/swaps /proc/swaps
      systemd-run --unit=taken --quiet perl -MIO::Socket::INET -e 'my $$s = IO::Socket::INET->new(Listen => 1, LocalPort => 6443) or die; sleep'`)
    await cluster.shell('w1', 'apt-get update --quiet >/dev/null && apt-get install --yes --quiet --no-install-recommends libfaketime >/dev/null')
    await turnClock(cluster, 'w1', '-1d')
    const refused = await fail(t, planOf({}, (plan) => delete plan.rollout))
    t.match(refused, {
      'control-plane/preflight@cp': { code: 'COMMAND_CONDITION', message: /swap is on \(\/swapfile\): turn it off .*\n.*TCP port 6443 is taken by another program/ },
      'workers/preflight@w1': { code: 'COMMAND_CONDITION', message: /the clock of the node is behind: it says \d{4}-\d\d-\d\dT[\d:]+Z, and the server of the packages \d{4}-\d\d-\d\dT/ },
    })
    t.same([await installed('cp'), await installed('w1')], ['', ''])
    await cluster.shell('cp', 'umount /proc/swaps && systemctl stop taken')
    await turnClock(cluster, 'w1', null)
  })

  await step(t, 'an image that is neither on the mirror nor in a registry is named', async (t) => {
    const refused = await fail(t, planOf({
      'control-plane': { ignorePreflight: [] },
      'workers': { images: { archives: [{ url: `${files.url}/images/none.tar`, image: `${kube.imageRepository}/none:1` }] } },
    }))
    t.match(refused, {
      'control-plane/init@cp': { code: 'COMMAND_EXIT_CODE', message: /failed to pull image "?\S+coredns:1\.7\.0/ },
      'workers/prepare@w1': { code: 'COMMAND_EXIT_CODE', message: /\/images\/none\.tar.*404/s },
    })
  })

  await step(t, 'who may join for an hour, and is let in after it, is told so before anything is changed; as is a clock that is a day ahead', async (t) => {
    const id = await cluster.submit('apply', planOf({}, (plan) => (plan.components.find(({ name }) => name === 'workers')!.approve = true)))
    await eventually(t, 'the cluster has made its token, and waits for a person', async () => (await cluster.actions(id)).some(({ name, state }) => name.startsWith('admit') && state === 'succeeded'), { timeoutMs: patienceMs, intervalMs: 500 })
    t.match(await kubectl('--namespace kube-system get secrets --field-selector type=bootstrap.kubernetes.io/token --output name'), /bootstrap-token/, 'the token is there')
    // The hour, sooner.
    await kubectl(`--namespace kube-system get secrets --field-selector type=bootstrap.kubernetes.io/token --output name | xargs --replace kubectl --kubeconfig /etc/kubernetes/admin.conf --namespace kube-system patch {} --patch '{"stringData": {"expiration": "2020-01-01T00:00:00Z"}}'`)
    await eventually(t, 'the cluster knows it no more', async () => !(await kubectl('--namespace kube-public get configmap cluster-info --output json')).includes('jws-kubeconfig'), { timeoutMs: patienceMs, intervalMs: 500 })
    // What an administrator makes meanwhile lets nobody else in.
    await cluster.shell('cp', 'kubeadm token create --ttl=5m')
    await turnClock(cluster, 'w1', '+1d')
    await callApi(cluster.server(), 'POST', `/v1/tasks/${id}/approve`, { gate: 'workers/approval' })
    t.match(await cluster.ended(t, id), { outcome: 'failed' })
    const refused = await failuresOf(t, cluster, id)
    t.match(refused['workers/join@w1'], { code: 'COMMAND_EXIT_CODE', message: /the cluster at [\d.]+:6443 does not know the token that w1 was to join with \(any more; it was valid for an hour\): the next apply makes a new one\nthe clock of w1 says \S+, and that of the cluster at [\d.]+:6443 / })
    t.equal(await cluster.shell('w1', 'ls /etc/kubernetes/kubelet.conf /var/lib/lichen/kubernetes/begun /var/lib/lichen/kubernetes/joined 2>/dev/null || true'), '', 'nothing was begun')
    await turnClock(cluster, 'w1', null)
  })

  await step(t, 'a Deployment whose image is not there is told with its pod, its node and its image', async (t) => {
    const manifests = (planOf().components.find(({ name }) => name === 'web')!.with!['manifests'] as string[]).map((manifest) => manifest.replace(/image: \S+/, `image: ${kube.imageRepository}/none:1`))
    const refused = await fail(t, planOf({ web: { manifests, deadlineS: 15 } }))
    t.same(Object.keys(refused), ['web/check@cp'], 'the next apply has made a new token')
    t.match(refused['web/check@cp'], { code: 'COMMAND_PROBE_DEADLINE', message: new RegExp(`web-\\S+ on w1: container web \\(${kube.imageRepository}/none:1\\) waits: (ErrImagePull|ImagePullBackOff)`) })
  })

  /** One more pod, which hears no signal and has an hour to end. */
  const stubbornWeb = (): Record<string, unknown> => ({
    manifests: [...(planOf().components.find(({ name }) => name === 'web')!.with!['manifests'] as string[]), makeStubborn(kube.images.find(({ name }) => name === 'busybox')!.reference)],
    waitFor: [{ resource: 'deployment/web' }, { resource: 'deployment/stubborn' }],
  })
  const readNode = (): Promise<string> => kubectl(`get node w1 --output 'jsonpath={.status.conditions[?(@.type=="Ready")].status}{.spec.unschedulable}'`)
  const bootOf = (): Promise<string> => cluster.shell('w1', 'cat /proc/sys/kernel/random/boot_id')

  await step(t, 'a pod that does not end keeps a node from being drained: it is named, and the node takes pods again', async (t) => {
    await succeed(t, planOf({ web: stubbornWeb() }))
    const before = await bootOf()
    const id = await cluster.operate('kubernetes', { operation: 'reboot', components: ['workers'], nodes: ['w1'] })
    t.match(await cluster.ended(t, id), { outcome: 'failed' })
    t.match(await failuresOf(t, cluster, id), { 'workers/reboot@w1': { code: 'COMMAND_EXIT_CODE', message: /w1 cannot be drained \(it had 10 s\): .*default\/stubborn-\S+: is ending, and may take 3600 s for it \(terminationGracePeriodSeconds\)/ } })
    t.equal(await bootOf(), before, 'it was not rebooted')
    t.equal(await readNode(), 'True', 'it takes pods')
  })

  await step(t, 'a worker that is out of reach in the middle of its drain is waited for by its name, and goes on when it is back', async (t) => {
    await succeed(t, planOf({ web: stubbornWeb(), workers: { ...planOf().components.find(({ name }) => name === 'workers')!.with, drain: { deadlineS: 180 } } }))
    const before = await bootOf()
    const id = await cluster.operate('kubernetes', { operation: 'reboot', components: ['workers'], nodes: ['w1'] })
    await cluster.running(t, 'w1', '^kubectl drain')
    // The first thing that it does; a node that dies before it is not in the middle of it.
    await eventually(t, 'the node is cordoned', async () => (await readNode()).endsWith('true'), { timeoutMs: patienceMs, intervalMs: 200 })
    await cluster.lab.kill('w1')
    const { reason } = await eventually(t, 'the task says for whom it waits', async () => {
      const { waitingFor } = await callApi<Waiting>(cluster.server(), 'GET', `/v1/tasks/${id}`)
      return waitingFor !== null && waitingFor.reason.includes('out of reach') ? waitingFor : undefined
    }, { timeoutMs: patienceMs, intervalMs: 200 })
    t.match(reason, /^attempt 1 is with node w1, which is out of reach since \d{4}-/)
    t.match(await readNode(), /true$/, 'the cluster gives it no pods meanwhile')
    await cluster.lab.start('w1')
    const powered = await bootOf()
    t.not(powered, before)
    t.match(await cluster.ended(t, id), { outcome: 'succeeded' })
    await failuresOf(t, cluster, id)
    t.not(await bootOf(), powered, 'it was rebooted after its drain')
    t.equal(await readNode(), 'True', 'it takes pods')
  })

  await step(t, 'nodes of a cluster are not given to another deployment, nor is the last node of its control plane taken away', async (t) => {
    const taken = await problemsOf(planOf({}, (plan) => (plan.metadata.name = 'other')))
    t.match(taken.find(({ path, message }) => path === 'components[3].on' && message.includes('kubelet')), { code: 'PLAN_NODE_TAKEN', message: '"workers" needs the kubelet of w1 for itself, and it belongs to "workers" of deployment default/kubernetes: let it leave there first, or choose other nodes' })
    t.same([...new Set(taken.map(({ code }) => code))], ['PLAN_NODE_TAKEN'])
    await label('cp', { role: 'worker' })
    await label('w1', { role: 'control-plane' })
    t.match((await problemsOf(planOf())).find(({ code }) => code === 'PLAN_RULE_BROKEN'), { path: 'components[2]', message: /^control-plane: would lose all nodes that it has, and with them the cluster: .* \(nodes: w1; before: cp\)$/ })
    await label('cp', { role: 'control-plane' })
    await label('w1', { role: 'worker' })
    t.equal(await readNode(), 'True')
  })
})

const makeStubborn = (image: string): string =>
  makeDeployment({ name: 'stubborn', replicas: 1, image, script: 'trap "" TERM; while :; do sleep 1; done', pod: { terminationGracePeriodSeconds: 3600 } })

interface PlanDraft extends Omit<KubernetesPlan, 'metadata' | 'nodes' | 'components'> {
  readonly metadata: { name: string }
  readonly nodes: readonly { readonly name: string; count?: number; select?: Record<string, string> }[]
  readonly components: readonly { readonly name: string; with?: Record<string, unknown>; approve?: boolean }[]
  rollout?: { readonly maxFailures: number }
}

interface Waiting {
  readonly state: Task['state']
  readonly waitingFor: { readonly reason: string } | null
}

const packagesOf = (plan: Pick<PlanDraft, 'components'>) => plan.components.find(({ name }) => name === 'control-plane')!.with!['packages'] as { readonly source: { readonly key: string } }
const readKey = (plan: KubernetesPlan): string => packagesOf(plan as PlanDraft).source.key

/** What failed, by the id of its action; the report has it too. */
async function failuresOf(t: Test, cluster: Cluster, task: string): Promise<Readonly<Record<string, { readonly code: string; readonly message: string }>>> {
  const failed = (await cluster.actions(task)).flatMap(({ id, result }) => (result?.failure ? [[id, result.failure] as const] : []))
  for (const [id, { code, message }] of failed) t.comment(`${id}: ${code}: ${message}`)
  return Object.fromEntries(failed)
}

/** What programs of the node take for the time, as libfaketime writes offsets; null: what it is. Programs without a C library (those of Kubernetes) know it all the same. The clock itself is the host's. */
const turnClock = (cluster: Cluster, node: string, offset: string | null): Promise<string> =>
  cluster.shell(node, offset === null ? 'rm /etc/ld.so.preload /etc/faketimerc' : `echo '${offset}' >/etc/faketimerc && find /usr/lib -name libfaketime.so.1 >/etc/ld.so.preload && date`)
