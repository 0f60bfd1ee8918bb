// Builds build/lichen-agent_VERSION_ARCH.deb: the agent with a Node.js runtime of its own, depending on nothing that a minimal Debian image lacks.
// Nothing is built when nothing that goes in has changed. Leaves the package's tree in build/agent-root, where it runs too. Prints the path of the package as
// its last line.
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { chmodSync, copyFileSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, realpathSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { bundleAgent, packageRoot } from './bundle.mjs'

const maxBytes = 35 * 1024 * 1024
// Libraries of packages that every Debian system has (libc6, libgcc-s1, libstdc++6).
const allowedLibraries = /^(linux-vdso|ld-linux|libc|libm|libdl|libpthread|librt|libstdc\+\+|libgcc_s)[.-]/
// A fixed time for every file: the same inputs give the same package.
const epoch = '1767225600'

const root = dirname(dirname(packageRoot))
const { version } = JSON.parse(readFileSync(join(packageRoot, 'package.json'), 'utf8'))
const architecture = { x64: 'amd64', arm64: 'arm64' }[process.arch] ?? process.arch
const output = join(root, 'build', `lichen-agent_${version}_${architecture}.deb`)
const finalTree = join(root, 'build', 'agent-root')
mkdirSync(dirname(output), { recursive: true })
const work = mkdtempSync(join(dirname(output), 'agent-root-'))

try {
  await main()
} finally {
  rmSync(work, { recursive: true, force: true })
}

async function main() {
  requireProgram('dpkg-deb', 'dpkg')
  execFileSync(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-b', packageRoot], { cwd: root, stdio: ['ignore', 2, 2] })
  const tree = join(work, 'tree')
  const library = join(tree, 'usr/lib/lichen-agent')
  mkdirSync(library, { recursive: true })
  const packages = await bundleAgent({ entry: join(packageRoot, 'dist/main.js'), directory: library, root })
  const inputs = hashInputs(library)
  const stamp = `${output}.inputs`
  if ([output, stamp, finalTree].every((path) => existsSync(path)) && readFileSync(stamp, 'utf8') === inputs) {
    console.error('nothing changed since the package was built')
    console.log(output)
    return
  }
  rmSync(stamp, { force: true })
  addRuntime(library)
  addFiles(tree)
  addCopyright(tree, packages)
  addControl(tree)
  checkBundle(library)
  buildPackage(tree)
  rmSync(finalTree, { recursive: true, force: true })
  renameSync(tree, finalTree)
  writeFileSync(stamp, inputs)
  console.log(output)
}

function hashInputs(library) {
  const hash = createHash('sha256')
  for (const directory of [library, import.meta.dirname]) {
    for (const name of readdirSync(directory).sort()) {
      const path = join(directory, name)
      if (statSync(path).isFile()) hash.update(`${name}\0`).update(readFileSync(path)).update('\0')
    }
  }
  return hash.update(readFileSync(process.execPath)).digest('hex')
}

// The runtime: the Node.js that runs this script, without its symbols where binutils are there.
function addRuntime(library) {
  const node = realpathSync(process.execPath)
  const foreign = execFileSync('ldd', [node], { encoding: 'utf8' }).split('\n').map((line) => line.trim().split(' ')[0].split('/').at(-1)).filter((name) => name !== '' && !allowedLibraries.test(name))
  if (foreign.length > 0) fail(`the Node.js at ${node} needs ${foreign.join(', ')}: package the agent with a build from nodejs.org, which needs no libraries of a distribution`)
  const target = join(library, 'node')
  copyFileSync(node, target)
  chmodSync(target, 0o755)
  if (hasProgram('strip')) execFileSync('strip', ['--strip-unneeded', target])
  const printed = execFileSync(target, ['--version'], { encoding: 'utf8' }).trim()
  if (printed !== process.version) fail(`the copied runtime says ${printed}, not ${process.version}`)
}

function addFiles(tree) {
  const here = (name) => readFileSync(join(import.meta.dirname, name))
  put(tree, 'usr/bin/lichen-agent', here('lichen-agent.sh'), 0o755)
  put(tree, 'usr/lib/systemd/system/lichen-agent.service', here('lichen-agent.service'))
  put(tree, 'usr/share/lichen-agent/agent.yaml', here('agent.yaml'))
  put(tree, 'usr/share/lichen-agent/cloud-init.yaml', here('cloud-init.yaml'))
  put(tree, 'usr/share/man/man8/lichen-agent.8.gz', gzipSync(here('lichen-agent.8'), { level: 9 }))
}

function addCopyright(tree, packages) {
  const texts = packages.map(({ name, version, license, text }) => `${'-'.repeat(78)}\n${name} ${version} (${license})\n\n${text.trim()}\n`)
  const own = `lichen-agent is part of Lichen, licensed under the Apache License, Version 2.0:\n\n${readFileSync('/usr/share/common-licenses/Apache-2.0', 'utf8')}`
  const node = `${'='.repeat(78)}\nNode.js ${process.version}, at /usr/lib/lichen-agent/node\n\n${readNodeLicense()}`
  put(tree, 'usr/share/doc/lichen-agent/copyright', Buffer.from(`${own}\n${node}\n${'='.repeat(78)}\nPackages from npm in /usr/lib/lichen-agent/*.mjs\n\n${texts.join('\n')}`))
}

function readNodeLicense() {
  const prefix = dirname(dirname(realpathSync(process.execPath)))
  const found = [join(prefix, 'LICENSE'), join(prefix, 'share/doc/nodejs/LICENSE'), join(prefix, 'share/doc/node/LICENSE'), join(prefix, 'share/doc/nodejs/copyright')].find((path) => existsSync(path))
  if (!found) fail(`the licence of Node.js is not beside its program (${prefix}/LICENSE): it must go into the package`)
  return readFileSync(found, 'utf8')
}

function addControl(tree) {
  const control = readFileSync(join(import.meta.dirname, 'control'), 'utf8')
  const installedKiB = Math.ceil(Number(execFileSync('du', ['--summarize', '--bytes', tree], { encoding: 'utf8' }).split('\t')[0]) / 1024)
  const filled = control.replace('@VERSION@', version).replace('@ARCHITECTURE@', architecture).replace('@INSTALLED_SIZE@', String(installedKiB))
  put(tree, 'DEBIAN/control', Buffer.from(filled))
  for (const script of ['postinst', 'prerm', 'postrm']) put(tree, `DEBIAN/${script}`, readFileSync(join(import.meta.dirname, script)), 0o755)
}

// The bundle, run by the runtime that goes with it, as it will be on a node.
function checkBundle(library) {
  const run = (...args) => execFileSync(join(library, 'node'), [join(library, 'main.mjs'), ...args], { encoding: 'utf8' })
  if (run('version').trim() !== version) fail(`the bundled agent says ${run('version').trim()}, not ${version}`)
  if (!run('certificate-request', 'check').includes('PRIVATE KEY')) fail('the bundled agent cannot make a certificate request')
}

function buildPackage(tree) {
  // A name of its own: two builds at a time must not meet.
  const temporary = join(work, 'package.deb')
  execFileSync('dpkg-deb', ['--root-owner-group', '-Zxz', '-z9', '--build', tree, temporary], { stdio: ['ignore', 2, 2], env: { ...process.env, SOURCE_DATE_EPOCH: epoch } })
  const { size } = statSync(temporary)
  if (size > maxBytes) fail(`the package has ${size} bytes, more than ${maxBytes}`)
  renameSync(temporary, output)
  console.error(`${output}: ${(size / 1024 / 1024).toFixed(1)} MiB`)
}

function put(tree, path, content, mode = 0o644) {
  const target = join(tree, path)
  mkdirSync(dirname(target), { recursive: true })
  writeFileSync(target, content)
  chmodSync(target, mode)
}

function hasProgram(name) {
  return (process.env.PATH ?? '').split(':').some((directory) => existsSync(join(directory, name)))
}

function requireProgram(name, debianPackage) {
  if (!hasProgram(name)) fail(`${name} is missing (Debian package ${debianPackage})`)
}

function fail(message) {
  throw new Error(message)
}
