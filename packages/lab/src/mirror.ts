/** The Debian archives that nodes install from: those of the host itself, read from its apt, never written down here. */
import { LichenError } from '@lichen/core'
import { runProgram } from './program.js'
import { runRequired } from './required-program.js'

/** The release that nodes run. */
export const nodeSuite = 'bookworm'

export interface Mirror {
  /** URI of the main archive, as a client of the package cache writes it. */
  readonly archive: string
  /** URI of the security archive; undefined when the host uses none. */
  readonly security: string | undefined
  readonly hasUpdates: boolean
  /** A proxy that the host's own apt is told to use. */
  readonly upstreamProxy: string | undefined
}

/** One archive of the host's apt, as `apt-get indextargets` tells it. */
export interface AptTarget {
  readonly site: string
  readonly codename: string
  readonly label: string
}

/**
 * The mirror that the host's apt is configured with. The lists are fetched when the host has none, as in container images.
 * @throws LAB_MIRROR when no Debian archive is among them, or only one that a proxy cannot reach (`file:`, `cdrom:`, `mirror:`).
 */
export async function readMirror(log: (line: string) => void): Promise<Mirror> {
  const targets = await readAptTargets(log)
  const proxy = await runProgram(['apt-config', 'dump', '--format', '%v%n', 'Acquire::http::Proxy'])
  return buildMirror(targets, proxy.stdout.trim().split('\n')[0] || undefined)
}

/** The archives of the host's apt. The lists are fetched when the host has none of Debian's. */
export async function readAptTargets(log: (line: string) => void): Promise<AptTarget[]> {
  const targets = await readTargets()
  if (targets.some(isMain)) return targets
  log("fetching the host's package lists")
  await runRequired(['apt-get', 'update', '--quiet'])
  return readTargets()
}

/**
 * The host's main Debian archive, as its apt writes it.
 * @throws LAB_MIRROR when there is none.
 */
export function findArchive(targets: readonly AptTarget[]): AptTarget {
  const main = targets.filter(isMain)
  const archive = main.find((target) => target.codename === nodeSuite) ?? main[0]
  if (archive) return archive
  throw new LichenError('LAB_MIRROR', `the host's apt sources name no Debian archive (found: ${[...new Set(targets.map((target) => target.site))].join(', ') || 'nothing'})`)
}

/** The mirror for these archives of a host. */
export function buildMirror(targets: readonly AptTarget[], upstreamProxy?: string): Mirror {
  const archive = findArchive(targets)
  const security = targets.find((target) => target.label === 'Debian-Security')
  return {
    archive: encodeForCache(archive.site),
    security: security && encodeForCache(security.site),
    hasUpdates: targets.some((target) => isMain(target) && target.codename.endsWith('-updates')),
    upstreamProxy,
  }
}

/** Lines of sources.list for a node. */
export function buildSourcesList(mirror: Mirror): string {
  const lines = [`deb ${mirror.archive} ${nodeSuite} main`]
  if (mirror.hasUpdates) lines.push(`deb ${mirror.archive} ${nodeSuite}-updates main`)
  if (mirror.security) lines.push(`deb ${mirror.security} ${nodeSuite}-security main`)
  return lines.join('\n') + '\n'
}

function isMain(target: AptTarget): boolean {
  return target.label === 'Debian'
}

/**
 * apt-cacher-ng cannot look into TLS of a client, but fetches by TLS itself when asked for `http://HTTPS///host/path` (its manual,
 * "Access to SSL repositories"): packages are signed, so nothing is lost on the way between node and cache.
 */
function encodeForCache(site: string): string {
  if (site.startsWith('http://')) return site
  if (site.startsWith('https://')) return `http://HTTPS///${site.slice('https://'.length)}`
  throw new LichenError('LAB_MIRROR', `the host's Debian archive is "${site}": nodes need one that is reached by http or https; add such a source to the host's apt`)
}

async function readTargets(): Promise<AptTarget[]> {
  const { stdout } = await runRequired(['apt-get', 'indextargets', '--format', '$(SITE)|$(CODENAME)|$(LABEL)', 'Created-By: Packages'])
  return stdout
    .split('\n')
    .filter(Boolean)
    .map((line) => line.split('|'))
    .map(([site = '', codename = '', label = '']) => ({ site, codename, label }))
}
