// What docker-compose.yml starts: api and engine as two processes over one data directory and a real RabbitMQ.
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import t, { type Test } from 'tap'
import { startConfinedAgent, startLichen, writeCatalog, writePlan } from '../cli/system.js'
import { eventually } from '../eventually.js'
import { startRabbit } from '../rabbitmq.js'

const main = resolve(import.meta.dirname, '../../packages/server/dist/main.js')

interface Role {
  readonly child: ChildProcess
  stdout(): string
  stderr(): string
}

function startRole(t: Test, directory: string, env: Readonly<Record<string, string>>): Role {
  const child = spawn(process.execPath, [main], { cwd: directory, env: { PATH: process.env['PATH'], LICHEN_PORT: '0', LICHEN_GATEWAY_HOST: '127.0.0.1', LICHEN_CATALOG: 'catalog', LICHEN_LOG_LEVEL: 'warn', ...env }, stdio: ['ignore', 'pipe', 'pipe'] })
  t.teardown(() => child.kill('SIGKILL'))
  const text = { stdout: '', stderr: '' }
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => (text.stdout += chunk))
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => (text.stderr += chunk))
  return { child, stdout: () => text.stdout, stderr: () => text.stderr }
}

t.test('api and engine apart carry a task to its end, and a killed engine’s task goes on with the next one', async (t) => {
  const rabbit = await startRabbit(t)
  if (!rabbit) return
  const directory = t.testdir({ node: {} })
  mkdirSync(join(directory, 'node'), { recursive: true })
  writeCatalog(join(directory, 'catalog'))
  const broker = { LICHEN_BROKER_URL: rabbit.url }
  const api = startRole(t, directory, { ...broker, LICHEN_ROLES: 'api', LICHEN_GATEWAY_ADVERTISE: '127.0.0.1:1' })
  const { apiUrl } = await eventually(t, 'the api is up', () => JSON.parse(readFileSync(join(directory, '.lichen/server.json'), 'utf8')) as { apiUrl: string }, { timeoutMs: 20_000 })
  const engine = startRole(t, directory, { ...broker, LICHEN_ROLES: 'engine,gateway', LICHEN_GATEWAY_PORT: '0' })
  const gatewayPort = await eventually(t, 'the engine is up', () => Number(/gateway 127\.0\.0\.1:(\d+)/.exec(engine.stdout())?.[1]), { timeoutMs: 20_000 })
  const adminToken = readFileSync(join(directory, '.lichen/admin.token'), 'utf8').trim()
  await startConfinedAgent(t, { apiUrl, gatewayPort, adminToken }, join(directory, 'node'))

  const plan = writePlan(directory, { waits: { blueprint: 'script', with: { script: 'echo began >> runs; until test -e go; do sleep 0.05; done' } } }, 'apart')
  const following = startLichen(t, directory, ['apply', plan, '--logs'])
  await eventually(t, 'the script runs on the node', () => existsSync(join(directory, 'node/runs')), { timeoutMs: 20_000 })
  engine.child.kill('SIGKILL')
  await once(engine.child, 'close')
  writeFileSync(join(directory, 'node/go'), '')
  const next = startRole(t, directory, { ...broker, LICHEN_ROLES: 'engine,gateway', LICHEN_GATEWAY_PORT: String(gatewayPort) })

  const { code, stdout, stderr } = await following.ended
  t.equal(code, 0, `${stdout}${stderr}${api.stderr()}${next.stderr()}`)
  t.equal(readFileSync(join(directory, 'node/runs'), 'utf8'), 'began\n', 'run once')
  for (const role of [next, api]) {
    role.child.kill('SIGTERM')
    t.same(await once(role.child, 'close'), [0, null])
  }
})
