/** An example of a cloud for nodes of a lab: the same plan with emulated servers, the lab's own network as the public one, an image and what servers need. */
import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parse } from 'yaml'

const examples = join(dirname(dirname(dirname(fileURLToPath(import.meta.url)))), 'examples')

export interface Component {
  readonly name: string
  readonly blueprint: string
  with?: Record<string, unknown>
}

export interface OpenstackPlan {
  readonly metadata: { readonly name: string }
  readonly nodes: { readonly name: string; count?: number }[]
  readonly components: Component[]
}

export interface PlanChanges {
  /** File in `examples`. Default: a control node and nodes that run servers. */
  readonly example?: string
  /** The first three numbers of the lab's network, e.g. `10.1.2`. */
  readonly prefix: string
  /** OpenSSH, of the keypair `lab`. */
  readonly publicKey: string
  /** On the node of Glance. */
  readonly image: { readonly disk: string; readonly kernel: string; readonly initrd: string; readonly properties: Readonly<Record<string, string>> }
  /** Nodes that run servers. Default: all there are. */
  readonly computeCount?: number
  /** Whether `destroy` of it takes data away too. Default: false. */
  readonly removeData?: boolean
  /** More parameters of components, by their names. */
  readonly with?: Readonly<Record<string, Record<string, unknown>>>
}

/** What QEMU may not do in a container: labels of AppArmor, cgroups, namespaces and extended attributes of its own. */
const containedQemu = { security_driver: 'none', cgroup_controllers: [], namespaces: [], remember_owner: 0 }

/** Components that leave no data. */
const dataless = ['address', 'cache', 'client', 'cloud']

/** The plan. Servers get addresses from .128 to .199 of the lab's network. */
export function buildOpenstackPlan({ example = 'openstack.yaml', prefix, publicKey, image, computeCount, removeData = false, with: more = {} }: PlanChanges): OpenstackPlan {
  const plan = parse(readFileSync(join(examples, example), 'utf8').replaceAll('192.0.2.', `${prefix}.`).replace(`${prefix}.250`, `${prefix}.199`)) as OpenstackPlan
  const find = (name: string): Component => plan.components.find((component) => component.name === name)!
  if (computeCount !== undefined) plan.nodes.find(({ name }) => name === 'compute')!.count = computeCount
  find('db').with = { ...find('db').with, settings: { innodb_flush_log_at_trx_commit: 2 } }
  find('compute').with = { virtType: 'qemu', libvirt: containedQemu }
  const cloud = find('cloud').with as { resources: object[] }
  cloud.resources.push(
    { image: { name: 'kernel', file: image.kernel, diskFormat: 'raw', visibility: 'public' } },
    { image: { name: 'initrd', file: image.initrd, diskFormat: 'raw', visibility: 'public' } },
    { image: { name: 'guest', file: image.disk, diskFormat: 'raw', visibility: 'public', kernel: 'kernel', ramdisk: 'initrd', properties: image.properties } },
    { keypair: { name: 'lab', publicKey } },
    { securityGroupRule: { group: 'default', protocol: 'icmp' } },
    { securityGroupRule: { group: 'default', protocol: 'tcp', ports: { first: 22, last: 22 } } },
    { network: { name: 'inner' } },
    { subnet: { name: 'inner-v4', network: 'inner', cidr: '10.20.0.0/24' } },
    { router: { name: 'edge', externalNetwork: 'public', subnets: ['inner-v4'] } },
  )
  if (removeData) for (const component of plan.components) if (!dataless.includes(component.name)) component.with = { ...component.with, removeData }
  for (const [name, parameters] of Object.entries(more)) find(name).with = { ...find(name).with, ...parameters }
  return plan
}
