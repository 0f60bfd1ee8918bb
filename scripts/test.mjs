// The tests, all of them: `npm test [-- files…]`. Checks first (types of the tests, lint, catalog, generated code), then tap on everything that runs
// without nodes, then simulation, chaos runs and the end-to-end runs on nspawn nodes, one after the other. The last line is `N passed, N failed`.
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join, relative, resolve } from 'node:path'

const root = resolve(import.meta.dirname, '..')
const isCi = process.env.CI === 'true'
const wanted = process.argv.slice(2)
let passed = 0
let failed = 0

function listTests(directory) {
  return readdirSync(directory).flatMap((name) => {
    const path = join(directory, name)
    if (statSync(path).isDirectory()) return listTests(path)
    return name.endsWith('.test.ts') ? [relative(root, path)] : []
  })
}

function step(title, command, args) {
  const startedAt = Date.now()
  const child = spawnSync(command, args, { cwd: root, encoding: 'utf8', maxBuffer: 1 << 28 })
  const isOk = child.status === 0
  console.log(`${isOk ? 'ok' : 'FAILED'}  ${title} (${((Date.now() - startedAt) / 1000).toFixed(1)} s)`)
  if (isOk) passed++
  else {
    failed++
    console.log((child.stdout ?? '') + (child.stderr ?? '') + (child.error ? String(child.error) : ''))
  }
}

// What failed, once more and last, where whoever reads the end of a long log finds it.
function printFailures(output) {
  const lines = existsSync(output) ? readFileSync(output, 'utf8').split('\n') : []
  lines.forEach((line, index) => {
    if (/^\s*not ok /.test(line)) console.log(lines.slice(index, index + 30).join('\n'), '\n')
  })
}

// Counts come from tap's own closing line, e.g. `# { total: 12, pass: 11, fail: 1 }`.
function tap(title, files, jobs, timeoutS) {
  if (files.length === 0) return
  const output = join(root, 'build', `${title}.tap`)
  rmSync(output, { force: true })
  console.log(`\n${title}: ${files.length} files`)
  const startedAt = Date.now()
  const child = spawnSync(join(root, 'node_modules/.bin/tap'), ['run', `--jobs=${jobs}`, `--timeout=${timeoutS}`, '--reporter=terse', `--output-file=${output}`, ...files], { cwd: root, stdio: 'inherit' })
  console.log(`${title}: took ${Math.round((Date.now() - startedAt) / 1000)} s`)
  let total = { pass: 0, fail: 0 }
  try {
    const summary = [...readFileSync(output, 'utf8').matchAll(/^# \{ total: (\d+)(?:, pass: (\d+))?(?:, fail: (\d+))?(?:, skip: (\d+))?(?:, todo: (\d+))?.*\}$/gm)].at(-1)
    // In CI nothing real may be skipped, whatever the reason.
    const skipped = Number(summary?.[4] ?? 0)
    if (isCi && skipped > 0) console.log(`${skipped} skipped, which fails in CI`)
    if (summary) total = { pass: Number(summary[2] ?? 0), fail: Number(summary[3] ?? 0) + (isCi ? skipped : 0) }
  } catch {
    // No output file: tap did not get that far; its exit code counts below.
  }
  if (child.status !== 0 && total.fail === 0) total.fail = 1
  if (child.status === 0 && total.pass === 0) total.fail = 1
  if (child.status !== 0) printFailures(output)
  passed += total.pass
  failed += total.fail
}

mkdirSync(join(root, 'build'), { recursive: true })
// tap compiles its test class from the plugins of .taprc. Done in the first run it would be too late for that run: it would still load the TypeScript plugin.
const marker = join(root, 'node_modules/.lichen-tap')
const plugins = readFileSync(join(root, '.taprc'), 'utf8')
if (!existsSync(marker) || readFileSync(marker, 'utf8') !== plugins) {
  step('tap and its plugins', join(root, 'node_modules/.bin/tap'), ['build'])
  writeFileSync(marker, plugins)
}
// What takes as long as all other nodes together: the life of a cluster (upgrade, scaling, reboots, certificates), one with an etcd outside, the life of a cloud, one on a single node, one with three controllers, one with volumes, and clusters of databases and of messages. `npm run e2e:kubernetes` and
// `npm run e2e:openstack` have them.
const isOnDemand = (file) => ['e2e/kubernetes-life', 'e2e/kubernetes-etcd', 'e2e/openstack-life', 'e2e/openstack-all-in-one', 'e2e/openstack-three', 'e2e/openstack-volumes-lvm', 'e2e/openstack-volumes-nfs', 'e2e/mariadb-galera', 'e2e/rabbitmq-nodes', 'openstack/guest-image'].some((name) => file === `test/${name}.test.ts`)
const all = listTests(join(root, 'test')).sort().filter((file) => !isOnDemand(file))
const files = wanted.length > 0 ? wanted : all
if (wanted.length === 0) {
  step('types of the tests', 'npx', ['tsc', '-b'])
  step('types of the benchmarks', 'npx', ['tsc', '--noEmit', '-p', 'bench/tsconfig.json'])
  step('types of the chaos run', 'npx', ['tsc', '--noEmit', '-p', 'chaos/tsconfig.json'])
  step('lint', 'npx', ['eslint', '.'])
  step('catalog', process.execPath, ['packages/catalog/dist/main.js', 'catalog'])
  step('generated code', process.execPath, ['scripts/generate.mjs', '--check'])
}
if (isCi || process.getuid?.() === 0) {
  for (const script of ['scripts/install-rabbitmq.mjs', 'scripts/install-postgres.mjs', 'scripts/install-python-modules.mjs']) {
    const install = spawnSync(process.execPath, [script], { cwd: root, stdio: ['ignore', 'inherit', 'inherit'] })
    if (install.status !== 0 && isCi) failed++
  }
}
const isIn = (...folders) => (file) => folders.some((folder) => file.replace(/^\.\//, '').startsWith(`test/${folder}/`))
tap('tests', files.filter((file) => !isIn('lab', 'e2e', 'chaos', 'simulation', 'kubernetes', 'openstack')(file)), 2, 240)
// Alone: it keeps every core busy by itself.
tap('simulation', files.filter(isIn('simulation')), 1, 900)
// Alone: what it kills and restarts all the time needs the machine for itself, and its patience is counted in seconds.
tap('chaos', files.filter(isIn('chaos')), 1, 900)
tap('nodes', files.filter(isIn('lab')), 1, 600)
// Alone: where the packages are not in the lab's cache, it compiles Kubernetes.
tap('kubernetes', files.filter(isIn('kubernetes')), 1, 2400)
tap('end-to-end', files.filter(isIn('e2e')).filter((file) => !isOnDemand(file)), 1, 1500)
tap('on demand', files.filter(isOnDemand), 1, 3600)
console.log(`\n${passed} passed, ${failed} failed`)
process.exit(failed === 0 ? 0 : 1)
