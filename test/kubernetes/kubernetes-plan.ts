/** `examples/kubernetes.yaml` for nodes without a network: the same plan, with packages and images of the tests in place of those on the internet, and settings for nodes that are containers themselves. */
import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parse } from 'yaml'
import { makeWebsite } from './manifests.js'
import type { KubePackages } from './packages/build.js'
import type { ImageRole } from './packages/images.js'

const example = join(dirname(dirname(dirname(fileURLToPath(import.meta.url)))), 'examples/kubernetes.yaml')

interface Component {
  readonly name: string
  with?: Record<string, unknown>
}

export interface KubernetesPlan {
  readonly metadata: { readonly name: string }
  readonly nodes: readonly { readonly name: string; count?: number }[]
  readonly components: readonly Component[]
}

export interface PlanChanges {
  /** Of Kubernetes. */
  readonly version: string
  /** Nodes of the control plane, and what leads to them. One without. */
  readonly controlPlane?: { readonly count: number; readonly endpoint: string }
  /** How long a worker may take to be drained. Default: the blueprint's; a kubelet may take a minute until it has given up a pod that has ended. */
  readonly drainS?: number
}

/** Two pods, one on each worker. */
const makeWeb = (image: string): string =>
  makeWebsite({
    name: 'web', replicas: 2, image, greeting: 'serving',
    pod: { topologySpreadConstraints: [{ maxSkew: 1, topologyKey: 'kubernetes.io/hostname', whenUnsatisfiable: 'DoNotSchedule', labelSelector: { matchLabels: { app: 'web' } } }] },
  })

/** The plan; packages and images come from `url`, where `kube.directory` is served. */
export function buildKubernetesPlan(kube: KubePackages, url: string, { version, controlPlane, drainS }: PlanChanges): KubernetesPlan {
  const plan = parse(readFileSync(example, 'utf8')) as KubernetesPlan
  const change = (name: string, parameters: Record<string, unknown>): void => void (plan.components.find((component) => component.name === name)!.with = parameters)
  const archives = (roles: readonly ImageRole[]) => kube.images.filter((image) => roles.includes(image.role) && image.versions.includes(version)).map(({ file, reference }) => ({ url: `${url}/images/${file}`, image: reference }))
  const referenceOf = (name: string): string => kube.images.find((image) => image.name === name)!.reference
  change('runtime', { sandboxImage: referenceOf('pause'), removeData: true })
  change('control-plane', {
    version,
    packages: { revision: kube.packageVersions[version]!.slice(version.length), versions: {}, source: { url: `${url}/repository`, suite: './', key: readFileSync(kube.keyPath, 'utf8') } },
    images: { registry: kube.imageRepository, etcdTag: kube.etcdTag, archives: archives(['node', 'control-plane']) },
    // There is no CoreDNS among the packages of the tests.
    skipPhases: ['addon/coredns'], ignorePreflight: ['ImagePull'],
    // A container cannot set nf_conntrack_max, and measures the file system of its host.
    kubeProxy: { conntrack: { maxPerCore: 0, min: 0 } }, kubelet: { imageGCHighThresholdPercent: 100, evictionHard: { 'memory.available': '100Mi' } },
    ...(controlPlane && { endpoint: controlPlane.endpoint }),
  })
  if (controlPlane) plan.nodes.find(({ name }) => name === 'control')!.count = controlPlane.count
  change('workers', { images: { archives: archives(['node']) }, ...(drainS === undefined ? {} : { drain: { deadlineS: drainS } }) })
  change('web', { manifests: [makeWeb(referenceOf('busybox'))], waitFor: [{ resource: 'deployment/web' }] })
  return plan
}
