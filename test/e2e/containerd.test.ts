/** The containerd blueprint on a real node: a runtime that the kubelet can use, a mirror that it fetches from, and a node that is clean afterwards. */
import t, { type Test } from 'tap'
import { skipReason } from '../lab/lab-fixture.js'
import { startCluster, step, type Cluster } from './cluster-fixture.js'

t.setTimeout(600_000)

t.test('containerd from a plan', { skip: skipReason() }, async (t) => {
  const cluster = await startCluster(t, 'e2e-containerd', ['a'], { privileged: true })
  const buildPlan = (parameters: object = {}) => ({
    apiVersion: 'lichen.dev/v1',
    kind: 'DeploymentPlan',
    metadata: { name: 'runtime' },
    nodes: [{ name: 'all', select: { role: 'a' }, count: 1 }],
    components: [{ name: 'runtime', blueprint: 'containerd@^1', on: 'all', with: { removeData: true, ...parameters } }],
  })

  await step(t, 'a series that is not the one installed is refused, with what to do', async (t) => {
    const id = await cluster.submit('apply', buildPlan({ series: '2' }))
    t.match(await cluster.ended(t, id), { outcome: 'failed' })
    const failed = (await cluster.actions(id)).find((action) => action.state === 'failed')
    t.match(failed?.result?.failure, { code: 'COMMAND_CONDITION', message: /containerd 1\.6\.\d+.* is installed, and the configuration is for series 2: set packages\.version, or series/ })
  })

  const plan = buildPlan({ sandboxImage: 'registry.lichen.test/pause:3.2', mirrors: [{ registry: 'registry.lichen.test', endpoints: ['http://127.0.0.1:9'] }] })
  await step(t, 'it runs, is ready for a kubelet, and has the configuration that was asked for', async (t) => {
    await succeed(t, cluster, 'apply', plan)
    const config = await cluster.shell('a', 'containerd config dump')
    t.match(config, /sandbox_image = "registry\.lichen\.test\/pause:3\.2"/)
    t.match(config, /restrict_oom_score_adj = true/)
    t.match(config, /config_path = "\/etc\/containerd\/certs\.d"/)
    t.match(config, /SystemdCgroup = false/, 'the nodes of the lab have cgroup v1')
    t.match(await cluster.shell('a', 'ctr --namespace k8s.io images pull --hosts-dir /etc/containerd/certs.d registry.lichen.test/none:1 2>&1 || true'), /127\.0\.0\.1:9/, 'the mirror is asked')
    t.match((await cluster.shell('a', 'apt-mark showhold')).trim(), 'containerd')
  })

  await step(t, 'once more, nothing changes; what somebody changed by hand is shown, and put right', async (t) => {
    t.same((await changed(cluster, await succeed(t, cluster, 'apply', plan))), [])
    await cluster.shell('a', "sed --in-place 's/restrict_oom_score_adj = true/restrict_oom_score_adj = false/' /etc/containerd/config.toml")
    const check = await succeed(t, cluster, 'check', plan)
    t.match((await cluster.actions(check)).flatMap((action) => action.result?.commands ?? []).map((command) => command.diff ?? '').join(''), /- {2}restrict_oom_score_adj = false\n\+ {2}restrict_oom_score_adj = true/)
    await succeed(t, cluster, 'apply', plan)
    t.match(await cluster.shell('a', 'containerd config dump'), /restrict_oom_score_adj = true/)
  })

  await step(t, 'a node without it is as it was', async (t) => {
    await succeed(t, cluster, 'destroy', plan)
    t.equal(await cluster.shell('a', "ls -d /etc/containerd /run/containerd /var/lib/containerd /usr/local/sbin/lichen-* 2>/dev/null; systemctl list-unit-files --no-legend 'containerd*'; apt-mark showhold; true"), '')
  })
})

const changed = async (cluster: Cluster, task: string): Promise<string[]> => (await cluster.actions(task)).filter((action) => action.result?.changed).map((action) => action.id)

async function succeed(t: Test, cluster: Cluster, kind: 'apply' | 'check' | 'destroy', plan: unknown): Promise<string> {
  const id = await cluster.submit(kind, plan)
  t.match(await cluster.ended(t, id), { outcome: 'succeeded' }, `${kind} succeeds`)
  for (const { id: action, result } of await cluster.actions(id)) if (result?.failure) t.comment(`${action}: ${result.failure.message}`)
  return id
}
