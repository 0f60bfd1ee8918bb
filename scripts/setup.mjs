// Makes a checkout ready to run: `node scripts/setup.mjs`, called before test, demo, start, bench and package:agent. Plain Node.js without
// dependencies, because a fresh clone has none. Does only what is missing; when nothing is, it says nothing and ends at once.
//
// 1. What it knows of an earlier run stands in node_modules/.lichen-setup, so removing node_modules starts over.
// 2. `npm ci` empties node_modules first: it runs only when what is installed is not what package-lock.json asks for.
// 3. Progress is one line for each step; the whole output of a step is shown when it fails, and only then.
import { createHash } from 'node:crypto'
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs'
import { delimiter, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const markerPath = join(root, 'node_modules/.lichen-setup')
const neededNode = [20, 19]
const startedAt = Date.now()

function say(line) {
  process.stderr.write(`setup: ${line}\n`)
}

function stop(line, output = '') {
  if (output) process.stderr.write(`${output.trimEnd()}\n`)
  say(line)
  process.exit(1)
}

function readJson(path) {
  try {
    return JSON.parse(readFileSync(path, 'utf8'))
  } catch {
    return undefined
  }
}

function run(title, command, args, env = {}) {
  const child = spawnSync(command, args, { cwd: root, encoding: 'utf8', maxBuffer: 1 << 28, env: { ...process.env, ...env } })
  if (child.signal) process.exit(130)
  if (child.status !== 0) stop(`${title} failed (${child.error ? child.error.message : `exit code ${child.status}`}); its output stands above`, `${child.stdout ?? ''}${child.stderr ?? ''}`)
}

function checkNode() {
  const [major, minor] = process.versions.node.split('.').map(Number)
  if (major > neededNode[0] || (major === neededNode[0] && minor >= neededNode[1])) return
  stop(`Lichen needs Node.js ${neededNode.join('.')} or later; this is ${process.versions.node} (${process.execPath})`)
}

const isInPath = (program) => (process.env.PATH ?? '').split(delimiter).some((directory) => directory !== '' && existsSync(join(directory, program)))

// sqlite3 is compiled at installation where no binary fits: node-gyp needs a Python, make and a C++ compiler.
function installCompiler() {
  const missing = ['python3', 'make', 'g++'].filter((program) => !isInPath(program))
  if (missing.length === 0) return
  const isRoot = process.getuid !== undefined && process.getuid() === 0
  if (!isRoot || !isInPath('apt-get')) {
    stop(`${missing.join(', ')} missing: needed to compile sqlite3. On Debian or Ubuntu: apt-get install build-essential python3; then try again`)
  }
  say(`installing build-essential and python3 (${missing.join(', ')} missing)`)
  const env = { DEBIAN_FRONTEND: 'noninteractive' }
  // The lock is waited for: a machine that has just been made may be updating itself.
  const waits = ['-o', 'DPkg::Lock::Timeout=300']
  run('apt-get update', 'apt-get', [...waits, 'update'], env)
  run('apt-get install', 'apt-get', [...waits, 'install', '-y', '--no-install-recommends', 'build-essential', 'python3'], env)
}

// Every package of the lock that is no workspace link and not for another platform is installed with its version, by npm's own record of node_modules.
function isInstalled(lock) {
  const installed = readJson(join(root, 'node_modules/.package-lock.json'))
  if (!installed || !lock) return false
  return Object.entries(lock.packages).every(([path, wanted]) => {
    if (!path.includes('node_modules/')) return true
    const found = installed.packages[path]
    if (!found) return wanted.optional === true || wanted.devOptional === true || wanted.peer === true
    return found.version === wanted.version && found.link === wanted.link
  })
}

function installPackages() {
  installCompiler()
  say('installing packages (a minute or two: sqlite3 is compiled)')
  // node-gyp would download the headers of Node.js; where they are installed beside it, it need not.
  const prefix = dirname(dirname(process.execPath))
  const env = existsSync(join(prefix, 'include/node/node.h')) ? { npm_config_nodedir: prefix } : {}
  const args = ['ci', '--include=dev', '--no-audit', '--no-fund']
  const npm = process.env.npm_execpath
  if (npm && npm.endsWith('.js')) run('npm ci', process.execPath, [npm, ...args], env)
  else run('npm ci', 'npm', args, env)
}

function listPackages() {
  return readdirSync(join(root, 'packages'))
    .filter((name) => existsSync(join(root, 'packages', name, 'tsconfig.json')))
    .sort()
}

// A digest of name, size and time of every source file: cheaper than asking the compiler, which takes seconds to find out that it has nothing to do.
function digestSources(names) {
  const hash = createHash('sha256')
  const add = (path) => {
    const entry = statSync(join(root, path))
    if (entry.isDirectory()) for (const name of readdirSync(join(root, path)).sort()) add(`${path}/${name}`)
    else hash.update(`${path} ${entry.size} ${entry.mtimeMs}\n`)
  }
  add('tsconfig.base.json')
  for (const name of names) for (const part of ['package.json', 'tsconfig.json', 'src']) if (existsSync(join(root, 'packages', name, part))) add(`packages/${name}/${part}`)
  return hash.digest('hex')
}

checkNode()
const lockText = readFileSync(join(root, 'package-lock.json'), 'utf8')
const lockDigest = createHash('sha256').update(lockText).digest('hex')
const marker = readJson(markerPath) ?? {}
const isAbiSame = marker.abi === undefined || marker.abi === process.versions.modules
if (marker.lock !== lockDigest || !isAbiSame) {
  if (!isAbiSame || !isInstalled(JSON.parse(lockText))) installPackages()
  writeFileSync(markerPath, JSON.stringify({ lock: lockDigest, abi: process.versions.modules }))
}

const names = listPackages()
const sources = digestSources(names)
if (marker.sources !== sources || !names.every((name) => existsSync(join(root, 'packages', name, 'dist/index.js')))) {
  say('building')
  run('the build', process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-b', ...names.map((name) => `packages/${name}`)])
  writeFileSync(markerPath, JSON.stringify({ lock: lockDigest, abi: process.versions.modules, sources }))
  say(`done in ${((Date.now() - startedAt) / 1000).toFixed(0)} s`)
}
