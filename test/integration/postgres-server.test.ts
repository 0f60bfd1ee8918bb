import { existsSync, mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { pino } from 'pino'
import t, { type Test } from 'tap'
import { startAgent } from '@lichen/agent'
import { clockOf } from '@lichen/core'
import { startServer, type Server } from '@lichen/server'
import { eventually } from '../eventually.js'
import { startPostgres } from '../postgres.js'

const blueprint = `
apiVersion: lichen.dev/v1
kind: Blueprint
name: counted
version: 1.0.0
summary: Writes down each time it is run
parameters: {type: object, additionalProperties: false, required: [seconds], properties: {seconds: {type: integer}}}
actions:
  run:
    commands:
      - name: count
        run:
          shell: |
            echo begin {{ component.name }}
            sleep {{ params.seconds }}
            echo ran >> {{ node.workspace }}/{{ component.name }}.count
          unless: test -s {{ node.workspace }}/{{ component.name }}.count
  remove:
    commands: [{name: nothing, note: {text: nothing}}]
`

const log = pino({ level: 'silent' })

async function startFor(t: Test, directory: string, name: string, storeUrl: string, more: { masterKey?: string } = {}): Promise<Server> {
  const server = await startServer({ dataDirectory: join(directory, name), catalogDirectory: join(directory, 'catalog'), storeUrl, host: '127.0.0.1', port: 0, gatewayHost: '127.0.0.1', gatewayPort: 0, version: 'test', log, ...more })
  t.teardown(() => server.stop())
  return server
}

async function request(server: Server, method: string, path: string, body?: unknown, headers: Record<string, string> = {}): Promise<{ code: number; retryAfter: string | null; body: any }> {
  const reply = await fetch(server.apiUrl + path, { method, headers: { authorization: `Bearer ${server.adminToken}`, ...(body === undefined ? {} : { 'content-type': 'application/json' }), ...headers }, ...(body === undefined ? {} : { body: JSON.stringify(body) }) })
  return { code: reply.status, retryAfter: reply.headers.get('retry-after'), body: await reply.json() }
}

const makePlan = (name: string, seconds: number) => ({ kind: 'apply', plan: { apiVersion: 'lichen.dev/v1', kind: 'DeploymentPlan', metadata: { name }, nodes: [{ name: 'any', count: 1 }], components: [{ name, blueprint: 'counted', on: 'any', with: { seconds } }] } })

t.test('with PostgreSQL killed in the middle of a task, the API answers 503, nothing is lost or done twice, and all goes on when it is back', { timeout: 180_000 }, async (t) => {
  const postgres = await startPostgres(t)
  if (postgres === undefined) return
  const directory = t.testdir({ catalog: { counted: { 'blueprint.yaml': blueprint } } })
  const workspace = join(directory, 'node')
  mkdirSync(workspace)
  const server = await startFor(t, directory, 'data', postgres.url)
  const { token } = (await request(server, 'POST', '/v1/join-tokens', { uses: 1 })).body
  const agent = await startAgent({ gateway: `127.0.0.1:${server.gatewayPort}`, token, name: 'node-1', dataDirectory: join(directory, 'agent'), confine: workspace, clock: clockOf(globalThis), log })
  t.teardown(() => agent.stop())
  await eventually(t, 'the node is ready', async () => (await request(server, 'GET', '/v1/nodes/node-1')).body.state === 'ready', { timeoutMs: 30_000 })
  const running = (await request(server, 'POST', '/v1/tasks', makePlan('during', 4))).body.id as string
  await eventually(t, 'the task runs', async () => (await (await fetch(`${server.apiUrl}/v1/tasks/${running}/log?raw=true`, { headers: { authorization: `Bearer ${server.adminToken}` } })).text()).includes('begin during'), { timeoutMs: 30_000 })

  await postgres.stop('SIGKILL')
  for (const [method, path, body] of [['GET', `/v1/tasks/${running}`], ['GET', '/v1/tasks'], ['POST', '/v1/tasks', makePlan('refused', 0)]] as const) {
    const reply = await request(server, method, path, body, { 'idempotency-key': 'key-1' })
    t.match(reply, { code: 503, retryAfter: /^\d+$/, body: { code: 'STORE_UNAVAILABLE' } }, `${method} ${path}`)
  }
  await eventually(t, 'the node has done its work', () => existsSync(join(workspace, 'during.count')), { timeoutMs: 30_000 })
  await postgres.start()

  await eventually(t, 'the task has ended', async () => (await request(server, 'GET', `/v1/tasks/${running}`)).body.outcome === 'succeeded', { timeoutMs: 60_000 })
  const submitted = await Promise.all([1, 2, 3].map(() => request(server, 'POST', '/v1/tasks', makePlan('after', 0), { 'idempotency-key': 'key-2' })))
  t.same(new Set(submitted.map((reply) => reply.code)).size, 1, `${submitted[0]?.code}`)
  t.equal(new Set(submitted.map((reply) => reply.body.id)).size, 1, 'one task for one key')
  await eventually(t, 'the next task has ended', async () => (await request(server, 'GET', `/v1/tasks/${submitted[0]?.body.id}`)).body.outcome === 'succeeded', { timeoutMs: 60_000 })
  t.same((await request(server, 'GET', '/v1/tasks')).body.items.map((task: { deployment: string }) => task.deployment), ['after', 'during'], 'the refused one is not there')
  for (const name of ['during', 'after']) t.equal(readFileSync(join(workspace, `${name}.count`), 'utf8'), 'ran\n', `${name} was done once`)
})

t.test('a second server on one PostgreSQL needs the master key of the first, and makes none of its own', { timeout: 60_000 }, async (t) => {
  const postgres = await startPostgres(t)
  if (postgres === undefined) return
  const directory = t.testdir({ catalog: { counted: { 'blueprint.yaml': blueprint } } })
  await startFor(t, directory, 'first', postgres.url)
  await t.rejects(startFor(t, directory, 'second', postgres.url), { code: 'SERVER_MASTER_KEY', message: /set LICHEN_MASTER_KEY to the key of the first server/ })
  t.notOk(existsSync(join(directory, 'second', 'master.key')))
  await t.rejects(startFor(t, directory, 'second', postgres.url, { masterKey: '0f'.repeat(32) }), { code: 'SERVER_MASTER_KEY', message: /not the master key it was sealed with/ })
  const second = await startFor(t, directory, 'second', postgres.url, { masterKey: readFileSync(join(directory, 'first', 'master.key'), 'utf8').trim() })
  t.equal((await request(second, 'GET', '/v1/tasks')).code, 200)
})
