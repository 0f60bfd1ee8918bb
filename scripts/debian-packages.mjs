// Packages of the distribution, installed for tests by apt. None of their services is started: meanwhile a policy-rc.d (made here only if there is none) keeps them down.
import { spawnSync } from 'node:child_process'
import { existsSync, rmSync, writeFileSync } from 'node:fs'

const policy = '/usr/sbin/policy-rc.d'

/** Why these cannot be installed here, for the end of a sentence about what is missing; undefined when they can. */
export function whyNotInstallable(...names) {
  if (process.getuid?.() !== 0) return `only root can install it: apt-get install ${names.join(' ')}`
  if (spawnSync('apt-get', ['--version']).status !== 0) return 'this system has no apt-get'
  return undefined
}

/** Installs these, with package lists fetched anew when it does not go without; the last lines of what apt says when it fails, otherwise undefined. */
export function installPackages(...names) {
  const isPolicyOurs = !existsSync(policy)
  try {
    if (isPolicyOurs) writeFileSync(policy, '#!/bin/sh\nexit 101\n', { mode: 0o755 })
    const install = () => apt('install', '-y', '--no-install-recommends', ...names)
    let result = install()
    if (result.status !== 0) {
      apt('update')
      result = install()
    }
    return result.status === 0 ? undefined : (result.stderr || String(result.error ?? '')).trim().split('\n').slice(-5).join('\n')
  } finally {
    if (isPolicyOurs) rmSync(policy, { force: true })
  }
}

function apt(...args) {
  // The lock is waited for: other tests may install packages at the same time.
  return spawnSync('apt-get', ['-o', 'DPkg::Lock::Timeout=300', ...args], { encoding: 'utf8', env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }, maxBuffer: 1 << 26 })
}
