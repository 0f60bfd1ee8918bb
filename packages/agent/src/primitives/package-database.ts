/** What dpkg and apt know of packages, read through their own query programs. */
import type { CommandContext } from './primitive.js'

/** A package in dpkg's database. */
export interface InstalledPackage {
  readonly name: string
  readonly version: string
  /** Installed whole; false for removed ones whose configuration is left, and for half-installed ones. */
  readonly isInstalled: boolean
  /** dpkg keeps nothing of it, not even configuration. */
  readonly isKnown: boolean
  readonly isHeld: boolean
}

/** What apt could install. */
export interface AvailablePackage {
  readonly candidate: string | undefined
  readonly versions: readonly string[]
}

const queryFormat = '${Package}\t${Version}\t${db:Status-Want}\t${db:Status-Status}\t${Provides}\n'
const captureBytes = 8 * 1024 * 1024

/** A name as commands give it, with or without `=version`. */
export function splitName(text: string): { readonly name: string; readonly version: string | undefined } {
  const at = text.indexOf('=')
  return at < 0 ? { name: text, version: undefined } : { name: text.slice(0, at), version: text.slice(at + 1) }
}

/** The packages of these names in dpkg's database, by name. A name that only installed packages provide (a virtual one) counts as installed, with no version. */
export async function readInstalled(names: readonly string[], context: CommandContext): Promise<Map<string, InstalledPackage> | { readonly problem: string }> {
  const execution = await context.run({ argv: ['dpkg-query', '--show', `--showformat=${queryFormat}`, '--', ...names], output: 'quiet', captureBytes })
  // 1: some name is not known, which is an answer too.
  if (execution.exitCode !== 0 && execution.exitCode !== 1) return { problem: execution.startError ?? execution.tail }
  const found = parseInstalled(execution.stdout.toString('utf8'))
  // dpkg also lists names that it knows from other packages' fields alone.
  const missing = names.filter((name) => !found.get(name)?.isKnown)
  if (missing.length === 0) return found
  const all = await context.run({ argv: ['dpkg-query', '--show', `--showformat=${queryFormat}`], output: 'quiet', captureBytes })
  for (const [name, provider] of parseProvided(all.stdout.toString('utf8'))) if (missing.includes(name)) found.set(name, { ...provider, name, version: '' })
  return found
}

/** The packages in dpkg-query's output. Of one name in several architectures the installed one counts. */
export function parseInstalled(text: string): Map<string, InstalledPackage> {
  const found = new Map<string, InstalledPackage>()
  for (const line of text.split('\n')) {
    const [name, version, want, status] = line.split('\t')
    if (!name || status === undefined) continue
    const entry = { name, version: version ?? '', isInstalled: status === 'installed', isKnown: status !== 'not-installed', isHeld: want === 'hold' }
    if (!found.get(name)?.isInstalled) found.set(name, entry)
  }
  return found
}

function parseProvided(text: string): Map<string, InstalledPackage> {
  const provided = new Map<string, InstalledPackage>()
  for (const line of text.split('\n')) {
    const [, , want, status, provides] = line.split('\t')
    if (!provides || status !== 'installed') continue
    for (const part of provides.split(',')) {
      const name = part.trim().split(' ')[0]!
      provided.set(name, { name, version: '', isInstalled: true, isKnown: true, isHeld: want === 'hold' })
    }
  }
  return provided
}

/** Whether dpkg was interrupted while it unpacked a package: that one is to be installed again. */
export async function hasHalfUnpacked(context: CommandContext): Promise<boolean> {
  const flags = await context.run({ argv: ['dpkg-query', '--show', '--showformat=${db:Status-Eflag}\n'], output: 'quiet', captureBytes })
  return /^reinstreq$/m.test(flags.stdout.toString('utf8'))
}

/** What apt's lists offer for these names. A name that is missing in the answer is unknown. */
export async function readAvailable(names: readonly string[], context: CommandContext): Promise<Map<string, AvailablePackage>> {
  const execution = await context.run({ argv: ['apt-cache', 'policy', ...names], output: 'quiet', captureBytes })
  return parsePolicy(execution.stdout.toString('utf8'))
}

/** The packages in the output of `apt-cache policy`. */
export function parsePolicy(text: string): Map<string, AvailablePackage> {
  const found = new Map<string, AvailablePackage>()
  for (const block of text.split(/^(?=\S)/m)) {
    const name = /^(\S+?)(?::[a-z0-9-]+)?:\n/.exec(block)?.[1]
    if (name === undefined) continue
    const candidate = /^ {2}Candidate: (.+)$/m.exec(block)?.[1]
    const table = block.slice(block.indexOf('Version table:'))
    const versions = [...table.matchAll(/^ (?:\*\*\*| {3}) (\S+)(?: -?\d+)?$/gm)].map((match) => match[1]!)
    found.set(name, { candidate: candidate === '(none)' ? undefined : candidate, versions })
  }
  return found
}
