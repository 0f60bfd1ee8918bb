import { mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { pino } from 'pino'
import t from 'tap'
import { startAgent } from '@lichen/agent'
import { clockOf } from '@lichen/core'
import { startServer } from '@lichen/server'
import { eventually } from '../eventually.js'
import { startRabbit } from '../rabbitmq.js'

/** How long RabbitMQ stays away. */
const outageMs = 60_000

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

t.test('with RabbitMQ gone for a minute, submitting is accepted, running tasks end, and everything is done once', { timeout: 180_000 }, async (t) => {
  const rabbit = await startRabbit(t)
  if (rabbit === undefined) return
  const directory = t.testdir({ catalog: { counted: { 'blueprint.yaml': blueprint } } })
  const workspace = join(directory, 'node')
  mkdirSync(workspace)
  const log = pino({ level: 'silent' })
  const server = await startServer({ dataDirectory: join(directory, 'data'), catalogDirectory: join(directory, 'catalog'), brokerUrl: rabbit.url, host: '127.0.0.1', port: 0, gatewayHost: '127.0.0.1', gatewayPort: 0, version: 'test', log })
  t.teardown(() => server.stop())
  const request = async (method: string, path: string, body?: unknown): Promise<{ code: number; body: any }> => {
    const reply = await fetch(server.apiUrl + path, { method, headers: { authorization: `Bearer ${server.adminToken}`, ...(body === undefined ? {} : { 'content-type': 'application/json' }) }, ...(body === undefined ? {} : { body: JSON.stringify(body) }) })
    return { code: reply.status, body: await reply.json() }
  }
  const { token } = (await request('POST', '/v1/join-tokens', { uses: 1 })).body
  const agent = await startAgent({ gateway: `127.0.0.1:${server.gatewayPort}`, token, name: 'node-1', dataDirectory: join(directory, 'agent'), confine: workspace, clock: clockOf(globalThis), log })
  t.teardown(() => agent.stop())
  await eventually(t, 'the node is ready', async () => (await request('GET', '/v1/nodes/node-1')).body.state === 'ready')
  const submit = async (name: string, seconds: number): Promise<string> => {
    const reply = await request('POST', '/v1/tasks', { kind: 'apply', plan: { apiVersion: 'lichen.dev/v1', kind: 'DeploymentPlan', metadata: { name }, nodes: [{ name: 'any', count: 1 }], components: [{ name, blueprint: 'counted', on: 'any', with: { seconds } }] } })
    t.equal(reply.code, 202, `${name} is accepted`)
    return reply.body.id
  }
  const outcomeOf = async (id: string) => (await request('GET', `/v1/tasks/${id}`)).body.outcome

  const running = await submit('during', 5)
  await eventually(t, 'the first task runs', async () => (await (await fetch(`${server.apiUrl}/v1/tasks/${running}/log?raw=true`, { headers: { authorization: `Bearer ${server.adminToken}` } })).text()).includes('begin during'))
  await rabbit.stop('SIGKILL')
  const goneAt = Date.now()
  const submitted = await submit('submitted-while-gone', 0)
  t.equal((await fetch(`${server.apiUrl}/readyz`)).status, 200, 'the server is ready without its broker')
  await eventually(t, 'the running task ends while RabbitMQ is away', async () => (await outcomeOf(running)) === 'succeeded', { timeoutMs: 30_000 })
  await eventually(t, 'a minute has passed', () => Date.now() - goneAt >= outageMs, { timeoutMs: outageMs + 5000, intervalMs: 500 })
  await rabbit.start()
  await eventually(t, 'the task submitted meanwhile ends', async () => (await outcomeOf(submitted)) === 'succeeded', { timeoutMs: 30_000 })
  const after = await submit('after', 0)
  await eventually(t, 'a task submitted afterwards ends', async () => (await outcomeOf(after)) === 'succeeded', { timeoutMs: 30_000 })
  for (const name of ['during', 'submitted-while-gone', 'after']) t.equal(readFileSync(join(workspace, `${name}.count`), 'utf8'), 'ran\n', `${name} ran once`)
})
