import { connect } from 'node:net'
import t from 'tap'
import { taskId } from '@lichen/core'
import { digestOfToken, makeApiToken } from '@lichen/api'
import { createTask, startTestApi } from './api-fixture.js'
import { checkProblem } from './problem.js'

t.test('a request without a good token is refused with 401 and a challenge', async (t) => {
  let now = 1_000_000
  const app = await startTestApi(t, { now: () => now })
  const get = (authorization?: string) => app.api.inject({ method: 'GET', url: '/v1/tasks', headers: authorization === undefined ? {} : { authorization } })
  for (const authorization of [undefined, 'Bearer wrong', `Basic ${app.token}`, 'Bearer', `Bearer ${app.token}x`, 'Bearer ü']) {
    const answer = await get(authorization)
    checkProblem(t, answer, 'REQUEST_UNAUTHENTICATED')
    t.match(answer.headers['www-authenticate'], /^Bearer realm="lichen"/)
    t.notMatch(answer.body, app.token)
  }
  t.equal((await get(`Bearer ${app.token}`)).statusCode, 200)
  t.equal((await get(`bearer   ${app.token}`)).statusCode, 200)
  const short = makeApiToken()
  await app.store.secrets.putApiToken({ id: short.id, digest: short.digest, name: 'short', createdAt: now, expiresAt: now + 1_000 })
  t.equal((await get(`Bearer ${short.token}`)).statusCode, 200)
  now += 1_000
  const expired = await get(`Bearer ${short.token}`)
  checkProblem(t, expired, 'REQUEST_UNAUTHENTICATED')
  t.match(expired.json().detail, /expired on 1970-01-01/)
})

t.test('tokens are long, random and kept as digests', async (t) => {
  const [one, two] = [makeApiToken(), makeApiToken()]
  t.match(one.token, /^lichen_[A-Za-z0-9_-]{43}$/)
  t.not(one.token, two.token)
  t.equal(digestOfToken(one.token), one.digest)
  t.notMatch(one.id, one.token)
})

t.test('paths, methods, parameters and bodies that are not known are refused in words', async (t) => {
  const app = await startTestApi(t)
  await createTask(app.store, 't-1')
  for (const [method, url] of [['GET', '/nothing'], ['GET', '/v1/nothing'], ['PUT', '/v1/tasks'], ['DELETE', '/v1/tasks/t-1'], ['GET', '/v1/tasks/t-1/nothing']] as const) checkProblem(t, await app.call(method, url), 'REQUEST_NOT_FOUND')
  for (const url of ['/v1/tasks?colour=red', '/v1/tasks/t-1?follow', '/v1/nodes/node-1?x=1', '/v1/blueprints/hello?version=1', '/v1/tasks/t-1/plan?pretty']) {
    const [problem] = checkProblem(t, await app.call('GET', url), 'REQUEST_SHAPE')
    t.match(problem, { path: /^query\.\w+$/, message: /there is no query parameter "\w+"/ })
  }
  t.match(checkProblem(t, await app.call('GET', '/v1/tasks?limit=0&after=%20&project=UPPER'), 'REQUEST_SHAPE').map(({ path }) => path).sort(), ['query.after', 'query.limit', 'query.project'])
  for (const id of ['t', 'x-1', 't-%2e%2e', `t-${'x'.repeat(100)}`, "t-1'%20OR%201=1"]) checkProblem(t, await app.call('GET', `/v1/tasks/${id}`), 'REQUEST_SHAPE')
  checkProblem(t, await app.call('GET', '/v1/tasks/%zz'), 'REQUEST_SHAPE')
})

t.test('bodies of other content types, broken JSON and too large ones are refused', async (t) => {
  const app = await startTestApi(t)
  await createTask(app.store, 't-1')
  const post = (payload: string, type: string, url = '/v1/tasks') => app.call('POST', url, { payload, headers: { 'content-type': type } })
  checkProblem(t, await post('<plan/>', 'application/xml'), 'REQUEST_MEDIA_TYPE')
  checkProblem(t, await post('a=1', 'application/x-www-form-urlencoded'), 'REQUEST_MEDIA_TYPE')
  checkProblem(t, await post('ttlS: 1', 'application/yaml', '/v1/join-tokens'), 'REQUEST_MEDIA_TYPE')
  checkProblem(t, await post('{"ttlS": ', 'application/json', '/v1/join-tokens'), 'REQUEST_SHAPE')
  checkProblem(t, await post('{"__proto__": {"x": 1}}', 'application/json', '/v1/join-tokens'), 'REQUEST_SHAPE')
  checkProblem(t, await post(JSON.stringify({ reason: 'x'.repeat(100_000) }), 'application/json', '/v1/tasks/t-1/cancel'), 'PLAN_TOO_LARGE')
  t.equal((await post('', 'application/json', '/v1/join-tokens')).statusCode, 201, 'an empty body is no body')
})

t.test('a request that is not even HTTP is refused and the server goes on', async (t) => {
  const app = await startTestApi(t)
  const origin = new URL(await app.listen())
  const answer = await new Promise<string>((resolve) => {
    let text = ''
    const socket = connect(Number(origin.port), origin.hostname, () => socket.write('GARBAGE\r\n\r\n'))
    socket.on('data', (data) => (text += data.toString()))
    socket.on('close', () => resolve(text))
  })
  t.match(answer, /^HTTP\/1\.1 400 /)
  t.equal((await fetch(`${origin.origin}/healthz`)).status, 200)
})

t.test('a defect is answered with 500 and nothing of its inside, which the log has', async (t) => {
  const app = await startTestApi(t)
  const id = await createTask(app.store, 't-1')
  // An event that cannot come after the first one: the fold of this task throws.
  await app.store.tasks.append([{ task: taskId(id), expectedSeq: 1, epoch: null, events: [{ type: 'retryRequested', by: 'secret-operator' }], at: 1 }])
  const answer = await app.call('GET', '/v1/tasks/t-1')
  t.same(checkProblem(t, answer, 'INTERNAL'), [])
  t.notMatch(answer.body, /retryRequested|secret-operator|at .*\.js/)
  const [entry] = app.log.filter(({ level }) => level === 'error')
  t.match(entry, { message: /defect/, fields: { url: '/v1/tasks/t-1', err: { code: 'TASK_ILLEGAL_EVENT' } } })
  t.equal((await app.call('GET', '/v1/tasks')).statusCode, 200)
})
