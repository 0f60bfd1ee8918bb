/** What this machine says of itself, read from the kernel and its files each time. */
import { readFileSync, statfsSync, existsSync } from 'node:fs'
import { arch, cpus, hostname, networkInterfaces, release, totalmem } from 'node:os'
import type { Facts } from '@lichen/core'
import { readBootId } from '../programs/process-group.js'

/** The facts. `address`: the node's own, see `findAddress`. */
export function readFacts(address: string): Facts {
  const os = readOsRelease()
  return {
    hostname: hostname(),
    address,
    addresses: listAddresses(),
    os: { id: os['ID'] ?? 'linux', version: os['VERSION_ID'] ?? '', codename: os['VERSION_CODENAME'] ?? '', prettyName: os['PRETTY_NAME'] ?? '' },
    kernel: release(),
    architecture: arch() === 'x64' ? 'amd64' : arch(),
    cpus: cpus().length || 1,
    memoryBytes: totalmem(),
    diskFreeBytes: freeBytes('/'),
    bootId: readBootId(),
    virtualization: findVirtualization(),
    cgroupVersion: existsSync('/sys/fs/cgroup/cgroup.controllers') ? 2 : 1,
    packageManager: existsSync('/usr/bin/apt-get') ? 'apt' : 'none',
    init: existsSync('/run/systemd/system') ? 'systemd' : 'other',
  }
}

/**
 * Facts that differ enough to be worth a message: free disk moves all the time and counts only in steps of 256 MiB. Two facts with the same text need
 * not be sent twice.
 */
export function factsFingerprint(facts: Facts): string {
  return JSON.stringify({ ...facts, diskFreeBytes: Math.round(facts.diskFreeBytes / (256 * 1024 * 1024)) })
}

/** Fields of /etc/os-release (os-release(5)). */
function readOsRelease(): Record<string, string> {
  const text = readText('/etc/os-release') || readText('/usr/lib/os-release')
  const fields = [...text.matchAll(/^([A-Z_]+)=(?:"([^"\n]*)"|'([^'\n]*)'|(.*))$/gm)]
  return Object.fromEntries(fields.map(([, name, double, single, bare]) => [name!, double ?? single ?? bare ?? '']))
}

function listAddresses(): Facts['addresses'] {
  const addresses: Facts['addresses'] = []
  for (const [name, entries] of Object.entries(networkInterfaces())) {
    for (const entry of entries ?? []) {
      if (!entry.internal) addresses.push({ interface: name, address: entry.address, family: entry.family === 'IPv6' ? 'ipv6' : 'ipv4' })
    }
  }
  return addresses
}

function freeBytes(path: string): number {
  const { bavail, bsize } = statfsSync(path)
  return bavail * bsize
}

/** What systemd-detect-virt would say, from the same places where they can be read without running it. */
function findVirtualization(): string {
  const container = readText('/run/systemd/container').trim() || /(?:^|\0)container=([^\0]+)/.exec(readText('/proc/1/environ'))?.[1]
  if (container) return container
  if (existsSync('/.dockerenv')) return 'docker'
  const product = `${readText('/sys/class/dmi/id/sys_vendor')} ${readText('/sys/class/dmi/id/product_name')}`
  const known: [RegExp, string][] = [[/KVM|QEMU/i, 'kvm'], [/VMware/i, 'vmware'], [/VirtualBox/i, 'oracle'], [/Xen/i, 'xen'], [/Microsoft/i, 'microsoft'], [/OpenStack/i, 'kvm'], [/Amazon EC2/i, 'amazon'], [/Google/i, 'google']]
  const match = known.find(([pattern]) => pattern.test(product))
  if (match) return match[1]
  return /^flags\s*:.*\bhypervisor\b/m.test(readText('/proc/cpuinfo')) ? 'vm-other' : 'none'
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}
