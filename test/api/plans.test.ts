import { readFile } from 'node:fs/promises'
import type { ActionId, NodeId } from '@lichen/core'
import t from 'tap'
import { stringify } from 'yaml'
import { admitNodes, createTask, makePlan, startTestApi } from './api-fixture.js'
import { checkProblem } from './problem.js'

t.test('a check says whether a plan is valid, in either notation, and changes nothing', async (t) => {
  const app = await startTestApi(t)
  await admitNodes(app.store, ['node-1'])
  for (const payload of [makePlan(), { plan: makePlan() }, { plan: stringify(makePlan()) }]) t.same((await app.call('POST', '/v1/plans/check', { payload })).json(), { valid: true, problems: [] })
  const yaml = await app.call('POST', '/v1/plans/check', { payload: stringify(makePlan()), headers: { 'content-type': 'application/x-yaml' } })
  t.same(yaml.json(), { valid: true, problems: [] })
  t.same(await app.store.tasks.list({ limit: 10 }), [])
})

t.test('a check of a plan with problems is answered with 200 and all of them', async (t) => {
  const app = await startTestApi(t)
  const shape = await app.call('POST', '/v1/plans/check', { payload: { ...makePlan(), metadata: {} } })
  t.equal(shape.statusCode, 200)
  t.match(shape.json(), { valid: false, problems: [{ code: 'PLAN_SHAPE', path: 'metadata.name' }] })
  const meaning = await app.call('POST', '/v1/plans/check', { payload: makePlan('x', { components: [{ name: 'a', blueprint: 'nothing', on: 'all' }, { name: 'a', blueprint: 'hello', on: 'all' }] }) })
  const { problems } = meaning.json() as { problems: { code: string }[] }
  t.same(new Set(problems.map(({ code }) => code)), new Set(['PLAN_UNKNOWN_BLUEPRINT', 'PLAN_DUPLICATE_NAME', 'PLAN_TOO_FEW_NODES']))
})

t.test('text that is no plan at all is refused with 400', async (t) => {
  const app = await startTestApi(t)
  const yaml = { 'content-type': 'application/yaml' }
  checkProblem(t, await app.call('POST', '/v1/plans/check', { payload: 'a: [1', headers: yaml }), 'PLAN_SYNTAX')
  checkProblem(t, await app.call('POST', '/v1/plans/check', { payload: '{', headers: { 'content-type': 'application/json' } }), 'PLAN_SYNTAX')
  checkProblem(t, await app.call('POST', '/v1/plans/check', { payload: { plan: makePlan(), more: 1 } }), 'REQUEST_SHAPE')
  t.match((await app.call('POST', '/v1/plans/check', { payload: 'just a text', headers: yaml })).json(), { valid: false, problems: [{ code: 'PLAN_SHAPE' }] })
  t.match((await app.call('POST', '/v1/plans/check')).json(), { valid: false })
})

t.test('a preview is the graph that the task would carry out, the same bytes each time, with secrets as references', async (t) => {
  const app = await startTestApi(t)
  await admitNodes(app.store, ['node-1', 'node-2'])
  const answer = await app.call('POST', '/v1/previews', { payload: { kind: 'apply', plan: makePlan() } })
  t.equal(answer.statusCode, 200, answer.body)
  const graph = answer.json()
  t.match(graph, { kind: 'apply', deployment: 'hello', placement: { all: ['node-1', 'node-2'] }, digest: /^[0-9a-f]{64}$/ })
  t.ok(graph.actions.every((action: { commands: unknown[] }) => action.commands.length > 0))
  t.equal((await app.call('POST', '/v1/previews', { payload: makePlan() })).body, answer.body)
  await admitNodes(app.store, ['data-1'], { role: 'data' })
  await admitNodes(app.store, ['control-1'], { role: 'control' })
  const withSecrets = await app.call('POST', '/v1/previews', { payload: await readFile('examples/keystone.yaml'), headers: { 'content-type': 'application/yaml' } })
  t.equal(withSecrets.statusCode, 200, withSecrets.body.slice(0, 500))
  t.match(withSecrets.body, /⟦secret:/)
  t.equal((await app.call('POST', '/v1/previews?kind=destroy', { payload: makePlan() })).json().kind, 'destroy')
})

t.test('a preview says what is unchanged and in which waves the rest goes, and an apply is bound to that too', async (t) => {
  const app = await startTestApi(t)
  await admitNodes(app.store, ['node-1', 'node-2', 'node-3'])
  const plan = makePlan('hello', { rollout: { waves: [{ nodes: 1, approve: true }, {}] } })
  const preview = async () => (await app.call('POST', '/v1/previews', { payload: { kind: 'apply', plan } })).json()
  const before = await preview()
  t.match(before, { counts: { unchanged: 0, verifying: 0, approvals: 1 }, gates: [{ id: 'hello/wave-1', approve: true, meaning: 'wave 1 of 2 of hello (canary: node-1)' }] })
  t.equal(before.counts.toRun, before.actions.length)
  const task = await createTask(app.store, 't-1', { plan })
  const lease = await app.store.tasks.claim(task, { name: 'engine-1', instance: 'i' }, Date.now(), 60_000)
  const applied = before.actions.map(({ id, node, key }: { id: ActionId; node: NodeId; key: string }) => ({ action: id, node, key, task, outputs: {} }))
  t.same(await app.store.tasks.append([{ task, expectedSeq: 1, epoch: lease!.epoch, events: [{ type: 'taskClaimed', engine: 'engine-1', epoch: lease!.epoch }], at: Date.now(), applied }]), ['appended'])
  const after = await preview()
  t.match(after.counts, { toRun: 0, unchanged: before.actions.length })
  t.ok(after.actions.filter(({ component }: { component: string }) => component !== 'lichen').every(({ unchanged }: { unchanged: unknown }) => unchanged !== null))
  checkProblem(t, await app.call('POST', `/v1/tasks?previewDigest=${before.digest}`, { payload: plan }), 'PREVIEW_MOVED')
  t.equal((await app.call('POST', `/v1/tasks?previewDigest=${after.digest}`, { payload: plan })).statusCode, 202)
})

t.test('a preview of a plan with problems is refused with all of them', async (t) => {
  const app = await startTestApi(t)
  checkProblem(t, await app.call('POST', '/v1/previews', { payload: makePlan() }), 'PLAN_TOO_FEW_NODES')
  checkProblem(t, await app.call('POST', '/v1/previews', { payload: { kind: 'apply', plan: { ...makePlan(), kind: 'Other' } } }), 'PLAN_SHAPE')
  checkProblem(t, await app.call('POST', '/v1/previews?kind=explode', { payload: makePlan() }), 'REQUEST_SHAPE')
})
