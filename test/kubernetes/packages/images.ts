/**
 * The images that kubeadm's cluster runs. Programs of Kubernetes come from the build, everything else from Debian's packages, unpacked with their libraries.
 *
 * 1. kube-proxy has the nft flavour of iptables: Debian 12's own, as nodes use it; two flavours on one machine would not see each other's rules.
 * 2. Every library that a program needs is in its image: looked up with the image's own dynamic linker, since a missing one would show only on a node.
 * 3. CoreDNS is absent: Debian has no source of it. Clusters have no DNS, and kubeadm's add-on must be skipped.
 */
import { copyFileSync, mkdirSync, rmSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { runRequired } from '@lichen/lab'
import type { DebianArchive } from './debian-archive.js'
import { writeImage } from './image.js'
import { recipe } from './recipe.js'

/** Which machines run an image: every node (`node`; of a worker these are all it needs), or those with the control plane as well. */
export type ImageRole = 'node' | 'control-plane'

export interface KubeImage {
  /** Such as `kube-proxy`. */
  readonly name: string
  readonly tag: string
  /** Repository, name and tag as manifests of pods name it. */
  readonly reference: string
  readonly role: ImageRole
  /** Of Kubernetes, with which it is used; an image may serve several. */
  readonly versions: readonly string[]
  /** The archive, relative to the directory of images. */
  readonly file: string
}

export interface ImagesOptions {
  readonly archive: DebianArchive
  readonly tree: string
  /** Thrown away with the build. */
  readonly work: string
  /** Where the archives go. */
  readonly directory: string
  /** The directory of the programs built for a version. */
  readonly programsOf: (version: string) => string
  readonly log: (line: string) => void
}

const iptablesLibraries = ['libxtables12', 'libip4tc2', 'libip6tc2', 'libmnl0', 'libnftnl11', 'libnfnetlink0', 'libnetfilter-conntrack3']

/** Writes all images and gives back what was written. */
export async function writeImages(options: ImagesOptions): Promise<KubeImage[]> {
  const { archive, work, log } = options
  mkdirSync(options.directory, { recursive: true })
  const images: KubeImage[] = []
  const write = async (name: string, tag: string, role: ImageRole, versions: readonly string[], root: string, entrypoint?: readonly string[]): Promise<void> => {
    const file = `${name}-${tag}.tar`
    const reference = `${recipe.imageRepository}/${name}:${tag}`
    for (const directory of ['etc', 'tmp', 'run']) mkdirSync(join(root, directory), { recursive: true })
    await writeImage(join(options.directory, file), { reference, root, ...(entrypoint ? { entrypoint } : {}) })
    images.push({ name, tag, reference, role, versions, file })
  }
  const unpack = async (name: string, packages: readonly string[]): Promise<{ root: string; tag: string }> => {
    const root = join(work, name)
    const versions = await archive.unpack(packages, root)
    for (const directory of ['usr/share', 'usr/lib/systemd', 'lib/systemd']) rmSync(join(root, directory), { recursive: true, force: true })
    return { root, tag: upstreamVersion(versions.get(packages[0] ?? '') ?? '') }
  }

  log('writing the images')
  const pause = join(work, 'pause')
  mkdirSync(pause, { recursive: true })
  await runRequired(['gcc', '-Os', '-s', '-static', `-DVERSION=${recipe.pauseVersion}`, '-o', join(pause, 'pause'), join(options.tree, 'build/pause/linux/pause.c')])
  await write('pause', recipe.pauseVersion, 'node', recipe.stamps, pause, ['/pause'])

  const etcd = await unpack('etcd', ['etcd-server', 'etcd-client', 'libc6'])
  await checkLibraries(etcd.root, ['usr/bin/etcd', 'usr/bin/etcdctl'])
  await write('etcd', etcd.tag, 'control-plane', recipe.stamps, etcd.root)

  const busybox = await unpack('busybox', ['busybox-static'])
  await runRequired(['sh', '-c', 'cd "$1/bin"; for applet in $(./busybox --list); do [ -e "$applet" ] || ln -s busybox "$applet"; done', 'applets', busybox.root])
  await write('busybox', busybox.tag, 'node', recipe.stamps, busybox.root, ['/bin/sh'])

  const proxy = await unpack('proxy', ['iptables', 'conntrack', 'libc6', ...iptablesLibraries])
  for (const family of ['iptables', 'ip6tables']) {
    for (const suffix of ['', '-save', '-restore']) symlinkSync('xtables-nft-multi', join(proxy.root, 'usr/sbin', family + suffix))
  }
  await checkLibraries(proxy.root, ['usr/sbin/xtables-nft-multi', 'usr/sbin/conntrack'])

  for (const version of recipe.stamps) {
    for (const name of ['kube-apiserver', 'kube-controller-manager', 'kube-scheduler', 'kube-proxy']) {
      const isProxy = name === 'kube-proxy'
      const root = isProxy ? proxy.root : join(work, `${name}-${version}`)
      mkdirSync(join(root, 'usr/local/bin'), { recursive: true })
      copyFileSync(join(options.programsOf(version), name), join(root, 'usr/local/bin', name))
      await write(name, `v${version}`, isProxy ? 'node' : 'control-plane', [version], root)
      if (!isProxy) rmSync(root, { recursive: true })
    }
  }
  return images
}

/** `3.4.23` of Debian's `1:3.4.23-4+b4`. */
function upstreamVersion(version: string): string {
  return version.replace(/^\d+:/, '').replace(/-[^-]*$/, '')
}

async function checkLibraries(root: string, programs: readonly string[]): Promise<void> {
  const { stdout } = await runRequired(['find', root, '-name', 'libc.so.6', '-o', '-name', 'ld-linux-*.so.*', '-type', 'f'])
  const paths = stdout.split('\n').filter(Boolean)
  const linker = paths.find((path) => path.includes('/ld-linux-')) ?? ''
  const directory = paths.find((path) => path.endsWith('/libc.so.6'))?.replace(/\/libc\.so\.6$/, '') ?? ''
  const libraries = `${directory}:${join(root, 'usr', directory.slice(root.length))}`
  for (const program of programs) {
    const { stdout: list } = await runRequired([linker, '--inhibit-cache', '--library-path', libraries, '--list', join(root, program)])
    const foreign = list.split('\n').filter((line) => / => /.test(line) && !line.includes(root))
    if (foreign.length > 0) throw new Error(`${program} of an image needs what is not in it: ${foreign.map((line) => line.trim()).join(', ')}`)
  }
}
