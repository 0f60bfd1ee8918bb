// Makes sure that the distribution's Python has the modules that scripts of blueprints use on nodes and tests run here.
// Exit codes: 0 there now, 1 not there and why on stderr.
import { spawnSync } from 'node:child_process'
import { installPackages, whyNotInstallable } from './debian-packages.mjs'

const python = '/usr/bin/python3'
/** By the package of the distribution. */
const modules = { 'python3-cryptography': 'cryptography', 'python3-pymysql': 'pymysql' }

const findMissing = () => Object.keys(modules).filter((name) => spawnSync(python, ['-c', `import ${modules[name]}`]).status !== 0)

function fail(message) {
  console.error(message)
  process.exit(1)
}

const missing = findMissing()
if (missing.length > 0) {
  const why = whyNotInstallable(...missing)
  if (why !== undefined) fail(`Python has no ${missing.map((name) => modules[name]).join(', ')}, and ${why}`)
  console.log(`installing ${missing.join(' ')} from the distribution`)
  const problem = installPackages(...missing)
  if (problem !== undefined || findMissing().length > 0) fail(`${missing.join(' ')} could not be installed: ${problem ?? 'Python does not find what they hold'}`)
}
