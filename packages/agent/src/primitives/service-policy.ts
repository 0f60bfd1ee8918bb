/**
 * Keeps packages from starting their services while they are installed, by the file that Debian has for it: /usr/sbin/policy-rc.d (invoke-rc.d(8)).
 *
 * 1. Our file stands there only during one package command; one that was there before waits beside it and comes back.
 * 2. After a crash the command that was interrupted, or the next package command, sees our mark in the file and removes it.
 * 3. Units that were active before may be stopped, started and reloaded: an upgrade must not leave them down. dbus and polkit may always start: a
 *    denied start of theirs breaks others at once (libvirt, nova-compute).
 */
import { chmodSync, existsSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'

/** Where the files stand; others in tests. */
export interface PolicyPlace {
  readonly path: string
  readonly saved: string
}

export const policyPlace: PolicyPlace = { path: '/usr/sbin/policy-rc.d', saved: '/usr/sbin/policy-rc.d.before-lichen' }
const mark = '# Written by lichen-agent for the time of one package command.'

/** Puts the policy in place. `activeUnits`: names of units that may be acted upon. */
export function installPolicy(activeUnits: readonly string[], place: PolicyPlace = policyPlace): void {
  removePolicy(place)
  if (existsSync(place.path)) renameSync(place.path, place.saved)
  writeFileSync(place.path, buildPolicy(activeUnits))
  chmodSync(place.path, 0o755)
}

/** Removes our policy, if it is there, and brings back the one from before. */
export function removePolicy(place: PolicyPlace = policyPlace): void {
  if (existsSync(place.path)) {
    if (!readFileSync(place.path, 'latin1').includes(mark)) return
    rmSync(place.path, { force: true })
  }
  if (existsSync(place.saved)) renameSync(place.saved, place.path)
}

/** The script. It gets `[--quiet] NAME ACTION`; 101 means: not allowed. */
export function buildPolicy(activeUnits: readonly string[]): string {
  const allowed = activeUnits.filter((unit) => /^[A-Za-z0-9@._:-]+$/.test(unit)).flatMap((unit) => [unit, unit.replace(/\.service$/, '')])
  const patterns = ['dbus', "'dbus.'*", 'polkit', "'polkit.'*", "'systemd-'*", ...new Set(allowed.map((name) => `'${name}'`))]
  return `#!/bin/sh\n${mark}\n[ "$1" = --quiet ] && shift\ncase "$1" in\n  ${patterns.join('|')}) exit 0 ;;\nesac\nexit 101\n`
}
