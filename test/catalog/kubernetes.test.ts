// What is written for each version of Kubernetes: byte for byte as it was, and in the form that its kubeadm documents.
import { readFileSync, writeFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { readCatalog } from '@lichen/catalog'
import { buildGraph, type Command, nodeId, type NodeRecord, parsePlan, type Plan, type Problem } from '@lichen/core'
import { Value } from '@sinclair/typebox/value'
import t from 'tap'
import { parse, parseAllDocuments } from 'yaml'
import { makeNode } from '../core/plan-fixture.js'
import { type KubeadmApi, kubeadmSchemas } from './kubeadm-schemas.js'

const root = resolve(import.meta.dirname, '../..')
const catalog = await readCatalog(resolve(root, 'catalog'))

const makeMachine = (id: string, index: number, role: string, cgroupVersion: 1 | 2): NodeRecord => {
  const node = makeNode(id, { cluster: 'demo', role })
  return { ...node, facts: { ...node.facts, hostname: id.toUpperCase(), address: `10.0.0.${index}`, cgroupVersion } }
}

interface Choice {
  readonly version: string
  readonly cgroupVersion?: 1 | 2
  readonly controlPlanes?: number
  readonly with?: Readonly<Record<string, unknown>>
  /** Of containerd. Default: by the distribution. */
  readonly series?: string
  /** Outside of the control plane, beside it on its nodes. */
  readonly hasEtcd?: boolean
  /** Nodes of the control plane in the last apply. */
  readonly before?: readonly string[]
}

function build({ version, cgroupVersion = 2, controlPlanes = 1, with: parameters = {}, series, hasEtcd = false, before }: Choice) {
  const document = parse(readFileSync(resolve(root, 'examples/kubernetes.yaml'), 'utf8')) as { nodes: { name: string; count?: number }[]; components: { name: string; blueprint: string; on: string; with?: Record<string, unknown>; uses?: Record<string, string> }[] }
  document.nodes.find(({ name }) => name === 'control')!.count = controlPlanes
  const controlPlane = document.components.find(({ name }) => name === 'control-plane')!
  controlPlane.with = { ...controlPlane.with, version, ...parameters }
  if (series !== undefined) document.components.find(({ name }) => name === 'runtime')!.with = { series }
  if (hasEtcd) {
    document.components.push({ name: 'etcd', blueprint: 'etcd@^1', on: 'control' })
    controlPlane.uses = { ...controlPlane.uses, etcd: 'etcd' }
  }
  const parsed = parsePlan(document)
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.problems))
  const plan: Plan = parsed.value
  const nodes = [...['a', 'b', 'c'].slice(0, controlPlanes).map((id, index) => makeMachine(id, index + 1, 'control-plane', cgroupVersion)), makeMachine('w', 9, 'worker', cgroupVersion)]
  const placement = before && { all: before.map(nodeId), control: before.map(nodeId), workers: [nodeId('w')] }
  const inheritance = placement && { before: { on: Object.fromEntries(plan.components.map(({ name, on }) => [name, on])), placement }, nodes: {}, plan, leaving: [] }
  return buildGraph({ plan, catalog, nodes, kind: 'apply', placement, inheritance })
}

/** Contents of the files that the plan writes, by node and path. */
function filesOf(choice: Choice): ReadonlyMap<string, string> {
  const built = build(choice)
  if (!built.ok) throw new Error(JSON.stringify(built.problems))
  const isFile = (command: Command): command is Extract<Command, { kind: 'file' }> => command.kind === 'file'
  return new Map(built.value.actions.flatMap(({ node, commands }) => commands.filter(isFile).flatMap(({ spec }) => (spec.content === undefined ? [] : [[`${node}:${spec.path}`, spec.content] as const]))))
}

const problemsOf = (choice: Choice): readonly Problem[] => {
  const built = build(choice)
  return built.ok ? [] : built.problems
}

const settings = { certificateNames: ['k8s.example.org'], apiServer: { 'audit-log-maxage': '7', 'profiling': 'false' }, scheduler: { profiling: 'false' }, kubelet: { maxPods: 64 }, kubeProxy: { mode: 'iptables' }, schedulable: true }
const cases: readonly (Choice & { readonly api: KubeadmApi })[] = [
  { version: '1.20.2', api: 'v1beta2', cgroupVersion: 1, with: { ...settings, images: { registry: 'registry.lichen.test', etcdTag: '3.4.23' } } },
  { version: '1.28.15', api: 'v1beta3', with: settings },
  { version: '1.31.4', api: 'v1beta4', with: settings },
  { version: '1.36.0', api: 'v1beta4', with: settings, series: '2' },
]

for (const { api, ...choice } of cases) {
  t.test(`Kubernetes ${choice.version}`, async (t) => {
    const files = filesOf({ ...choice, controlPlanes: 3, with: { ...choice.with, endpoint: 'k8s.example.org' } })
    const wanted = ['a:/var/lib/lichen/kubernetes/kubeadm.yaml', 'a:/var/lib/kubelet/config.yaml', 'b:/var/lib/lichen/kubernetes/join.yaml', 'w:/var/lib/lichen/kubernetes/join.yaml', 'w:/var/lib/kubelet/config.yaml', 'w:/etc/default/kubelet']
    const text = wanted.map((name) => `=== ${name}\n${files.get(name)}`).join('')
    const golden = new URL(`golden/kubernetes-${choice.version}.txt`, import.meta.url)
    // LICHEN_WRITE_GOLDEN=1 writes it anew.
    if (process.env['LICHEN_WRITE_GOLDEN']) writeFileSync(golden, text)
    t.equal(text, readFileSync(golden, 'utf8'))

    const schemas = kubeadmSchemas(api)
    const seen: string[] = []
    for (const name of wanted.filter((path) => path.includes('/kubernetes/'))) {
      for (const document of parseAllDocuments(files.get(name)!.replaceAll(/@(TOKEN|DIGEST|KEY)@/g, 'x'))) {
        t.same(document.errors, [], name)
        const value = document.toJS() as { apiVersion: string; kind: string }
        if (!value.apiVersion.startsWith('kubeadm.')) continue
        seen.push(value.kind)
        t.same([...Value.Errors(schemas[value.kind]!, value)].map(({ path, message }) => `${path} ${message}`), [], `${name}: ${value.kind}`)
      }
    }
    t.same(seen, ['InitConfiguration', 'ClusterConfiguration', 'JoinConfiguration', 'JoinConfiguration'])
  })
}

t.test('the schemas tell one form from another', async (t) => {
  const accepts = (api: KubeadmApi, extraArgs: unknown): boolean => Value.Check(kubeadmSchemas(api)['ClusterConfiguration']!, { apiVersion: `kubeadm.k8s.io/${api}`, kind: 'ClusterConfiguration', apiServer: { extraArgs } })
  t.same([accepts('v1beta3', { a: 'b' }), accepts('v1beta4', { a: 'b' }), accepts('v1beta3', [{ name: 'a', value: 'b' }]), accepts('v1beta4', [{ name: 'a', value: 'b' }])], [true, false, false, true])
  t.notOk(Value.Check(kubeadmSchemas('v1beta2')['InitConfiguration']!, { apiVersion: 'kubeadm.k8s.io/v1beta2', kind: 'InitConfiguration', skipPhases: [] }))
})

t.test('with an etcd outside of the control plane kubeadm is told where it is, and its nodes may be of any number', async (t) => {
  const files = filesOf({ version: '1.31.4', hasEtcd: true })
  const configuration = parseAllDocuments(files.get('a:/var/lib/lichen/kubernetes/kubeadm.yaml')!).map((document) => document.toJS() as { kind: string; etcd?: unknown }).find(({ kind }) => kind === 'ClusterConfiguration')!
  t.same(configuration.etcd, { external: { endpoints: ['http://10.0.0.1:2379'] } })
  t.same([...Value.Errors(kubeadmSchemas('v1beta4')['ClusterConfiguration']!, configuration)], [])
})

t.test('a plan that would lose every node of the control plane is refused: it would make a new cluster', async (t) => {
  t.match(problemsOf({ version: '1.31.4', before: ['x'] }), [{ code: 'PLAN_RULE_BROKEN', path: 'components[2]', message: /would lose all nodes that it has, and with them the cluster: .* \(nodes: a; before: x\)$/ }])
  t.same(problemsOf({ version: '1.31.4', controlPlanes: 3, before: ['b'], with: { endpoint: 'k8s.example.org' } }), [], 'one that stays is enough')
})

t.test('a worker joins when the whole control plane is of the version of the plan, and what comes then waits until it is well', async (t) => {
  const built = build({ version: '1.31.4', controlPlanes: 3, with: { endpoint: 'k8s.example.org' } })
  if (!built.ok) throw new Error(JSON.stringify(built.problems))
  const ofControlPlane = (id: string): readonly string[] => built.value.actions.find((action) => action.id === id)!.after.filter((before) => before.startsWith('control-plane/'))
  t.strictSame(ofControlPlane('workers/join@w'), ['control-plane/admit:workers.cluster@a'])
  t.strictSame(ofControlPlane('control-plane/admit:workers.cluster@a'), ['a', 'b', 'c'].map((node) => `control-plane/upgrade@${node}`))
  t.ok(['a', 'b', 'c'].every((node) => ofControlPlane('workers/upgrade@w').includes(`control-plane/check@${node}`)))
})

t.test('what cannot work is refused with the plan', async (t) => {
  t.match(problemsOf({ version: '1.36.0' }), [
    { code: 'PLAN_RULE_BROKEN', path: 'components[2].with.version', message: /needs containerd 2 \(from 1\.36 on\)/ },
    { code: 'PLAN_RULE_BROKEN', path: 'components[3]', message: /needs containerd 2/ },
  ])
  t.match(problemsOf({ version: '1.36.0', cgroupVersion: 1, series: '2' }), [{ code: 'PLAN_RULE_BROKEN', path: 'components[2].with.version', message: /cgroup v2 alone/ }])
  t.same(problemsOf({ version: '1.36.0', cgroupVersion: 1, series: '2', with: { kubelet: { failCgroupV1: false } } }), [])
  t.match(problemsOf({ version: '1.19.16' }), [{ code: 'PLAN_RULE_BROKEN', message: /older than 1\.20/ }])
  t.match(problemsOf({ version: '1.31.4', controlPlanes: 3 }), [{ code: 'PLAN_RULE_BROKEN', path: 'components[2].with.endpoint', message: /needs an endpoint/ }])
  t.match(problemsOf({ version: '1.31.4', controlPlanes: 2, with: { endpoint: 'k8s.example.org' } }), [{ code: 'PLAN_RULE_BROKEN', message: /1, 3, 5 or 7 nodes/ }])
  t.match(problemsOf({ version: 'v1.31' }), [{ code: 'PLAN_BAD_PARAMETER', path: 'components[2].with.version' }])
  t.match(problemsOf({ version: '1.31.4', with: { kubelet: { cgroupDriver: 'systemd' } } }), [{ code: 'PLAN_RULE_BROKEN', path: 'components[2].with.kubelet', message: /cgroupDriver, .* follow from the rest of the plan/ }])
  t.match(problemsOf({ version: '1.31.4', with: { apiServer: { '--profiling': 'false' } } }), [{ code: 'PLAN_BAD_PARAMETER', path: 'components[2].with.apiServer.--profiling', message: /is no name that can stand here: it must match pattern/ }])
  t.match(problemsOf({ version: '1.31.4', with: { endpoint: 'k8s.example.org:99x' } }), [{ code: 'PLAN_BAD_PARAMETER', path: 'components[2].with.endpoint' }])
})
