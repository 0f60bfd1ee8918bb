/**
 * The Debian packages, with names, dependencies and paths of those that Kubernetes publishes for Debian: what installs from this repository installs from that.
 *
 * 1. As there, kubeadm is content with any kubelet and kubectl: who wants one version of all pins each of them.
 * 2. kubernetes-cni holds no plugins: it leads /opt/cni/bin, where containerd looks, to those of Debian.
 */
import { chmodSync, copyFileSync, mkdirSync, rmSync, symlinkSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { buildDeb, type Deb } from './deb.js'
import { recipe } from './recipe.js'

interface Plan {
  readonly name: string
  readonly depends: string
  readonly description: string
  /** Path in the package → file beside this one, or a program that was built. */
  readonly files: Readonly<Record<string, { readonly asset: string } | { readonly program: string }>>
  readonly links?: Readonly<Record<string, string>>
}

const plans: readonly Plan[] = [
  {
    name: 'kubelet',
    depends: 'kubernetes-cni, iptables, ethtool, socat, conntrack, ebtables, util-linux, mount, iproute2, init-system-helpers',
    description: 'Kubernetes node agent (for tests of Lichen)',
    files: {
      'usr/bin/kubelet': { program: 'kubelet' },
      'lib/systemd/system/kubelet.service': { asset: 'kubelet.service' },
      'DEBIAN/postinst': { asset: 'kubelet.postinst' },
      'DEBIAN/prerm': { asset: 'kubelet.prerm' },
      'DEBIAN/postrm': { asset: 'kubelet.postrm' },
    },
  },
  {
    name: 'kubeadm',
    depends: 'kubelet (>= 1.19.0), kubectl (>= 1.19.0), kubernetes-cni, cri-tools (>= 1.19.0)',
    description: 'Kubernetes cluster bootstrap (for tests of Lichen)',
    files: { 'usr/bin/kubeadm': { program: 'kubeadm' }, 'lib/systemd/system/kubelet.service.d/10-kubeadm.conf': { asset: '10-kubeadm.conf' } },
  },
  { name: 'kubectl', depends: '', description: 'Kubernetes command line client (for tests of Lichen)', files: { 'usr/bin/kubectl': { program: 'kubectl' } } },
  { name: 'cri-tools', depends: '', description: 'crictl, as much of it as kubeadm calls (for tests of Lichen)', files: { 'usr/bin/crictl': { program: 'crictl' } } },
  {
    name: 'kubernetes-cni',
    depends: 'containernetworking-plugins',
    description: 'container network plugins of Debian at /opt/cni/bin (for tests of Lichen)',
    files: {},
    links: { 'opt/cni/bin': '/usr/lib/cni' },
  },
]

/** The version of the packages of a version of Kubernetes, e.g. `1.20.2-1.1`. */
export function packageVersion(version: string): string {
  return `${version}-${recipe.debianRevision}`
}

/** Builds the packages of one version into `directory` from its programs. */
export async function buildDebs(version: string, programs: string, work: string, directory: string): Promise<Deb[]> {
  mkdirSync(directory, { recursive: true })
  const debs: Deb[] = []
  for (const plan of plans) {
    const tree = join(work, plan.name)
    mkdirSync(tree, { recursive: true })
    for (const [path, from] of Object.entries(plan.files)) {
      mkdirSync(dirname(join(tree, path)), { recursive: true })
      copyFileSync('asset' in from ? join(import.meta.dirname, 'files', from.asset) : join(programs, from.program), join(tree, path))
      if (/^DEBIAN\/|\/bin\//.test(path)) chmodSync(join(tree, path), 0o755)
    }
    for (const [path, target] of Object.entries(plan.links ?? {})) {
      mkdirSync(dirname(join(tree, path)), { recursive: true })
      symlinkSync(target, join(tree, path))
    }
    debs.push(await buildDeb({ ...plan, version: packageVersion(version), tree, directory }))
    rmSync(tree, { recursive: true })
  }
  return debs
}
