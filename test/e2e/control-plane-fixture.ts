/** Nodes for a control plane of several, with what stands before them: packages and images over HTTP, and a load balancer. */
import type { Test } from 'tap'
import { openLoadBalancer } from '../kubernetes/load-balancer.js'
import { buildKubePackages } from '../kubernetes/packages/build.js'
import { serveDirectory } from '../kubernetes/serve-directory.js'
import { cacheDirectory } from '../lab/lab-fixture.js'
import { type Cluster, startCluster } from './cluster-fixture.js'

export interface ControlPlaneNodes {
  readonly cluster: Cluster
  readonly kube: Awaited<ReturnType<typeof buildKubePackages>>
  /** Where packages and images are served. */
  readonly filesUrl: string
  /** Of the load balancer, host:port. */
  readonly endpoint: string
  /** IPv4 address of each node of the control plane, by name. */
  readonly addresses: ReadonlyMap<string, string>
}

/** Nodes that have joined; all of it is gone after the test. */
export async function startControlPlaneNodes(t: Test, labName: string, controlPlane: readonly string[], workers: readonly string[]): Promise<ControlPlaneNodes> {
  const kube = await buildKubePackages({ cacheDirectory, log: (line) => t.comment(line) })
  const cluster = await startCluster(t, labName, [...controlPlane, ...workers], { privileged: true, labelsOf: (node) => ({ cluster: 'demo', role: workers.includes(node) ? 'worker' : 'control-plane' }) })
  const host = cluster.server().gatewayAddress.replace(/:\d+$/, '')
  const files = await serveDirectory(host, kube.directory)
  t.teardown(() => files.close())
  const addresses = new Map<string, string>()
  for (const node of controlPlane) addresses.set(node, (await cluster.shell(node, "ip -4 -brief address show host0 | awk '{ sub(/\\/.*/, \"\", $3); print $3 }'")).trim())
  const balancer = await openLoadBalancer(host, () => [...addresses.values()].map((address) => `${address}:6443`))
  t.teardown(() => balancer.close())
  return { cluster, kube, filesUrl: files.url, endpoint: `${host}:${balancer.port}`, addresses }
}
