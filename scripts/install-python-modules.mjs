// Makes sure that the distribution's Python has the modules that scripts of blueprints use on nodes and tests run here.
// Exit codes: 0 there now, 1 not there and why on stderr.
import { spawnSync } from 'node:child_process'

const python = '/usr/bin/python3'
/** By the package of the distribution. */
const modules = { 'python3-cryptography': 'cryptography' }

const apt = (...args) => spawnSync('apt-get', ['-o', 'DPkg::Lock::Timeout=300', ...args], { encoding: 'utf8', env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }, maxBuffer: 1 << 26 })
const install = (packages) => apt('install', '-y', '--no-install-recommends', ...packages)
const findMissing = () => Object.keys(modules).filter((name) => spawnSync(python, ['-c', `import ${modules[name]}`]).status !== 0)

function fail(message) {
  console.error(message)
  process.exit(1)
}

const missing = findMissing()
if (missing.length > 0) {
  if (process.getuid?.() !== 0) fail(`Python has no ${missing.map((name) => modules[name]).join(', ')}, and only root can install it: apt-get install ${missing.join(' ')}`)
  console.log(`installing ${missing.join(' ')} from the distribution`)
  let result = install(missing)
  if (result.status !== 0) {
    apt('update')
    result = install(missing)
  }
  if (result.status !== 0 || findMissing().length > 0) fail((result.stderr || String(result.error ?? '')).trim().split('\n').slice(-5).join('\n'))
}
