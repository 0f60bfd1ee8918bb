import { join } from 'node:path'
import sqlite3 from 'sqlite3'
import t from 'tap'
import { errorTable } from '@lichen/core'
import { eventually } from '../eventually.js'
import { admitNodes, createTask, makePlan, startTestApi, type TestApi } from './api-fixture.js'
import { checkProblem } from './problem.js'

t.test('health, readiness, metrics, index and errors need no token', async (t) => {
  const app = await startTestApi(t)
  const get = (url: string, headers = {}) => app.api.inject({ method: 'GET', url, headers })
  t.same((await get('/healthz')).json(), { alive: true, version: '0.1.0' })
  t.same((await get('/readyz')).json(), { ready: true, store: 'reachable', broker: 'connected' })
  t.match((await get('/')).body, /^Lichen 0\.1\.0\n[^]*\/docs/)
  t.match((await get('/', { accept: 'application/json' })).json(), { name: 'Lichen', documentation: '/docs', openapi: '/openapi.json' })
  const metrics = await get('/metrics')
  t.match(metrics.headers['content-type'], /^text\/plain/)
  t.match(metrics.body, /lichen_api_request_seconds_count\{method="GET",route="\/healthz",code="200"\} 1/)
  t.equal((await get('/errors')).json().items.length, Object.keys(errorTable).length)
  t.same((await get('/errors/PLAN_CYCLE')).json(), { code: 'PLAN_CYCLE', kind: 'rejected', http: 422, meaning: errorTable.PLAN_CYCLE.meaning })
  checkProblem(t, await get('/errors/NOTHING'), 'REQUEST_NOT_FOUND')
  const docs = await get('/docs')
  t.equal(docs.statusCode, 200, docs.body)
  t.match(docs.body, /swagger-ui/)
  t.equal((await get('/docs/static/swagger-ui-bundle.js')).statusCode, 200)
})

t.test('a server whose broker is away stays ready and accepts tasks; without its store it does not', async (t) => {
  const app = await startTestApi(t)
  await admitNodes(app.store, ['node-1'])
  await app.broker.close()
  const ready = await app.api.inject('/readyz')
  t.equal(ready.statusCode, 200)
  t.match(ready.json(), { ready: true, broker: 'disconnected' })
  const accepted = await app.call('POST', '/v1/tasks', { payload: { kind: 'apply', plan: makePlan() } })
  t.equal(accepted.statusCode, 202)
  t.equal((await app.store.outbox.readOutbox(10)).length, 1, 'its bell waits')
  await app.store.close()
  const unready = await app.api.inject('/readyz')
  t.equal(unready.statusCode, 503)
  t.match(unready.json(), { ready: false, store: /\w+/ })
  const refused = await app.call('POST', '/v1/tasks', { payload: { kind: 'apply', plan: makePlan() } })
  checkProblem(t, refused, 'STORE_UNAVAILABLE')
  t.match(refused.headers['retry-after'], /^\d+$/)
  t.equal((await app.api.inject('/healthz')).statusCode, 200)
})

t.test('messages that were put aside can be listed and put back', async (t) => {
  const app = await startTestApi(t)
  let isWilling = false
  const taken: string[] = []
  const stop = await app.broker.consume('tasks', 1, async (message) => {
    if (!isWilling) return { verdict: 'dead', reason: 'cannot be read' }
    taken.push(message.body)
    return { verdict: 'ack' }
  })
  t.teardown(stop)
  await app.broker.publish('tasks', [{ id: 'm-1', body: '{broken' }])
  const letter = await eventually(t, 'a dead letter', async () => (await app.call('GET', '/v1/dead-letters')).json().items[0])
  t.match(letter, { id: 'm-1', queue: 'tasks', body: '{broken', reason: 'cannot be read', diedAt: Number })
  t.same((await app.call('GET', '/v1/dead-letters/m-1')).json(), letter)
  checkProblem(t, await app.call('GET', '/v1/dead-letters/m-2'), 'REQUEST_NOT_FOUND')
  isWilling = true
  t.equal((await app.call('POST', '/v1/dead-letters/m-1/replay')).statusCode, 204)
  t.match((await eventually(t, 'a line in the audit trail', () => readAudit(app).then((lines) => (lines.length > 0 ? lines : undefined))))[0], { by: /^admin/, what: 'replay dead letter', target: 'm-1' })
  await eventually(t, 'the message is received again', () => taken.includes('{broken'))
  checkProblem(t, await app.call('GET', '/v1/dead-letters/m-1'), 'REQUEST_NOT_FOUND')
  checkProblem(t, await app.call('POST', '/v1/dead-letters/m-1/replay'), 'REQUEST_NOT_FOUND')
  await app.broker.close()
  checkProblem(t, await app.call('GET', `/v1/dead-letters/${'x'.repeat(300)}`), 'REQUEST_SHAPE')
})

t.test('a dead letter with an id of any characters can be read and put back', async (t) => {
  const app = await startTestApi(t)
  const stop = await app.broker.consume('tasks', 1, async () => ({ verdict: 'dead', reason: 'no' }))
  const id = 'a/b ü?#%2F..'
  await app.broker.publish('tasks', [{ id, body: 'x' }])
  await eventually(t, 'a dead letter', async () => (await app.call('GET', '/v1/dead-letters')).json().items[0])
  await stop()
  t.match((await app.call('GET', `/v1/dead-letters/${encodeURIComponent(id)}`)).json(), { id, body: 'x' })
  t.equal((await app.call('POST', `/v1/dead-letters/${encodeURIComponent(id)}/replay`)).statusCode, 204)
})

t.test('blueprints are listed with their versions and described with parameters, requirements and outputs', async (t) => {
  const app = await startTestApi(t)
  const { items } = (await app.call('GET', '/v1/blueprints')).json() as { items: { name: string; version: string }[] }
  t.same(items.map(({ name }) => name), [...new Set(app.catalog.list().map(({ document }) => document.name))].sort())
  const keystone = (await app.call('GET', '/v1/blueprints/keystone')).json()
  const [version] = keystone.versions
  t.match(version, { version: /^\d+\.\d+\.\d+/, digest: /^[0-9a-f]{64}$/, parameters: { type: 'object', properties: { region: {} } }, requires: { database: { interface: String, optional: Boolean } }, actions: Array })
  t.ok(Object.keys(version.provides).length > 0)
  checkProblem(t, await app.call('GET', '/v1/blueprints/nothing'), 'REQUEST_NOT_FOUND')
})

async function readAudit(app: TestApi): Promise<{ readonly by: string; readonly what: string; readonly target: string }[]> {
  const database = new sqlite3.Database(join(app.directory, 'lichen.db'), sqlite3.OPEN_READONLY)
  try {
    return await new Promise((resolve, reject) => database.all('SELECT by, what, target, detail FROM audit ORDER BY rowid', (error, rows) => (error ? reject(error) : resolve(rows as never))))
  } finally {
    database.close()
  }
}

t.test('every request that changes something leaves a line in the audit trail, and refused ones none', async (t) => {
  const app = await startTestApi(t)
  await admitNodes(app.store, ['node-1'])
  await createTask(app.store, 't-1')
  const { id } = (await app.call('POST', '/v1/tasks', { payload: { kind: 'apply', plan: makePlan() } })).json()
  await app.call('POST', '/v1/tasks', { payload: { kind: 'apply' } })
  await app.call('POST', '/v1/tasks/t-1/cancel', { payload: { reason: 'no' } })
  await app.call('PATCH', '/v1/nodes/node-1', { payload: { cordoned: true } })
  const token = (await app.call('POST', '/v1/join-tokens')).json()
  await app.call('DELETE', `/v1/join-tokens/${token.id}`)
  await app.call('DELETE', '/v1/nodes/node-1')
  await app.call('DELETE', '/v1/nodes/node-1')
  const lines = await eventually(t, 'six lines', async () => {
    const audit = await readAudit(app)
    return audit.length === 6 ? audit : undefined
  })
  t.same(new Set(lines.map(({ what, target }) => `${what} ${target}`)), new Set([`submit apply ${id}`, 'cancel task t-1', 'change node node-1', `make join token ${token.id}`, `delete join token ${token.id}`, 'delete node node-1']))
  t.ok(lines.every(({ by }) => /^admin \(admin-[0-9a-f]{12}\)$/.test(by)))
  t.notMatch(JSON.stringify(lines), token.token.split('.')[2])
})
