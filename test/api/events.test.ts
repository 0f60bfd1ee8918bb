import t from 'tap'
import { eventually } from '../eventually.js'
import { admitNodes, createTask, playEngine, startTestApi } from './api-fixture.js'
import { checkProblem } from './problem.js'
import { readLines, readSse } from './stream-client.js'

t.test('events come as JSON pages that a cursor continues', async (t) => {
  const app = await startTestApi(t)
  await admitNodes(app.store, ['node-1'])
  const engine = await playEngine(app, await createTask(app.store, 't-1'))
  await engine.run(0, 'succeeded')
  const first = await app.call('GET', '/v1/tasks/t-1/events?limit=3')
  t.match(first.json(), { items: [{ seq: 1, event: { type: 'taskAccepted' } }, { seq: 2 }, { seq: 3, event: { type: 'taskPlanned', graphDigest: engine.graph.digest } }], next: '3' })
  const rest = await app.call('GET', '/v1/tasks/t-1/events?limit=3&after=3')
  t.match(rest.json(), { items: [{ seq: 4 }, { seq: 5, event: { type: 'actionEnded', result: { commands: [{ diff: /Hello/ }] } } }], next: null })
  const ndjson = await app.call('GET', '/v1/tasks/t-1/events?after=2', { headers: { accept: 'application/x-ndjson' } })
  t.equal(ndjson.headers['content-type'], 'application/x-ndjson; charset=utf-8')
  t.same(ndjson.body.trimEnd().split('\n').map((line) => (JSON.parse(line) as { seq: number }).seq), [3, 4, 5])
  checkProblem(t, await app.call('GET', '/v1/tasks/t-9/events'), 'REQUEST_NOT_FOUND')
  checkProblem(t, await app.call('GET', '/v1/tasks/t-9/events?format=sse'), 'REQUEST_NOT_FOUND')
  checkProblem(t, await app.call('GET', '/v1/tasks/t-1/events?follow'), 'REQUEST_SHAPE')
  checkProblem(t, await app.call('GET', '/v1/tasks/t-1/events?after=-1'), 'REQUEST_SHAPE')
})

t.test('server-sent events follow a task to its end, across reconnections without loss or repeats', async (t) => {
  const app = await startTestApi(t)
  await admitNodes(app.store, ['node-1'])
  const id = await createTask(app.store, 't-1')
  const engine = await playEngine(app, id)
  const origin = await app.listen()
  const writing = (async () => {
    for (let attempt = 1; attempt <= 30; attempt++) {
      await engine.run(0, 'failed', attempt)
      if (attempt < 30) await engine.append({ type: 'actionRetryPlanned', action: engine.graph.actions[0]!.id, attempt, notBefore: 0, reason: 'again' })
    }
    for (const action of engine.graph.actions.slice(1)) await engine.append({ type: 'actionSkipped', action: action.id, reason: 'nothing to do' })
    await engine.end('failed')
  })()
  const seen: number[] = []
  let end: unknown
  for (let connection = 1; end === undefined; connection++) {
    const stop = new AbortController()
    const lastId = seen.at(-1)
    const response = await fetch(`${origin}/v1/tasks/t-1/events`, { headers: { ...app.headers, accept: 'text/event-stream', ...(lastId === undefined ? {} : { 'last-event-id': String(lastId) }) }, signal: stop.signal })
    let taken = 0
    for await (const message of readSse(response)) {
      if (message.event === 'end') end = message.data
      else seen.push((message.data as { seq: number }).seq)
      if (end === undefined && ++taken === 7 && connection < 6) break
    }
    stop.abort()
  }
  await writing
  t.same(seen, Array.from({ length: seen.length }, (_, index) => index + 1), 'every event once and in order')
  t.equal(seen.length, (await app.store.tasks.readSummary(id))!.seq)
  t.match(end, { state: 'ended', outcome: 'failed', seq: seen.length })
})

t.test('NDJSON follows too, and ends with the task', async (t) => {
  const app = await startTestApi(t)
  await admitNodes(app.store, ['node-1'])
  const engine = await playEngine(app, await createTask(app.store, 't-1'))
  const origin = await app.listen()
  const response = await fetch(`${origin}/v1/tasks/t-1/events?follow=true&after=3`, { headers: { ...app.headers, accept: 'application/x-ndjson' } })
  const types: string[] = []
  const reading = (async () => {
    for await (const line of readLines(response)) types.push((JSON.parse(line) as { event: { type: string } }).event.type)
  })()
  for (const index of engine.graph.actions.keys()) await engine.run(index, 'succeeded')
  await engine.end('succeeded')
  await reading
  t.same(types, [...engine.graph.actions.flatMap(() => ['actionSent', 'actionEnded']), 'taskEnded'])
})

t.test('a client that leaves frees its stream, and the server that stops ends all of them', async (t) => {
  const app = await startTestApi(t, { limits: { heartbeatMs: 30 } })
  await createTask(app.store, 't-1')
  const origin = await app.listen()
  const openStreams = async () => Number(/^lichen_api_open_streams (\d+)$/m.exec(await app.registry.metrics())?.[1])
  const stop = new AbortController()
  const leaving = await Promise.all(Array.from({ length: 5 }, () => fetch(`${origin}/v1/tasks/t-1/events?format=sse`, { headers: app.headers, signal: stop.signal })))
  t.same(leaving.map(({ status }) => status), [200, 200, 200, 200, 200], 'the head comes before there is anything to say')
  const staying = await fetch(`${origin}/v1/tasks/t-1/log?format=sse`, { headers: app.headers })
  t.equal(await openStreams(), 6)
  stop.abort()
  await eventually(t, 'the streams of the clients that left are closed', async () => (await openStreams()) === 1)
  const comments: string[] = []
  const reading = (async () => {
    for await (const message of readSse(staying, (text) => comments.push(text))) t.fail(`unexpected ${JSON.stringify(message)}`)
  })()
  await eventually(t, 'signs of life', () => comments.length >= 2)
  await app.api.close()
  await reading
  t.equal(await openStreams(), 0)
  t.same(new Set(comments), new Set(['alive']))
})

t.test('more streams than the limit are refused with 503 and Retry-After', async (t) => {
  const app = await startTestApi(t, { limits: { streams: 2 } })
  await createTask(app.store, 't-1')
  const origin = await app.listen()
  const open = () => fetch(`${origin}/v1/tasks/t-1/events?format=sse`, { headers: app.headers })
  t.equal((await open()).status, 200)
  t.equal((await open()).status, 200)
  const refused = await open()
  checkProblem(t, { statusCode: refused.status, headers: Object.fromEntries(refused.headers), body: await refused.text() }, 'API_BUSY')
  t.equal(refused.headers.get('retry-after'), '10')
})
