import { join } from 'node:path'
import sqlite3 from 'sqlite3'
import t from 'tap'
import { openSealer } from '@lichen/engine'
import { admitNodes, createTask, masterKey, playEngine, startTestApi, type TestApi } from './api-fixture.js'
import { checkProblem } from './problem.js'

const password = 'a-password-that-nobody-may-log-12'
const plan = {
  apiVersion: 'lichen.dev/v1', kind: 'DeploymentPlan', metadata: { name: 'cloud' }, nodes: [{ name: 'one', count: 1 }],
  components: [{ name: 'db', blueprint: 'mariadb', on: 'one' }, { name: 'identity', blueprint: 'keystone', on: 'one', with: { publicHost: 'id.example.org' }, uses: { database: 'db' } }],
}

/** A deployment of Keystone whose apply succeeded, with its password sealed in the store. */
async function deploy(app: TestApi, key: Uint8Array = masterKey): Promise<void> {
  await admitNodes(app.store, ['node-1'])
  const engine = await playEngine(app, await createTask(app.store, 't-1', { deployment: 'cloud', plan }))
  for (const index of engine.graph.actions.keys()) await engine.run(index, 'succeeded')
  await engine.end('succeeded')
  const at = { scope: 'deployment/default/cloud', name: 'identity.adminPassword' }
  await app.store.secrets.putSecret({ ...at, sealed: openSealer(key).seal(Buffer.from(password), `${at.scope}\n${at.name}`) })
}

const readAudit = (app: TestApi): Promise<unknown> => {
  const database = new sqlite3.Database(join(app.directory, 'lichen.db'), sqlite3.OPEN_READONLY)
  return new Promise((resolve, reject) => database.all('SELECT by, what, target, detail FROM audit ORDER BY rowid', (error, rows) => (error ? reject(error) : resolve(rows)))).finally(() => database.close())
}

t.test('outputs are listed with plain values, page by page, and a secret one is told to who asks for it by name', async (t) => {
  const app = await startTestApi(t)
  await deploy(app)
  const list = await app.call('GET', '/v1/deployments/default/cloud/outputs')
  const { items } = list.json() as { items: { component: string; name: string; value: unknown }[] }
  t.same(items.map(({ component, name, value }) => [component, name, value]), [
    ['db', 'endpoint', '10.0.0.1:3306'], ['identity', 'adminPassword', null], ['identity', 'adminProject', 'admin'], ['identity', 'adminUser', 'admin'], ['identity', 'endpoint', 'http://id.example.org:5000/v3'], ['identity', 'region', 'RegionOne'],
  ])
  t.match(items[1], { type: 'string', description: /OS_PASSWORD/, isSecret: true, isReady: true, task: 't-1', reason: '' })
  t.equal(list.headers['cache-control'], 'no-store')
  const second = await app.call('GET', '/v1/deployments/default/cloud/outputs?limit=2&after=identity/adminPassword')
  t.match(second.json(), { items: [{ name: 'adminProject' }, { name: 'adminUser' }], next: 'identity/adminUser' })
  t.same(await readAudit(app), [], 'a list tells nothing that is a secret')

  const one = await app.call('GET', '/v1/deployments/default/cloud/outputs/identity/adminPassword')
  t.same([one.statusCode, one.json().value, one.headers['cache-control']], [200, password, 'no-store'])
  t.match(await readAudit(app), [{ by: /^admin \(admin-[0-9a-f]{12}\)$/, what: 'read output', target: 'default/cloud/identity/adminPassword', detail: /given in t-1/ }])
  t.notMatch(JSON.stringify([app.log, await readAudit(app), list.body, (await app.call('GET', '/v1/tasks/t-1/graph')).body]), password)
})

t.test('what cannot be answered says why, and leaves no line in the audit trail', async (t) => {
  const app = await startTestApi(t)
  await admitNodes(app.store, ['node-1'])
  const url = '/v1/deployments/default/cloud/outputs'
  checkProblem(t, await app.call('GET', url), 'DEPLOYMENT_UNKNOWN')
  checkProblem(t, await app.call('GET', `${url}/identity/endpoint`), 'DEPLOYMENT_UNKNOWN')
  checkProblem(t, await app.call('GET', `${url}/identity/not-a-name`), 'REQUEST_SHAPE')
  t.equal((await app.api.inject({ method: 'GET', url: `${url}/identity/endpoint` })).statusCode, 401)

  const task = await createTask(app.store, 't-1', { deployment: 'cloud', plan })
  checkProblem(t, await app.call('GET', url), 'OUTPUT_NOT_READY')
  const engine = await playEngine(app, task)
  const waiting = await app.call('GET', `${url}/identity/endpoint`)
  checkProblem(t, waiting, 'OUTPUT_NOT_READY')
  t.match(waiting.json(), { status: 409, detail: /output "endpoint" of "identity" in deployment "cloud" is not there yet: identity\/bootstrap@node-1 has not ended in t-1/ })
  t.match((await app.call('GET', url)).json(), { items: [{ name: 'endpoint', isReady: false, value: null, task: null, reason: /has not ended in t-1/ }] })
  for (const index of engine.graph.actions.keys()) await engine.run(index, 'succeeded')
  t.equal((await app.call('GET', `${url}/identity/endpoint`)).statusCode, 200, 'as soon as it is complete, before the task ends')
  const missing = await app.call('GET', `${url}/identity/adminPassword`)
  checkProblem(t, missing, 'OUTPUT_NOT_READY')
  t.match(missing.json(), { detail: /the secret "identity.adminPassword" was not given/ })
  const unknown = await app.call('GET', `${url}/db/nothing`)
  checkProblem(t, unknown, 'OUTPUT_UNKNOWN')
  t.match(unknown.json(), { status: 404, detail: /has no output db\/nothing; it has db\/endpoint, identity\/adminPassword/ })
  t.match(await readAudit(app), { length: 1 })
})

t.test('a secret that was sealed with another key is refused by name, and the others are told', async (t) => {
  const app = await startTestApi(t)
  await deploy(app, Buffer.alloc(32, 8))
  checkProblem(t, await app.call('GET', '/v1/deployments/default/cloud/outputs/identity/adminPassword'), 'SERVER_MASTER_KEY')
  t.equal((await app.call('GET', '/v1/deployments/default/cloud/outputs')).json().items.length, 6)
  t.equal((await app.call('GET', '/v1/deployments/default/cloud/outputs/identity/adminUser')).json().value, 'admin')
})
