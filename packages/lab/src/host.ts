/** What the lab needs of the host, and getting it: root, Debian, a few packages, disk space. */
import { accessSync, constants, existsSync, mkdirSync, readFileSync, statfsSync, unlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { LichenError } from '@lichen/core'
import { programEnvironment, runProgram } from './program.js'

/** Each program the lab runs, and the Debian package it comes in. */
const tools: Readonly<Record<string, string>> = {
  'systemd-nspawn': 'systemd-container',
  debootstrap: 'debootstrap',
  'apt-cacher-ng': 'apt-cacher-ng',
  ip: 'iproute2',
  nsenter: 'util-linux',
  setpriv: 'util-linux',
  flock: 'util-linux',
  tar: 'tar',
}

const policyPath = '/usr/sbin/policy-rc.d'

/**
 * Sees to it that the host can run nodes, and installs what is missing with apt.
 * @throws LAB_NOT_ROOT, LAB_NOT_DEBIAN, LAB_TOOLS_MISSING.
 */
export async function prepareHost(log: (line: string) => void): Promise<void> {
  requireRoot()
  await requireTools(tools, log)
}

/**
 * Sees to it that the host has these programs (name → Debian package, which may be several), and installs the packages of those it lacks: that alone needs root.
 * No service is started.
 * @throws LAB_NOT_ROOT, LAB_NOT_DEBIAN, LAB_TOOLS_MISSING.
 */
export async function requireTools(wanted: Readonly<Record<string, string>>, log: (line: string) => void): Promise<void> {
  const missing = [...new Set(Object.keys(wanted).filter((tool) => !hasTool(tool)).flatMap((tool) => wanted[tool]?.split(' ') ?? tool))]
  if (missing.length === 0) return
  if (!isDebian() || !hasTool('apt-get')) {
    throw new LichenError('LAB_NOT_DEBIAN', `the lab needs the programs of the Debian packages ${missing.join(', ')}, and this host has no apt to install them with`)
  }
  if (process.getuid?.() !== 0) throw new LichenError('LAB_NOT_ROOT', `installing ${missing.join(', ')} needs root: run it with sudo, or install them first`)
  log(`installing ${missing.join(', ')}`)
  await installPackages(missing)
  const stillMissing = Object.keys(wanted).filter((tool) => !hasTool(tool))
  if (stillMissing.length > 0) throw new LichenError('LAB_TOOLS_MISSING', `${stillMissing.join(', ')}: still missing after installing ${missing.join(', ')}`)
}

/** @throws LAB_NOT_ROOT when the program does not run as root. */
export function requireRoot(): void {
  if (process.platform !== 'linux') throw new LichenError('LAB_NOT_DEBIAN', `nodes are systemd-nspawn machines and need Linux; this is ${process.platform}`)
  if (process.getuid?.() !== 0) throw new LichenError('LAB_NOT_ROOT', 'making, reaching and removing nodes needs root: run it with sudo')
}

/**
 * @throws LAB_NO_SPACE when the file system of `directory` has less than `sizeBytes` free.
 */
export function requireSpace(directory: string, sizeBytes: number, purpose: string): void {
  mkdirSync(directory, { recursive: true })
  const { bavail, bsize } = statfsSync(directory)
  const free = bavail * bsize
  if (free >= sizeBytes) return
  const megabytes = (bytes: number): string => `${Math.floor(bytes / 1e6)} MB`
  throw new LichenError('LAB_NO_SPACE', `${purpose} needs ${megabytes(sizeBytes)} in ${directory}, and ${megabytes(free)} are free`)
}

/** Another program of the host may be installing something; a package takes less. */
const lockPatienceS = 300

/** Installs Debian packages without starting their services; a policy that forbids starts is put there only for that time. */
async function installPackages(packages: readonly string[]): Promise<void> {
  const isOurPolicy = !existsSync(policyPath)
  if (isOurPolicy) writeFileSync(policyPath, '#!/bin/sh\nexit 101\n', { mode: 0o755 })
  const env = { DEBIAN_FRONTEND: 'noninteractive' }
  const apt = (...args: string[]): ReturnType<typeof runProgram> => runProgram(['apt-get', '-o', `DPkg::Lock::Timeout=${lockPatienceS}`, ...args], { env })
  const install = (): ReturnType<typeof runProgram> => apt('install', '--yes', '--quiet', '--no-install-recommends', ...packages)
  try {
    let result = await install()
    if (result.exitCode !== 0) {
      await apt('update', '--quiet')
      result = await install()
    }
    if (result.exitCode !== 0) {
      throw new LichenError('LAB_TOOLS_MISSING', `apt-get install ${packages.join(' ')}: ${result.stderr.trim().split('\n').slice(-3).join(' | ')}`)
    }
    // the lab runs apt-cacher-ng itself; the service would be started with the host's next boot
    if (packages.includes('apt-cacher-ng')) await runProgram(['systemctl', 'disable', 'apt-cacher-ng.service'])
  } finally {
    if (isOurPolicy) unlinkSync(policyPath)
  }
}

function hasTool(tool: string): boolean {
  return programEnvironment.PATH.split(':').some((directory) => {
    try {
      accessSync(join(directory, tool), constants.X_OK)
      return true
    } catch {
      return false
    }
  })
}

function isDebian(): boolean {
  try {
    return /^ID(_LIKE)?=.*debian/m.test(readFileSync('/etc/os-release', 'utf8'))
  } catch {
    return false
  }
}
