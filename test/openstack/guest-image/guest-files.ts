/**
 * Making disk, kernel and initrd of the guest image inside a lab node.
 *
 * 1. The root is a copy of the node's own: it is the base image, minimal and with the right apt sources, and the node has booted a second ago.
 * 2. Mounts for the packages' scripts are made in a mount namespace of the program that runs them, so none is left.
 */
import { basename, join } from 'node:path'
import { LichenError } from '@lichen/core'
import type { Lab } from '@lichen/lab'
import { recipe } from './recipe.js'

/** Paths in the node. */
export interface GuestFiles {
  readonly disk: string
  readonly kernel: string
  readonly initrd: string
}

type Run = (...argv: [string, ...string[]]) => Promise<string>

const work = '/guest'
const root = `${work}/root`
const kernelTree = `${work}/kernel`

/** Makes the files. @throws LAB_PROGRAM_FAILED. */
export async function makeGuestFiles(lab: Lab, node: string, log: (line: string) => void): Promise<GuestFiles> {
  const run: Run = async (...argv) => {
    const { exitCode, stdout, stderr } = await lab.exec(node, argv, { env: { DEBIAN_FRONTEND: 'noninteractive' } })
    if (exitCode === 0) return stdout
    throw new LichenError('LAB_PROGRAM_FAILED', `guest image: ${argv.join(' ').slice(0, 200)}: exit code ${exitCode}: ${stderr.trim().split('\n').slice(-5).join(' | ')}`)
  }
  log('installing the packages of the guest image (half a minute)')
  await copyRoot(run)
  await installPackages(run)
  const version = await unpackKernel(run)
  await configure(lab, node, run)
  log('writing disk and initrd of the guest image')
  const initrd = await writeInitrd(lab, node, run, version)
  await copyModules(run, version)
  const disk = await writeDisk(run)
  return { disk, kernel: `${kernelTree}/boot/vmlinuz-${version}`, initrd }
}

async function copyRoot(run: Run): Promise<void> {
  // all that is no mount of nspawn's
  const copied = ['bin', 'boot', 'etc', 'home', 'lib', 'lib32', 'lib64', 'libx32', 'media', 'mnt', 'opt', 'root', 'sbin', 'srv', 'usr', 'var']
  const script = 'mkdir -p "$0"; for name; do if [ -e "/$name" ]; then cp --archive --one-file-system "/$name" "$0"; fi; done; cd "$0"; mkdir dev proc run sys; mkdir -m 1777 tmp'
  await run('sh', '-euc', script, root, ...copied)
}

async function installPackages(run: Run): Promise<void> {
  await run('apt-get', '--quiet', 'update')
  const script = 'mount --rbind /dev "$0/dev"; mount --rbind /proc "$0/proc"; mount --bind /var/lib/apt/lists "$0/var/lib/apt/lists"; exec chroot "$0" "$@"'
  await run('unshare', '--mount', 'sh', '-euc', script, root, 'apt-get', '--quiet', '--yes', 'install', ...recipe.packages)
  await run('apt-get', '--quiet', '--yes', 'install', 'busybox-static', 'cpio')
}

/** Unpacks the newest kernel and gives back its version. */
async function unpackKernel(run: Run): Promise<string> {
  const depends = await run('apt-cache', 'depends', '--important', recipe.kernelPackage)
  const name = /Depends: (linux-image-\S+)/.exec(depends)?.[1]
  if (!name) throw new LichenError('LAB_PROGRAM_FAILED', `guest image: ${recipe.kernelPackage} depends on no kernel: ${depends}`)
  await run('sh', '-euc', 'mkdir -p "$0"; cd "$0"; apt-get --quiet download "$1"; dpkg-deb --extract ./*.deb "$0"', kernelTree, name)
  const version = name.replace('linux-image-', '')
  await run('depmod', '--basedir', kernelTree, version)
  return version
}

/** Files of the image's own, what its boot starts, its user, and what is taken away. */
async function configure(lab: Lab, node: string, run: Run): Promise<void> {
  const overlay = `${work}/overlay`
  await lab.copyIn(node, join(import.meta.dirname, 'root'), overlay)
  await run('chown', '--recursive', 'root:root', overlay)
  await run('chmod', '--recursive', 'u=rwX,go=rX', overlay)
  await run('cp', '--archive', `${overlay}/.`, root)
  await run('chroot', root, 'useradd', '--create-home', '--shell', '/bin/bash', '--groups', 'sudo', 'debian')
  // the masks of the base image go with the wishes of Debian's
  await run('sh', '-euc', 'cd "$0"; rm -r usr/lib/systemd/system/*.wants; rm -rf etc/systemd/system/*.wants; find etc/systemd/system -lname /dev/null -delete', root)
  for (const [target, units] of Object.entries(recipe.wants)) {
    const directory = `${root}/etc/systemd/system/${target}.wants`
    await run('mkdir', directory)
    await run('ln', '--symbolic', '--target-directory', directory, ...units.map((unit) => `../${unit}`))
  }
  const units = `${root}/etc/systemd/system`
  await run('ln', '--symbolic', '/lib/systemd/system/multi-user.target', `${units}/default.target`)
  // they make units of fstab, of old scripts, of the kernel's command line: there is nothing to make, and each is a program more
  await run('sh', '-euc', 'mkdir "$0/etc/systemd/system-generators"; for path in "$0"/usr/lib/systemd/system-generators/*; do ln -s /dev/null "$0/etc/systemd/system-generators/${path##*/}"; done', root)
  await run('sh', '-euc', 'cd "$0"; rm -rf $*', root, ...recipe.removed)
}

/** The initrd: busybox and a few modules, not packed, since a guest takes longer to unpack it than to read it. */
async function writeInitrd(lab: Lab, node: string, run: Run, version: string): Promise<string> {
  const tree = `${work}/initrd-tree`
  const modules = await listModules(run, version, recipe.initrdModules)
  await run('mkdir', '--parents', `${tree}/bin`, `${tree}/modules`, `${tree}/dev`, `${tree}/proc`, `${tree}/sysroot`)
  await run('cp', '/bin/busybox', `${tree}/bin/busybox`)
  await run('cp', ...modules, `${tree}/modules`)
  await lab.writeIn(node, `${tree}/modules/order`, modules.map((path) => `${basename(path)}\n`).join(''))
  await lab.copyIn(node, join(import.meta.dirname, 'init'), `${tree}/init`)
  await run('chmod', '755', `${tree}/init`)
  await run('sh', '-euc', 'cd "$0"; find . -mindepth 1 -print0 | cpio --null --create --format=newc --owner=0:0 --quiet >"$1"', tree, `${work}/initrd`)
  return `${work}/initrd`
}

async function copyModules(run: Run, version: string): Promise<void> {
  const modules = await listModules(run, version, recipe.modules)
  const directory = `lib/modules/${version}`
  await run('mkdir', '--parents', `${root}/${directory}`)
  for (const file of ['modules.order', 'modules.builtin', 'modules.builtin.modinfo']) await run('cp', `${kernelTree}/${directory}/${file}`, `${root}/${directory}/`)
  await run('sh', '-euc', 'cd "$0"; to=$1; shift; cp --parents "$@" "$to"', kernelTree, `${root}/`, ...modules.map((path) => path.slice(kernelTree.length + 1)))
  await run('depmod', '--basedir', root, version)
}

/** Paths of the modules with those they need, each after what it needs. */
async function listModules(run: Run, version: string, names: readonly string[]): Promise<string[]> {
  const printed = await run('modprobe', '--dirname', kernelTree, '--set-version', version, '--show-depends', '--all', ...names)
  return [...new Set(printed.split('\n').flatMap((line) => /^insmod (\S+)/.exec(line)?.[1] ?? []))]
}

async function writeDisk(run: Run): Promise<string> {
  const disk = `${work}/disk.raw`
  // complete tables of inodes: the kernel would else write them while the guest boots; and a small journal, since it writes little
  const options = ['-q', '-t', 'ext4', '-L', 'root', '-m', '0', '-I', '256', '-J', 'size=8', '-E', 'lazy_itable_init=0,lazy_journal_init=0', '-d', root]
  await run('mke2fs', ...options, disk, `${recipe.sizeBytes / 1024 ** 2}M`)
  await run('fallocate', '--dig-holes', disk)
  return disk
}
