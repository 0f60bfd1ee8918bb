/** The lab's own network on the host: a /24 that nobody uses, and a bridge with the host at .1. No NAT and no forwarding: nodes reach each other and the host. */
import { createHash } from 'node:crypto'
import { existsSync, readdirSync } from 'node:fs'
import { LichenError } from '@lichen/core'
import { isLinkName, vethPrefix, type LabNames } from './names.js'
import { runProgram } from './program.js'
import { runRequired } from './required-program.js'

interface Range {
  readonly first: number
  readonly last: number
}

/**
 * The first three octets of a private /24 that overlaps no address and no route of the host; the search starts at a place given by
 * `seed`, so that the same lab tends to get the same network. 10.0.0.0/8 is tried before 172.16.0.0/12 and 192.168.0.0/16.
 * @throws LAB_NETWORK when the host uses all of them.
 */
export async function chooseNetwork(seed: string): Promise<string> {
  return pickNetwork(await readUsedRanges(), seed)
}

/** The choice of `chooseNetwork`, with the used networks given as CIDR. */
export function chooseNetworkAmong(usedCidrs: readonly string[], seed: string): string {
  return pickNetwork(usedCidrs.flatMap(parseRange), seed)
}

function pickNetwork(used: readonly Range[], seed: string): string {
  const start = createHash('sha256').update(seed).digest().readUInt16BE(0)
  const isFree = (network: string): boolean => {
    const [range] = parseRange(`${network}.0/24`)
    return range !== undefined && used.every((other) => other.last < range.first || other.first > range.last)
  }
  for (let i = 0; i < 65536; i++) {
    const n = (start + i) % 65536
    const network = `10.${n >> 8}.${n & 255}`
    if (isFree(network)) return network
  }
  for (let i = 0; i < 4096; i++) {
    const n = (start + i) % 4096
    const network = `172.${16 + (n >> 8)}.${n & 255}`
    if (isFree(network)) return network
  }
  for (let i = 0; i < 256; i++) {
    const network = `192.168.${(start + i) % 256}`
    if (isFree(network)) return network
  }
  throw new LichenError('LAB_NETWORK', 'every private /24 (10/8, 172.16/12, 192.168/16) overlaps an address or a route of this host')
}

async function readUsedRanges(): Promise<Range[]> {
  const addresses = await runRequired(['ip', '-json', '-4', 'address'])
  const routes = await runRequired(['ip', '-json', '-4', 'route', 'show', 'table', 'all'])
  const used: Range[] = []
  for (const link of JSON.parse(addresses.stdout) as { addr_info: { local: string; prefixlen: number }[] }[]) {
    for (const address of link.addr_info) used.push(...parseRange(`${address.local}/${address.prefixlen}`))
  }
  for (const route of JSON.parse(routes.stdout) as { dst: string }[]) used.push(...parseRange(route.dst))
  return used
}

/** The default route is no use of an address: it gives no range. */
function parseRange(cidr: string): Range[] {
  const match = /^(\d+)\.(\d+)\.(\d+)\.(\d+)(?:\/(\d+))?$/.exec(cidr)
  if (!match) return []
  const address = match.slice(1, 5).reduce((sum, octet) => sum * 256 + Number(octet), 0)
  const size = 2 ** (32 - Number(match[5] ?? 32))
  const first = Math.floor(address / size) * size
  return [{ first, last: first + size - 1 }]
}

/**
 * Makes the bridge with this address and brings it up; asking twice is fine. Its hardware address is fixed, because a bridge without one
 * takes that of a port and changes it when the port goes, which breaks connections for as long as neighbours cache the old one.
 */
export async function openBridge(names: LabNames, gateway: string): Promise<void> {
  if (!existsSync(`/sys/class/net/${names.bridge}`)) {
    const hardware = `02:1c:${names.id.slice(1).replace(/(..)(?=.)/g, '$1:')}:01`
    await runRequired(['ip', 'link', 'add', names.bridge, 'address', hardware, 'type', 'bridge'])
  }
  await runRequired(['ip', 'address', 'replace', `${gateway}/24`, 'dev', names.bridge])
  await runRequired(['ip', 'link', 'set', names.bridge, 'up'])
}

/**
 * Puts the host's ends of links on the bridge and brings them up, which nspawn does for `host0` only; asking twice is fine.
 * @throws LAB_PROGRAM_FAILED when one of them is not there.
 */
export async function connectLinks(bridge: string, veths: readonly string[]): Promise<void> {
  for (const veth of veths) await runRequired(['ip', 'link', 'set', veth, 'master', bridge, 'up'])
}

/** Removes the bridge and every link of the lab's nodes; links that are gone are no error. */
export async function closeNetwork(names: LabNames): Promise<void> {
  for (const link of findLinks(names)) await runProgram(['ip', 'link', 'delete', link])
}

/** Interfaces of the lab that exist on the host: links of nodes first, the bridge last. */
export function findLinks(names: LabNames): string[] {
  const links = readdirSync('/sys/class/net')
  return [...links.filter((link) => link.startsWith(vethPrefix(names)) || isLinkName(names, link)), ...links.filter((link) => link === names.bridge)]
}
