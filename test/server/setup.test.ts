import { execFile } from 'node:child_process'
import { appendFileSync, cpSync, existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'

const root = resolve(import.meta.dirname, '../..')
const run = promisify(execFile)

interface Ended {
  readonly code: number
  readonly output: string
}

async function runSetup(directory: string, env: NodeJS.ProcessEnv = process.env): Promise<Ended> {
  try {
    const { stderr } = await run(process.execPath, ['scripts/setup.mjs'], { cwd: directory, env })
    return { code: 0, output: stderr }
  } catch (error) {
    const { code, stderr } = error as { code: number; stderr: string }
    return { code, output: stderr }
  }
}

/** A small checkout with one package, the real setup script, the real npm and the real compiler. */
async function makeCheckout(t: Test): Promise<string> {
  const directory = t.testdir({
    packages: { one: { 'package.json': '{"name":"one","version":"1.0.0","type":"module"}', 'tsconfig.json': '{"extends":"../../tsconfig.base.json","compilerOptions":{"rootDir":"src","outDir":"dist","types":[]},"include":["src"]}', src: { 'index.ts': 'export const one: number = 1\n' } } },
    'package.json': JSON.stringify({ name: 'checkout', version: '1.0.0', type: 'module', dependencies: { typescript: `file:${join(root, 'node_modules/typescript')}` } }),
  })
  mkdirSync(join(directory, 'scripts'))
  cpSync(join(root, 'scripts/setup.mjs'), join(directory, 'scripts/setup.mjs'))
  cpSync(join(root, 'tsconfig.base.json'), join(directory, 'tsconfig.base.json'))
  await run('npm', ['install', '--package-lock-only', '--offline', '--no-audit'], { cwd: directory })
  return directory
}

t.test('a fresh checkout is installed and built; a second run has nothing to do and says nothing', async (t) => {
  const directory = await makeCheckout(t)
  const first = await runSetup(directory)
  t.match(first, { code: 0, output: /installing packages[^]*building[^]*done in \d+ s/ })
  t.ok(existsSync(join(directory, 'packages/one/dist/index.js')))
  const builtAt = statSync(join(directory, 'packages/one/dist/index.js')).mtimeMs
  t.same(await runSetup(directory), { code: 0, output: '' })
  t.equal(statSync(join(directory, 'packages/one/dist/index.js')).mtimeMs, builtAt)
})

t.test('a changed source is built again without installing', async (t) => {
  const directory = await makeCheckout(t)
  await runSetup(directory)
  appendFileSync(join(directory, 'packages/one/src/index.ts'), 'export const two: number = 2\n')
  t.match(await runSetup(directory), { code: 0, output: /^setup: building\nsetup: done/ })
  t.match(readFileSync(join(directory, 'packages/one/dist/index.js'), 'utf8'), /two/)
})

t.test('a build that fails shows its whole output and is tried again next time', async (t) => {
  const directory = await makeCheckout(t)
  await runSetup(directory)
  writeFileSync(join(directory, 'packages/one/src/index.ts'), 'export const one: number = "text"\n')
  for (let round = 0; round < 2; round++) t.match(await runSetup(directory), { code: 1, output: /TS2322[^]*setup: the build failed/ })
  writeFileSync(join(directory, 'packages/one/src/index.ts'), 'export const one: number = 3\n')
  t.match(await runSetup(directory), { code: 0 })
})

t.test('packages that npm has installed by itself are not installed again; missing ones are', async (t) => {
  const directory = await makeCheckout(t)
  await run('npm', ['ci', '--offline', '--no-audit'], { cwd: directory })
  t.notMatch((await runSetup(directory)).output, /installing/)
  rmSync(join(directory, 'node_modules'), { recursive: true })
  t.match((await runSetup(directory)).output, /installing packages/)
})

t.test('a missing compiler is said in one line with what to install', async (t) => {
  const directory = await makeCheckout(t)
  // An empty PATH: no python3, no make, no g++, and no apt-get to install them with.
  const { code, output } = await runSetup(directory, { ...process.env, PATH: join(directory, 'empty') })
  t.equal(code, 1)
  t.match(output, /^setup: python3, make, g\+\+ missing: needed to compile sqlite3\. On Debian or Ubuntu: apt-get install build-essential python3; then try again\n$/)
})
