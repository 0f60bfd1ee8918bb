/**
 * Debian packages present, absent or purged, through apt-get. One command at a time on a node; dpkg's own lock is waited for.
 *
 * 1. Packages that are there in an accepted version (with `onlyMissing`: in any) are left alone: nothing is upgraded that was not asked for.
 * 2. A dpkg that was interrupted is repaired first: nothing is removed for that.
 * 3. A name is looked up before it is given to apt-get, which would take an unknown one for a pattern, or `name-` for a removal.
 */
import { existsSync, readdirSync, statSync } from 'node:fs'
import type { Clock, CommandSpec } from '@lichen/core'
import { apt, changePackages, type Failed, packageEnvironment, updateLists } from './apt.js'
import { checkConfinedKind } from './confinement.js'
import { hasHalfUnpacked, type InstalledPackage, readAvailable, readInstalled, splitName } from './package-database.js'
import { type CommandContext, type Done, failure, type Primitive } from './primitive.js'
import { installPolicy, removePolicy } from './service-policy.js'

type Spec = CommandSpec<'package'>
const listsDirectory = '/var/lib/apt/lists'
/** Lists older than this are fetched anew before something is installed. */
const listsMaxAgeMs = 24 * 3_600_000
const sourcesOfNode = 'the apt sources of this node'
const dbusDirectories = ['/usr/share/dbus-1/system.d', '/etc/dbus-1/system.d']

/** See the file header. */
export const packages: Primitive<'package'> = {
  async check(spec, context) {
    const confined = checkConfinedKind(`package ${spec.names.join(' ')}`, context.confine)
    if (confined) return { failure: confined }
    const installed = await readInstalled(spec.names.map((text) => splitName(text).name), context)
    if ('problem' in installed) return failure('COMMAND_PACKAGE_FAILED', `dpkg-query: ${installed.problem}`)
    const lines = compare(spec, installed)
    return lines.length === 0 ? { isThere: true } : { isThere: false, difference: lines.join('\n') }
  },

  // A policy that an interrupted installation left would keep services of others from starting.
  recover: () => removePolicy(),

  async do(spec, context) {
    const leave = await context.lockPackages()
    try {
      if (context.deadline.reason) return {}
      return (await repair(context)) ?? (await bringAbout(spec, context))
    } finally {
      leave()
    }
  },
}

/** Lines that say what differs: `+ name`, `- name`, `hold name`. */
function compare(spec: Spec, installed: ReadonlyMap<string, InstalledPackage>): string[] {
  return spec.names.flatMap((text) => {
    const { name, version } = splitName(text)
    const present = installed.get(name)
    if (spec.state === 'absent') return present?.isInstalled ? [`- ${name} ${present.version}`] : []
    if (spec.state === 'purged') return present?.isKnown ? [`- ${name} ${present.version}`] : []
    const lines = isSatisfied(spec, present, version) ? [] : [present?.isInstalled ? `${name} ${present.version} → ${version}` : `+ ${text}`]
    if (spec.held === true && !present?.isHeld) lines.push(`hold ${name}`)
    if (spec.held === false && present?.isHeld) lines.push(`no longer hold ${name}`)
    return lines
  })
}

const isSatisfied = (spec: Spec, present: InstalledPackage | undefined, version: string | undefined): boolean =>
  present?.isInstalled === true && (spec.onlyMissing === true || version === undefined || present.version === version)

async function bringAbout(spec: Spec, context: CommandContext): Promise<Done> {
  const installed = await readInstalled(spec.names.map((text) => splitName(text).name), context)
  if ('problem' in installed) return failure('COMMAND_PACKAGE_FAILED', `dpkg-query: ${installed.problem}`)
  const names = spec.names.map((text) => splitName(text).name)
  if (spec.state === 'absent' || spec.state === 'purged') {
    const present = names.filter((name) => installed.get(name)?.isKnown)
    return (await apt(spec.state === 'purged' ? 'purge' : 'remove', ['--allow-change-held-packages', '--', ...present], context)) ?? {}
  }
  const missing = spec.names.filter((text) => {
    const { name, version } = splitName(text)
    return !isSatisfied(spec, installed.get(name), version)
  })
  if (missing.length > 0) {
    const failed = (await findMissing(missing, context)) ?? (await preseed(spec, context)) ?? (await install(spec, missing, context))
    if (failed) return failed
  }
  if (spec.held === undefined) return {}
  return (await changePackages(['apt-mark', spec.held ? 'hold' : 'unhold', ...names], context)) ?? {}
}

/** Finishes what an interrupted dpkg left: packages unpacked and not configured, half unpacked, or without some that they depend on. */
async function repair(context: CommandContext): Promise<Failed | undefined> {
  const audit = await context.run({ argv: ['dpkg', '--audit'], env: packageEnvironment, output: 'quiet', captureBytes: 4096 })
  const hasUpdates = existsSync('/var/lib/dpkg/updates') && readdirSync('/var/lib/dpkg/updates').some((name) => /^\d+$/.test(name))
  if (audit.stdout.length === 0 && !hasUpdates) return undefined
  context.log.say('dpkg was interrupted before: dpkg --configure -a')
  const failed = await withPolicy(false, context, () => finish(context))
  // What came before the interruption may have brought policy that nobody told it of.
  if (!failed) await tellBus(context)
  return failed
}

async function finish(context: CommandContext): Promise<Failed | undefined> {
  const failed = await changePackages(['dpkg', '--force-confdef', '--force-confold', '--configure', '-a'], context)
  if (context.deadline.reason || (!failed && !(await hasHalfUnpacked(context)))) return failed
  // dpkg does not configure what it was unpacking, nor what depends on that or on what it had not come to.
  context.log.say('what it was unpacking comes again, with what others need: apt-get install --fix-broken')
  if (!areListsFresh(context)) await updateLists(sourcesOfNode, [], context)
  return await apt('install', ['--fix-broken', '--no-remove', '--no-install-recommends'], context)
}

/** Fetches the lists when they are absent, old, or without one of the names, then says which names are unknown, and of what that may come. Lists that could not be renewed will do when they have the names. */
async function findMissing(names: readonly string[], context: CommandContext): Promise<Failed | undefined> {
  const isFresh = areListsFresh(context)
  let failed = isFresh ? undefined : await updateLists(sourcesOfNode, [], context)
  let unknown = await listUnknown(names, context)
  if (unknown.length > 0 && isFresh) {
    failed = await updateLists(sourcesOfNode, [], context)
    unknown = await listUnknown(names, context)
  }
  if (unknown.length === 0 || context.deadline.reason) return undefined
  if (failed) return failure(failed.failure.code, `not in the lists that this node has: ${unknown.join(', ')}; ${failed.failure.message}`)
  return failure('COMMAND_PACKAGE_UNKNOWN', `no such package in ${sourcesOfNode}: ${unknown.join(', ')}`)
}

async function listUnknown(names: readonly string[], context: CommandContext): Promise<string[]> {
  const available = await readAvailable(names.map((text) => splitName(text).name), context)
  return names.filter((text) => {
    const { name, version } = splitName(text)
    const known = available.get(name)
    return !known || (version !== undefined && !known.versions.includes(version))
  })
}

const areListsFresh = ({ deadline }: CommandContext): boolean => listsAgeMs(deadline.clock) < listsMaxAgeMs

/** Milliseconds since the package lists were fetched; Infinity when there are none. */
function listsAgeMs(clock: Clock): number {
  try {
    const lists = readdirSync(listsDirectory).filter((name) => /_Packages(\.\w+)?$/.test(name))
    if (lists.length === 0) return Infinity
    // apt renews this directory's time at each update, also when no list has changed.
    return clock.now() - Math.max(statSync(listsDirectory).mtimeMs, statSync(`${listsDirectory}/partial`).mtimeMs)
  } catch {
    return Infinity
  }
}

async function preseed(spec: Spec, context: CommandContext): Promise<Failed | undefined> {
  if (!spec.debconf?.length) return undefined
  // Answers may be passwords: neither shown nor on a command line.
  const execution = await context.run({ argv: ['debconf-set-selections'], stdin: `${spec.debconf.join('\n')}\n`, env: packageEnvironment, output: 'quiet' })
  return execution.exitCode === 0 ? undefined : failure('COMMAND_PACKAGE_FAILED', `debconf-set-selections: ${execution.startError ?? execution.tail}`)
}

async function install(spec: Spec, names: readonly string[], context: CommandContext): Promise<Failed | undefined> {
  const options = [
    spec.recommends ? '--install-recommends' : '--no-install-recommends',
    ...(names.some((text) => text.includes('=')) ? ['--allow-downgrades'] : []),
    ...(spec.held ? ['--allow-change-held-packages'] : []),
  ]
  const before = dbusPolicyTime()
  const failed = await withPolicy(spec.startServices ?? false, context, () => apt('install', [...options, '--', ...names], context))
  if (dbusPolicyTime() !== before) await tellBus(context)
  return failed
}

/** dbus reads its policy only when told; a package that could not tell it would be refused the bus. */
async function tellBus(context: CommandContext): Promise<void> {
  if (existsSync('/run/systemd/system')) await context.run({ argv: ['systemctl', 'try-reload-or-restart', 'dbus.service'], output: 'quiet' })
}

function dbusPolicyTime(): number {
  return Math.max(...dbusDirectories.map((directory) => statSync(directory, { throwIfNoEntry: false })?.mtimeMs ?? 0))
}

async function withPolicy<T>(startsServices: boolean, context: CommandContext, change: () => Promise<T>): Promise<T> {
  if (startsServices) {
    removePolicy()
    return await change()
  }
  const units = await context.run({ argv: ['systemctl', 'list-units', '--state=active', '--plain', '--no-legend', '--no-pager'], output: 'quiet', captureBytes: 512 * 1024 })
  installPolicy(units.stdout.toString('utf8').split('\n').map((line) => line.split(' ')[0]!).filter((name) => name !== ''))
  try {
    return await change()
  } finally {
    removePolicy()
  }
}
