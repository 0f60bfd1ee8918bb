/** The demo cleans up after itself, however it ends; that it works is what keystone.test.ts tests, with the same parts. */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { openLab } from '@lichen/lab'
import { eventually } from '../eventually.js'
import { cacheDirectory, findOnHost, makeDirectory, nothing, skipReason } from '../lab/lab-fixture.js'
import { checkout } from './cluster-fixture.js'

t.setTimeout(600_000)

interface Demo {
  readonly child: ChildProcess
  /** What it printed so far. */
  output(): string
  readonly ended: Promise<number>
}

function startDemo(t: Test, labDirectory: string, words: readonly string[] = []): Demo {
  const child = spawn(process.execPath, ['scripts/demo.mjs', ...words], { cwd: checkout, env: { ...process.env, LICHEN_LAB_DIR: labDirectory, LICHEN_LAB_CACHE: cacheDirectory }, stdio: ['ignore', 'pipe', 'pipe'] })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text: string) => (output += text))
  const ended = once(child, 'close').then(([code]) => (code as number | null) ?? 128)
  t.teardown(async () => {
    child.kill('SIGKILL')
    await ended
    await openLab({ name: 'demo', directory: labDirectory, cacheDirectory }).down()
  })
  return { child, output: () => output, ended }
}

const isInstalling = (demo: Demo) => /keystone\/packages on control: runs/.test(demo.output())
const patience = { timeoutMs: 240_000, intervalMs: 50 }

t.test('SIGTERM in the middle of an installation removes nodes, network, processes and files', { skip: skipReason() }, async (t) => {
  const directory = makeDirectory(t)
  const demo = startDemo(t, directory)
  await eventually(t, 'the demo installs Keystone', () => isInstalling(demo), patience)
  const server = await findServer(t, demo)
  demo.child.kill('SIGTERM')
  t.equal(await demo.ended, 143)
  t.same(findOnHost(directory, 'demo'), nothing)
  t.throws(() => process.kill(server, 0), { code: 'ESRCH' }, 'the server has ended')
})

t.test('after SIGKILL the server is gone at once, and --clean removes the rest', { skip: skipReason() }, async (t) => {
  const directory = makeDirectory(t)
  const demo = startDemo(t, directory)
  await eventually(t, 'the demo installs Keystone', () => isInstalling(demo), patience)
  const server = await findServer(t, demo)
  const second = startDemo(t, directory)
  t.equal(await second.ended, 1)
  t.match(second.output(), /another demo is running/, 'a second demo is refused and leaves the first alone')
  t.ok(findOnHost(directory, 'demo').processes.length > 0)
  demo.child.kill('SIGKILL')
  await demo.ended
  await eventually(t, 'the server has ended', () => isGone(server))
  const clean = startDemo(t, directory, ['--clean'])
  t.equal(await clean.ended, 0, clean.output())
  t.same(findOnHost(directory, 'demo'), nothing)
})

t.test('without nodes it greets on a local agent and leaves no file', async (t) => {
  const findDirectories = () => readdirSync(tmpdir()).filter((name) => name.startsWith('lichen-demo-')).sort()
  const before = findDirectories()
  const demo = startDemo(t, makeDirectory(t), ['--local'])
  t.equal(await demo.ended, 0, demo.output())
  t.match(demo.output(), /^no nodes are made .*examples\/hello\.yaml/)
  t.match(demo.output(), /Nothing had to change/)
  t.same(findDirectories(), before)
})

/** Pid of the demo's server: its only child that runs that program. */
async function findServer(t: Test, demo: Demo): Promise<number> {
  const ps = spawn('pgrep', ['--parent', String(demo.child.pid), '--full', join('packages', 'server', 'dist', 'main.js')], { stdio: ['ignore', 'pipe', 'ignore'] })
  let text = ''
  ps.stdout.setEncoding('utf8').on('data', (part: string) => (text += part))
  await once(ps, 'close')
  t.match(text, /^\d+\n$/, 'the demo runs one server')
  return Number(text)
}

function isGone(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return false
  } catch {
    return true
  }
}
