import t from 'tap'
import { stringify } from 'yaml'
import { admitNodes, makePlan, startTestApi, type TestApi } from './api-fixture.js'
import { checkProblem } from './problem.js'

const submit = (app: TestApi, payload: unknown, headers: Record<string, string> = {}) => app.call('POST', '/v1/tasks', { payload: payload as object, headers })
const countTasks = async (app: TestApi) => (await app.store.tasks.list({ limit: 100 })).length

t.test('a plan is accepted with 202, Location and a durable task', async (t) => {
  const app = await startTestApi(t)
  await admitNodes(app.store, ['node-1'])
  const answer = await submit(app, { kind: 'apply', plan: makePlan() })
  t.equal(answer.statusCode, 202, answer.body)
  const task = answer.json()
  t.match(task, { kind: 'apply', project: 'default', deployment: 'hello', state: 'accepted', outcome: null, seq: 1 })
  t.match(task.id, /^t-[0-9A-HJKMNP-TV-Z]{26}$/)
  t.equal(answer.headers.location, `/v1/tasks/${task.id}`)
  const stored = await app.store.tasks.read(task.id)
  t.same(JSON.parse(stored!.plan), makePlan())
  const [event] = await app.store.tasks.readEvents(task.id, 0)
  t.match(event!.event, { type: 'taskAccepted', kind: 'apply', by: 'admin', planDigest: /^[0-9a-f]{64}$/ })
})

t.test('a plan is taken as YAML, as JSON by itself, as text inside JSON, and by naming an earlier task', async (t) => {
  const app = await startTestApi(t)
  await admitNodes(app.store, ['node-1'])
  const yaml = stringify(makePlan())
  const asYaml = await app.call('POST', '/v1/tasks?kind=check', { payload: yaml, headers: { 'content-type': 'application/yaml' } })
  t.match(asYaml.json(), { kind: 'check', deployment: 'hello' })
  const asTextYaml = await app.call('POST', '/v1/tasks', { payload: yaml, headers: { 'content-type': 'text/yaml; charset=utf-8' } })
  t.match(asTextYaml.json(), { kind: 'apply' })
  const bare = await app.call('POST', '/v1/tasks?kind=destroy', { payload: makePlan() })
  t.match(bare.json(), { kind: 'destroy' })
  const inside = await submit(app, { kind: 'apply', plan: yaml })
  t.equal(inside.statusCode, 202, inside.body)
  const again = await submit(app, { kind: 'destroy', task: inside.json().id })
  t.match(again.json(), { kind: 'destroy', deployment: 'hello' })
  checkProblem(t, await submit(app, { kind: 'destroy', task: 't-01JD8Z3Q4V5W6X7Y8Z9A0B1C2D' }), 'REQUEST_NOT_FOUND')
})

t.test('a plan that makes no sense is refused with every problem at once', async (t) => {
  const app = await startTestApi(t)
  await admitNodes(app.store, ['node-1'])
  const plan = makePlan('bad', {
    components: [
      { name: 'one', blueprint: 'nothing@^1', on: 'all' },
      { name: 'two', blueprint: 'hello@^1', on: 'nowhere' },
      { name: 'three', blueprint: 'hello@^1', on: 'all', with: { lines: 'many' }, after: ['four'] },
    ],
  })
  const answer = await submit(app, { kind: 'apply', plan })
  const problems = JSON.parse(answer.body).problems as { code: string; path: string }[]
  t.equal(answer.statusCode, 422)
  t.same(new Set(problems.map(({ code }) => code)), new Set(['PLAN_UNKNOWN_BLUEPRINT', 'PLAN_UNKNOWN_GROUP', 'PLAN_BAD_PARAMETER', 'PLAN_UNKNOWN_COMPONENT']))
  t.ok(problems.some(({ path }) => path === 'components[2].with.lines'), JSON.stringify(problems))
  t.equal(await countTasks(app), 0)
})

t.test('unknown fields and wrong types are named with their paths', async (t) => {
  const app = await startTestApi(t)
  const problems = checkProblem(t, await submit(app, { kind: 'apply', plan: makePlan('x', { colour: 'red', components: [{ name: 'a', blueprint: 'hello', on: 7 }] }) }), 'PLAN_SHAPE')
  t.same(problems.map(({ path }) => path).sort(), ['colour', 'components[0].on'])
  t.same(checkProblem(t, await submit(app, { kind: 'apply', plan: makePlan(), colour: 'red' }), 'REQUEST_SHAPE').map(({ path }) => path), ['colour'])
  t.same(checkProblem(t, await submit(app, { kind: 'explode', plan: makePlan() }), 'REQUEST_SHAPE').map(({ path, message }) => [path, message]), [['kind', 'must be one of apply, check, destroy']])
  checkProblem(t, await submit(app, { kind: 'apply' }), 'REQUEST_SHAPE')
  checkProblem(t, await submit(app, { kind: 'apply', plan: makePlan(), task: 't-1' }), 'REQUEST_SHAPE')
  checkProblem(t, await app.call('POST', '/v1/tasks?kind=check', { payload: { kind: 'apply', plan: makePlan() } }), 'REQUEST_SHAPE')
  checkProblem(t, await submit(app, []), 'REQUEST_SHAPE')
  checkProblem(t, await app.call('POST', '/v1/tasks'), 'REQUEST_SHAPE')
  t.equal(await countTasks(app), 0)
})

t.test('malformed YAML and JSON are refused with the place of the mistake', async (t) => {
  const app = await startTestApi(t)
  const yaml = await app.call('POST', '/v1/tasks', { payload: 'apiVersion: lichen.dev/v1\nnodes: [\n', headers: { 'content-type': 'application/yaml' } })
  t.match(checkProblem(t, yaml, 'PLAN_SYNTAX')[0], { message: /line \d+, column \d+/ })
  const json = await app.call('POST', '/v1/tasks', { payload: '{"kind": "apply", "plan": {', headers: { 'content-type': 'application/json' } })
  t.match(checkProblem(t, json, 'PLAN_SYNTAX')[0], { message: /not well-formed JSON/ })
  const inside = await submit(app, { kind: 'apply', plan: 'nodes: [' })
  checkProblem(t, inside, 'PLAN_SYNTAX')
  const bomb = `a: &a [x, x]\n${Array.from({ length: 30 }, (_, i) => `b${i}: &b${i} [${i === 0 ? '*a, *a' : `*b${i - 1}, *b${i - 1}`}]`).join('\n')}\n`
  checkProblem(t, await app.call('POST', '/v1/tasks', { payload: bomb, headers: { 'content-type': 'application/yaml' } }), 'PLAN_SYNTAX')
})

t.test('a plan of 10 MB gets a clear 413 while it is still being sent', async (t) => {
  const app = await startTestApi(t)
  const origin = await app.listen()
  for (const headers of [{}, { 'transfer-encoding': 'chunked' }]) {
    const body = Object.keys(headers).length === 0 ? 'x'.repeat(10_000_000) : new ReadableStream({ start(controller) {
      for (let sent = 0; sent < 10; sent++) controller.enqueue(new TextEncoder().encode('y'.repeat(1_000_000)))
      controller.close()
    } })
    const answer = await fetch(`${origin}/v1/tasks`, { method: 'POST', headers: { ...app.headers, 'content-type': 'application/yaml' }, body, duplex: 'half' } as RequestInit)
    checkProblem(t, { statusCode: answer.status, headers: Object.fromEntries(answer.headers), body: await answer.text() }, 'PLAN_TOO_LARGE')
  }
  // Above the limit for plans, but below the one for bodies.
  const text = `# ${'z'.repeat(4_400_000)}\n${stringify(makePlan())}`
  checkProblem(t, await app.call('POST', '/v1/tasks', { payload: text, headers: { 'content-type': 'application/yaml' } }), 'PLAN_TOO_LARGE')
})

t.test('10,000 components are accepted, one more is refused', async (t) => {
  const app = await startTestApi(t)
  await admitNodes(app.store, ['node-1'])
  const components = Array.from({ length: 10_000 }, (_, index) => ({ name: `c${index}`, blueprint: 'hello@^1', on: 'all' }))
  const answer = await submit(app, { kind: 'apply', plan: makePlan('big', { components }) })
  t.equal(answer.statusCode, 202, answer.body.slice(0, 500))
  const tooMany = await submit(app, { kind: 'apply', plan: makePlan('big', { components: [...components, { name: 'last', blueprint: 'hello@^1', on: 'all' }] }) })
  checkProblem(t, tooMany, 'PLAN_TOO_LARGE')
})

t.test('without nodes the plan is refused; as soon as a node is there it is accepted', async (t) => {
  const app = await startTestApi(t, { limits: { nodesAgeMs: 3_600_000 } })
  const problems = checkProblem(t, await submit(app, { kind: 'apply', plan: makePlan() }), 'PLAN_TOO_FEW_NODES')
  t.equal(problems[0]!.path.startsWith('nodes[0]'), true)
  await admitNodes(app.store, ['node-1'])
  t.equal((await submit(app, { kind: 'apply', plan: makePlan() })).statusCode, 202)
})

t.test('the same Idempotency-Key and body answer the same task, another body is refused', async (t) => {
  const app = await startTestApi(t)
  await admitNodes(app.store, ['node-1'])
  const headers = { 'idempotency-key': 'key-1' }
  const first = await submit(app, { kind: 'apply', plan: makePlan() }, headers)
  t.equal(first.headers['idempotent-replayed'], undefined)
  const second = await submit(app, { kind: 'apply', plan: makePlan() }, headers)
  t.equal(second.statusCode, 202)
  t.equal(second.headers['idempotent-replayed'], 'true')
  t.same(second.json(), first.json())
  t.equal(second.headers.location, first.headers.location)
  const yaml = await app.call('POST', '/v1/tasks', { payload: stringify(makePlan()), headers: { ...headers, 'content-type': 'application/yaml' } })
  t.equal(yaml.json().id, first.json().id, 'the same request in another notation is the same request')
  checkProblem(t, await submit(app, { kind: 'check', plan: makePlan() }, headers), 'REQUEST_IDEMPOTENCY_CONFLICT')
  checkProblem(t, await submit(app, { kind: 'apply', plan: makePlan('other') }, headers), 'REQUEST_IDEMPOTENCY_CONFLICT')
  checkProblem(t, await submit(app, { kind: 'apply', plan: makePlan() }, { 'idempotency-key': 'x'.repeat(201) }), 'REQUEST_SHAPE')
  t.equal(await countTasks(app), 1)
})

t.test('twenty requests with one Idempotency-Key at the same time make one task', async (t) => {
  const app = await startTestApi(t)
  await admitNodes(app.store, ['node-1'])
  const origin = await app.listen()
  const answers = await Promise.all(
    Array.from({ length: 20 }, async () => {
      const answer = await fetch(`${origin}/v1/tasks`, { method: 'POST', headers: { ...app.headers, 'content-type': 'application/json', 'idempotency-key': 'all-at-once' }, body: JSON.stringify({ kind: 'apply', plan: makePlan() }) })
      return { code: answer.status, isReplayed: answer.headers.get('idempotent-replayed') === 'true', id: ((await answer.json()) as { id: string }).id }
    }),
  )
  t.same(new Set(answers.map(({ code }) => code)), new Set([202]))
  t.equal(new Set(answers.map(({ id }) => id)).size, 1)
  t.equal(answers.filter(({ isReplayed }) => !isReplayed).length, 1)
  t.equal(await countTasks(app), 1)
})

t.test('a repeated request is answered with its task although its plan would be refused by now', async (t) => {
  const app = await startTestApi(t)
  await admitNodes(app.store, ['node-1'])
  const preview = await app.call('POST', '/v1/previews', { payload: { kind: 'apply', plan: makePlan() } })
  const request = { kind: 'apply', plan: makePlan(), previewDigest: preview.json().digest }
  const first = await submit(app, request, { 'idempotency-key': 'key' })
  t.equal(first.statusCode, 202, first.body)
  await app.store.nodes.deleteNode('node-1' as never)
  const second = await submit(app, request, { 'idempotency-key': 'key' })
  t.equal(second.json().id, first.json().id)
  t.equal(second.headers['idempotent-replayed'], 'true')
  t.equal((await submit(app, request, { 'idempotency-key': 'new key'.replace(' ', '-') })).statusCode, 422)
})

t.test('a preview that has moved is refused with 409', async (t) => {
  const app = await startTestApi(t)
  await admitNodes(app.store, ['node-1'])
  const { digest } = (await app.call('POST', '/v1/previews', { payload: { kind: 'apply', plan: makePlan() } })).json()
  await admitNodes(app.store, ['node-2'])
  checkProblem(t, await submit(app, { kind: 'apply', plan: makePlan(), previewDigest: digest }), 'PREVIEW_MOVED')
  const now = (await app.call('POST', '/v1/previews', { payload: { kind: 'apply', plan: makePlan() } })).json()
  t.not(now.digest, digest)
  const accepted = await submit(app, { kind: 'apply', plan: makePlan(), previewDigest: now.digest })
  t.equal(accepted.statusCode, 202, accepted.body)
  checkProblem(t, await app.call('POST', `/v1/tasks?previewDigest=${'0'.repeat(64)}`, { payload: makePlan() }), 'PREVIEW_MOVED')
})

t.test('ids of tasks only grow, however fast they come', async (t) => {
  const app = await startTestApi(t)
  await admitNodes(app.store, ['node-1'])
  const ids: string[] = []
  for (let index = 0; index < 30; index++) ids.push((await submit(app, { kind: 'apply', plan: makePlan() })).json().id)
  t.same(ids, [...ids].sort())
  t.equal(new Set(ids).size, 30)
})
