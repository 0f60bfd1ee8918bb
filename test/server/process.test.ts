import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { join, resolve } from 'node:path'
import t, { type Test } from 'tap'
import { runLichen, startConfinedAgent, startLichen, writeCatalog, writePlan } from '../cli/system.js'
import { eventually } from '../eventually.js'

const main = resolve(import.meta.dirname, '../../packages/server/dist/main.js')

interface ServerProcess {
  readonly child: ChildProcess
  readonly exited: Promise<{ readonly code: number | null; readonly signal: string | null }>
  stdout(): string
  stderr(): string
}

/** The server program on free ports, with its data in `directory/.lichen`. */
function spawnServer(t: Test, directory: string, env: Readonly<Record<string, string>> = {}): ServerProcess {
  const inherited = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('LICHEN_')))
  const settings = { LICHEN_PORT: '0', LICHEN_GATEWAY_HOST: '127.0.0.1', LICHEN_GATEWAY_PORT: '0', LICHEN_CATALOG: 'catalog', LICHEN_LOG_LEVEL: 'warn', ...env }
  const child = spawn(process.execPath, [main], { cwd: directory, env: { ...inherited, ...settings }, stdio: ['ignore', 'pipe', 'pipe'] })
  t.teardown(() => child.kill('SIGKILL'))
  const text = { stdout: '', stderr: '' }
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => (text.stdout += chunk))
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => (text.stderr += chunk))
  return { child, exited: once(child, 'close').then(([code, signal]) => ({ code: code as number | null, signal: signal as string | null })), stdout: () => text.stdout, stderr: () => text.stderr }
}

interface Note {
  readonly pid: number
  readonly apiUrl: string
  readonly gatewayAddress: string
}

/** What the server says of itself once it is up. */
function readNote(t: Test, directory: string, server: ServerProcess): Promise<Note> {
  return eventually(t, 'the server is up', () => {
    if (server.child.exitCode !== null) throw new Error(server.stderr())
    const note = JSON.parse(readFileSync(join(directory, '.lichen/server.json'), 'utf8')) as Note
    return note.pid === server.child.pid && server.stdout() !== '' && note
  }, { timeoutMs: 20_000 })
}

function makeDirectory(t: Test): string {
  const directory = t.testdir({})
  writeCatalog(join(directory, 'catalog'))
  return directory
}

t.test('the first start makes keys and a token for the owner alone, and prints where it is and three commands', async (t) => {
  const directory = makeDirectory(t)
  const server = spawnServer(t, directory)
  const { apiUrl } = await readNote(t, directory, server)
  for (const file of ['admin.token', 'master.key']) t.equal(statSync(join(directory, '.lichen', file)).mode & 0o777, 0o600, file)
  t.match(server.stdout(), apiUrl)
  t.equal(server.stdout().match(/^ {2}node .*lichen\.js (agent|apply|logs) /gm)?.length, 3)
  t.notMatch(server.stdout(), readFileSync(join(directory, '.lichen/admin.token'), 'utf8').trim(), 'the token itself is not printed')
  t.match(await runLichen(t, directory, 'tasks'), { code: 0, stdout: 'no tasks\n' }, 'the CLI finds server and token by itself')

  await t.test('SIGTERM stops it cleanly', async (t) => {
    server.child.kill('SIGTERM')
    t.same(await server.exited, { code: 0, signal: null })
    t.notOk(existsSync(join(directory, '.lichen/server.json')))
    t.notMatch(server.stderr(), /"level":(50|60)/)
  })
  await t.test('the next start has the same token and the same certificate authority', async (t) => {
    const token = readFileSync(join(directory, '.lichen/admin.token'), 'utf8')
    const again = spawnServer(t, directory)
    await readNote(t, directory, again)
    t.equal(readFileSync(join(directory, '.lichen/admin.token'), 'utf8'), token)
    t.match(await runLichen(t, directory, 'tasks'), { code: 0 })
    again.child.kill('SIGINT')
    t.match(await again.exited, { code: 0 })
  })
})

t.test('a second server on the same data directory is refused in one line', async (t) => {
  const directory = makeDirectory(t)
  const first = spawnServer(t, directory)
  const { apiUrl } = await readNote(t, directory, first)
  const second = spawnServer(t, directory)
  t.match(await second.exited, { code: 2 })
  t.equal(second.stderr(), `lichen: another server (process ${first.child.pid}, ${apiUrl}) is running on ${join(directory, '.lichen')}; stop it, or set LICHEN_DATA_DIRECTORY (SERVER_LOCKED)\n`)
  t.match(await runLichen(t, directory, 'tasks'), { code: 0 }, 'the first one goes on')
})

t.test('a port that is taken is said in one line, for the API and for the gateway', async (t) => {
  const taken = createServer().listen(0, '127.0.0.1')
  await once(taken, 'listening')
  t.teardown(() => taken.close())
  const port = String((taken.address() as AddressInfo).port)
  for (const name of ['LICHEN_PORT', 'LICHEN_GATEWAY_PORT']) {
    const server = spawnServer(t, makeDirectory(t), { [name]: port })
    t.match(await server.exited, { code: 2 })
    t.equal(server.stderr(), `lichen: cannot listen on 127.0.0.1:${port}: something else listens there; choose another with ${name} (SERVER_PORT_TAKEN)\n`)
  }
})

t.test('malformed settings are all reported at once, and nothing is made', async (t) => {
  const directory = makeDirectory(t)
  const server = spawnServer(t, directory, { LICHEN_PORT: 'high', LICHEN_ROLES: 'all' })
  t.match(await server.exited, { code: 2 })
  t.match(server.stderr(), /^lichen: .*SERVER_CONFIGURATION\)\n {2}LICHEN_ROLES: [^\n]*\n {2}LICHEN_PORT: [^\n]*\n$/)
  t.notOk(existsSync(join(directory, '.lichen')))
})

t.test('lichen server is the same program, and passes signals on', async (t) => {
  const directory = makeDirectory(t)
  const server = startLichen(t, directory, ['server'], { LICHEN_PORT: '0', LICHEN_GATEWAY_HOST: '127.0.0.1', LICHEN_GATEWAY_PORT: '0', LICHEN_CATALOG: 'catalog', LICHEN_LOG_LEVEL: 'warn' })
  await eventually(t, 'the server is up', () => server.stdout().includes('is running'), { timeoutMs: 20_000 })
  t.match(await runLichen(t, directory, 'tasks'), { code: 0 })
  server.child.kill('SIGTERM')
  t.match(await server.ended, { code: 0, stderr: '' })
})

t.test('after kill -9 in the middle of a task the next start goes on with it, and a follower sees the end', async (t) => {
  const directory = makeDirectory(t)
  mkdirSync(join(directory, 'node'))
  const first = spawnServer(t, directory)
  const { apiUrl, gatewayAddress } = await readNote(t, directory, first)
  const ports = { LICHEN_PORT: new URL(apiUrl).port, LICHEN_GATEWAY_PORT: gatewayAddress.split(':')[1]! }
  const adminToken = readFileSync(join(directory, '.lichen/admin.token'), 'utf8').trim()
  await startConfinedAgent(t, { apiUrl, gatewayPort: Number(ports.LICHEN_GATEWAY_PORT), adminToken }, join(directory, 'node'))
  const script = 'echo started >> runs; until test -e go; do sleep 0.05; done'
  const plan = writePlan(directory, { one: { blueprint: 'script', with: { script } }, two: { blueprint: 'text-file', with: { text: 'after' } } }, 'killed')
  const following = startLichen(t, directory, ['apply', plan])
  await eventually(t, 'the script runs on the node', () => existsSync(join(directory, 'node/runs')) && following.stdout().includes('one/run on node-1: runs'))

  first.child.kill('SIGKILL')
  await first.exited
  writeFileSync(join(directory, 'node/go'), '')
  const second = spawnServer(t, directory, ports)
  await readNote(t, directory, second)

  const { code, stdout, stderr } = await following.ended
  t.equal(code, 0, `${stdout}${stderr}`)
  t.match(stdout, /apply killed succeeded: 2 changed, 2 unchanged, 0 failed/)
  t.equal(readFileSync(join(directory, 'node/runs'), 'utf8'), 'started\n', 'the script was not run a second time')
  t.equal(readFileSync(join(directory, 'node/two.txt'), 'utf8'), 'after\n')
})
