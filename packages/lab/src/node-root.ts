/** The root directory of a node: a copy of the base image with the node's own name, address and apt sources. */
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { buildSourcesList, type Mirror } from './mirror.js'
import type { NodeNames } from './names.js'
import { writePrivilegedSetup } from './privileged.js'
import { dieWithParent } from './program.js'
import { runRequired } from './required-program.js'
import { replaceFile, type LabState, type NodeEntry } from './state.js'

/**
 * Makes the root directory of a node, complete or not at all. A plain copy and no overlay: containerd and Docker put overlays on top, which the
 * kernel refuses on an overlay. On file systems that share blocks (btrfs, xfs) the copy costs nothing.
 */
export async function makeNodeRoot(base: string, names: NodeNames, state: LabState, node: NodeEntry, mirror: Mirror): Promise<void> {
  const temporary = `${names.root}.new`
  rmSync(temporary, { recursive: true, force: true })
  mkdirSync(names.directory, { recursive: true })
  await runRequired(dieWithParent(['cp', '--archive', '--reflink=auto', base, temporary]))
  writeFileSync(join(temporary, 'etc/hostname'), `${node.name}\n`)
  writeFileSync(join(temporary, 'etc/hosts'), '127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n')
  writeFileSync(join(temporary, 'etc/network/interfaces'), buildInterfaces(state, node))
  rmSync(join(temporary, 'etc/apt/sources.list.d'), { recursive: true, force: true })
  mkdirSync(join(temporary, 'etc/apt/sources.list.d'))
  writeFileSync(join(temporary, 'etc/apt/sources.list'), buildSourcesList(mirror))
  writeFileSync(join(temporary, 'etc/apt/apt.conf.d/00proxy'), buildProxyConfiguration(state))
  if (node.isPrivileged) writePrivilegedSetup(temporary)
  renameSync(temporary, names.root)
}

/**
 * The gateway does not forward; it is there because programs look for the address of the default route. The cloud metadata address is
 * refused at once, or whoever asks it (kubelet, cloud-init) waits for seconds at each start.
 *
 * Further links end on the same bridge, and Linux answers for each of its addresses on every interface that is asked (ip-sysctl, `arp_ignore`): without the
 * setting, what is meant for `host0` would come in on one of them.
 */
function buildInterfaces(state: LabState, node: NodeEntry): string {
  return [
    'auto lo',
    'iface lo inet loopback',
    'auto host0',
    'iface host0 inet static',
    `  address ${node.address}/24`,
    `  gateway ${state.gateway}`,
    '  up ip route replace unreachable 169.254.169.254/32',
    ...(node.links ?? []).flatMap((link) => [
      `auto ${link}`,
      `iface ${link} inet manual`,
      `  up ip link set ${link} up`,
      '  up sysctl --quiet --write net.ipv4.conf.all.arp_ignore=1',
    ]),
    '',
  ].join('\n')
}

function buildProxyConfiguration(state: LabState): string {
  // what a program of the host serves on the bridge address is reached directly
  return `Acquire::http::Proxy "http://${state.gateway}:${state.proxyPort}";\nAcquire::http::Proxy::${state.gateway} "DIRECT";\n`
}

const hostsBegin = '# lab nodes begin'
const hostsEnd = '# lab nodes end'

/** Writes the names and addresses of all nodes into a node's /etc/hosts, between two marks; the node's other lines stay. */
export function writeHosts(root: string, nodes: readonly NodeEntry[]): void {
  const path = join(root, 'etc/hosts')
  replaceFile(path, replaceHostsBlock(readHosts(path), nodes))
}

/** The text of a hosts file with the block of lab nodes put in, or replaced. */
export function replaceHostsBlock(text: string, nodes: readonly NodeEntry[]): string {
  const kept: string[] = []
  let isInside = false
  for (const line of text.split('\n')) {
    if (line === hostsBegin) isInside = true
    if (!isInside) kept.push(line)
    if (line === hostsEnd) isInside = false
  }
  while (kept.at(-1) === '') kept.pop()
  return [...kept, hostsBegin, ...nodes.map((node) => `${node.address} ${node.name}`), hostsEnd, ''].join('\n')
}

/** A node that replaced the file by a link or removed it gets a new one. */
function readHosts(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return '127.0.0.1 localhost\n'
  }
}
