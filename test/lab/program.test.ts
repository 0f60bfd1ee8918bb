import { spawn } from 'node:child_process'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import t from 'tap'
import { eventually } from '../eventually.js'
import { cacheDirectory, findOnHost, findPids, makeDirectory, nothing, skipReason, startLab } from './lab-fixture.js'

const main = join(dirname(createRequire(import.meta.url).resolve('@lichen/lab/package.json')), 'dist', 'main.js')

interface Ended {
  readonly exitCode: number | null
  readonly stdout: string
  readonly stderr: string
}

function startProgram(directory: string, argv: readonly string[]) {
  return spawn(process.execPath, [main, ...argv], { env: { ...process.env, LICHEN_LAB_DIR: directory, LICHEN_LAB_CACHE: cacheDirectory } })
}

function runLab(directory: string, argv: readonly string[], stdin = ''): Promise<Ended> {
  const child = startProgram(directory, argv)
  let stdout = ''
  let stderr = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text))
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text))
  child.stdin.end(stdin)
  return new Promise((settle) => child.on('close', (exitCode) => settle({ exitCode, stdout, stderr })))
}

void t.test('mistakes are answered in one line, with a code', async (t) => {
  const directory = makeDirectory(t)
  t.match(await runLab(directory, ['exec', 'node-1', 'true']), { exitCode: 125, stderr: /^lab: LAB_[A-Z_]+: .*\n$/ })
  t.match(await runLab(directory, ['logs', 'node-1']), { exitCode: 1, stderr: /^lab: LAB_UNKNOWN_NODE: lab default has no node "node-1"/ })
  t.match(await runLab(directory, ['up', '--nodes', 'many']), { exitCode: 2, stderr: /whole number/ })
  t.match(await runLab(directory, ['up', '--memory', '1M']), { exitCode: 2, stderr: /64M/ })
  t.match(await runLab(directory, ['up', '--link', 'prov0', '--link', 'host0']), { exitCode: 1, stderr: /^lab: LAB_BAD_OPTION: link name "host0": .*\n$/ })
  t.match(await runLab(directory, ['ls', '--json']), { exitCode: 0, stdout: '[]\n' })
})

void t.test('up, ls, exec, logs and down from the terminal', { skip: skipReason() }, async (t) => {
  const directory = makeDirectory(t)
  startLab(t, 'cli', directory)
  const up = await runLab(directory, ['up', '--nodes', '1', '--name', 'cli', '--link', 'prov0', '--link', 'prov1', '--json'])
  t.equal(up.exitCode, 0, up.stderr)
  t.match(JSON.parse(up.stdout), { name: 'cli', nodes: [{ name: 'node-1', state: 'running', links: ['prov0', 'prov1'] }] })
  t.match(await runLab(directory, ['ls']), { stdout: /^lab cli: .*\n {2}node-1 .*running/ })
  t.match(await runLab(directory, ['exec', '--name', 'cli', 'node-1', '--', 'sh', '-c', 'cat; exit 7'], 'from the pipe'), { exitCode: 7, stdout: 'from the pipe' })
  t.match(await runLab(directory, ['--name', 'cli', 'exec', 'node-1', 'ls', '-d', '/root']), { exitCode: 0, stdout: '/root\n' }, 'options after the program are its own')
  t.match(await runLab(directory, ['logs', 'node-1', '--name', 'cli']), { stdout: /Welcome to Debian/ })
  t.match(await runLab(directory, ['up', '--name', 'cli', '--nodes', '999']), { exitCode: 1, stderr: /^lab: LAB_BAD_OPTION: nodes: 999/ })
  t.match(await runLab(directory, ['down', '--all']), { exitCode: 0, stderr: '' })
  t.same(findOnHost(directory, 'cli'), nothing)
})

void t.test('down cleans up behind a program that was killed in the middle of up', { skip: skipReason() }, async (t) => {
  const directory = makeDirectory(t)
  startLab(t, 'half', directory)
  const child = startProgram(directory, ['up', '--nodes', '2', '--name', 'half'])
  await eventually(t, 'a machine is being started', () => findPids(directory, 'half', 'systemd-nspawn').length > 0, { timeoutMs: 90_000 })
  child.kill('SIGKILL')
  t.match(await runLab(directory, ['down', '--name', 'half']), { exitCode: 0, stderr: '' })
  t.same(findOnHost(directory, 'half'), nothing)
})
