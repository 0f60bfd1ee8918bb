import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import t from 'tap'
import { eventually } from '../eventually.js'
import { createTask, openLogWriter, startTestApi, type TestApi } from './api-fixture.js'
import { checkProblem } from './problem.js'
import { readLines, readSse } from './stream-client.js'

interface LogRecord {
  readonly offset: number
  readonly node: string
  readonly text: string
}

const records = (body: string) => body.trimEnd().split('\n').filter((line) => line !== '').map((line) => JSON.parse(line) as LogRecord)
const endTask = async (app: TestApi, id: string) => {
  const { seq } = (await app.store.tasks.readSummary(id as never))!
  const summary = { state: 'ended', outcome: 'succeeded', reason: 'done', counts: {} } as const
  await app.store.tasks.append([{ task: id as never, expectedSeq: seq, epoch: null, events: [{ type: 'taskEnded', outcome: 'succeeded', reason: 'done' }], at: Date.now(), summary }])
}

t.test('text names node and action before each line, raw text does not, and both say where to go on', async (t) => {
  const app = await startTestApi(t)
  const id = await createTask(app.store, 't-1')
  const one = openLogWriter(app.store, id, 'node-1')
  const two = openLogWriter(app.store, id, 'node-2', 'keystone/install@node-2')
  await one('first\nsecond\n')
  await two('Größe ✓\n\nlast\n')
  const text = await app.call('GET', '/v1/tasks/t-1/log')
  t.equal(text.headers['content-type'], 'text/plain; charset=utf-8')
  t.equal(text.body, 'node-1 hello/greet | first\nnode-1 hello/greet | second\nnode-2 keystone/install | Größe ✓\nnode-2 keystone/install | \nnode-2 keystone/install | last\n')
  const raw = await app.call('GET', '/v1/tasks/t-1/log?raw')
  t.equal(raw.body, 'first\nsecond\nGröße ✓\n\nlast\n')
  t.equal(Number(raw.headers['lichen-next-offset']), Buffer.byteLength(raw.body))
  await one('third\n')
  t.equal((await app.call('GET', `/v1/tasks/t-1/log?raw=1&offset=${raw.headers['lichen-next-offset']}`)).body, 'third\n')
  t.equal((await app.call('GET', '/v1/tasks/t-1/log?raw=true&offset=6')).body, 'second\nGröße ✓\n\nlast\nthird\n')
  t.equal((await app.call('GET', '/v1/tasks/t-1/log?offset=100000')).body, '')
})

t.test('NDJSON has a record for each line, and the offset of each leads to the next one', async (t) => {
  const app = await startTestApi(t)
  const id = await createTask(app.store, 't-1')
  const write = openLogWriter(app.store, id)
  const lines = ['plain', '', 'quote " and \\ and \t', 'Ünïcödé ✓ 🪨', 'last']
  await write(`${lines.join('\n')}\n`)
  const answer = await app.call('GET', '/v1/tasks/t-1/log', { headers: { accept: 'application/x-ndjson' } })
  const all = records(answer.body)
  t.same(all.map(({ text }) => text), lines)
  t.match(all[0], { at: 1_785_000_000_000, node: 'node-1', action: 'hello/greet@node-1', attempt: 1, command: 0, stream: 'stdout' })
  for (const [index, record] of all.entries()) {
    const rest = await app.call('GET', `/v1/tasks/t-1/log?format=ndjson&offset=${record.offset}`)
    t.same(records(rest.body).map(({ text }) => text), lines.slice(index + 1))
  }
})

t.test('filters by node and action let through what they should, with the same offsets', async (t) => {
  const app = await startTestApi(t)
  const id = await createTask(app.store, 't-1')
  const one = openLogWriter(app.store, id, 'node-1')
  const two = openLogWriter(app.store, id, 'node-2')
  for (let index = 0; index < 20; index++) await (index % 2 === 0 ? one : two)(`line ${index}\n`)
  const all = records((await app.call('GET', '/v1/tasks/t-1/log?format=ndjson')).body)
  t.equal(all.length, 20)
  t.same(records((await app.call('GET', '/v1/tasks/t-1/log?format=ndjson&node=node-2')).body), all.filter(({ node }) => node === 'node-2'))
  const ofAction = await app.call('GET', `/v1/tasks/t-1/log?raw&action=${encodeURIComponent('hello/greet@node-1')}&offset=${all[9]!.offset}`)
  t.equal(ofAction.body, 'line 10\nline 12\nline 14\nline 16\nline 18\n')
  t.equal((await app.call('GET', '/v1/tasks/t-1/log?node=node-3')).body, '')
})

t.test('tail gives the last lines, with and without a filter', async (t) => {
  const app = await startTestApi(t)
  const id = await createTask(app.store, 't-1')
  const one = openLogWriter(app.store, id, 'node-1')
  const two = openLogWriter(app.store, id, 'node-2')
  await two('rare 1\nrare 2\n')
  for (let index = 0; index < 100; index++) await one(`${Array.from({ length: 50 }, (_, line) => `line ${index * 50 + line} ${'x'.repeat(40)}`).join('\n')}\n`)
  await two('rare 3\n')
  const read = async (query: string) => (await app.call('GET', `/v1/tasks/t-1/log?raw&${query}`)).body.split('\n').slice(0, -1).map((line) => line.split(' x')[0])
  t.same(await read('tail=3'), ['line 4998', 'line 4999', 'rare 3'])
  t.same(await read('tail=0'), [])
  t.same(await read('tail=2&node=node-2'), ['rare 2', 'rare 3'])
  t.same(await read('tail=99&node=node-2'), ['rare 1', 'rare 2', 'rare 3'])
  t.equal((await read('tail=4000')).length, 4000)
  t.equal((await read('tail=100000')).length, 5003)
  checkProblem(t, await app.call('GET', '/v1/tasks/t-1/log?tail=3&offset=0'), 'REQUEST_SHAPE')
  checkProblem(t, await app.call('GET', '/v1/tasks/t-1/log?tail=-3'), 'REQUEST_SHAPE')
})

t.test('a log larger than many pages comes whole', async (t) => {
  const app = await startTestApi(t, { limits: { logPageBytes: 64 * 1024 } })
  const id = await createTask(app.store, 't-1')
  const write = openLogWriter(app.store, id)
  const text = `${Array.from({ length: 1_000 }, (_, line) => `${line} ${'y'.repeat(97)}`).join('\n')}\n`
  for (let chunk = 0; chunk < 20; chunk++) await write(text)
  const raw = await app.call('GET', '/v1/tasks/t-1/log?raw')
  t.equal(raw.body, text.repeat(20))
  const prefixed = await app.call('GET', '/v1/tasks/t-1/log')
  t.equal(prefixed.body.replaceAll('node-1 hello/greet | ', ''), text.repeat(20))
})

t.test('server-sent lines are followed across reconnections while a writer appends, without loss or repeats, to the end', async (t) => {
  const app = await startTestApi(t)
  const id = await createTask(app.store, 't-1')
  const origin = await app.listen()
  const writers = [openLogWriter(app.store, id, 'node-1'), openLogWriter(app.store, id, 'node-2')]
  const writing = (async () => {
    for (let chunk = 0; chunk < 200; chunk++) await writers[chunk % 2]!(`${chunk} a\n${chunk} b ✓\n${chunk} c\n`)
    await endTask(app, id)
  })()
  const seen: { readonly id: number; readonly text: string }[] = []
  let end: unknown
  for (let connection = 1; end === undefined; connection++) {
    const stop = new AbortController()
    const lastId = seen.at(-1)?.id
    const response = await fetch(`${origin}/v1/tasks/t-1/log`, { headers: { ...app.headers, accept: 'text/event-stream', ...(lastId === undefined ? {} : { 'last-event-id': String(lastId) }) }, signal: stop.signal })
    t.equal(response.headers.get('content-type'), 'text/event-stream; charset=utf-8')
    let taken = 0
    for await (const message of readSse(response)) {
      if (message.event === 'end') end = message.data
      else seen.push({ id: Number(message.id), text: (message.data as LogRecord).text })
      // In the middle of a chunk, on purpose.
      if (end === undefined && ++taken === 40 && connection < 10) break
    }
    stop.abort()
  }
  await writing
  const whole = (await app.call('GET', '/v1/tasks/t-1/log?raw')).body
  t.equal(seen.map(({ text }) => `${text}\n`).join(''), whole)
  t.equal(seen.length, 600)
  t.match(end, { state: 'ended', outcome: 'succeeded', offset: Buffer.byteLength(whole) })
})

t.test('text and NDJSON follow too, with a filter that most lines do not pass', async (t) => {
  const app = await startTestApi(t)
  const id = await createTask(app.store, 't-1')
  const origin = await app.listen()
  const one = openLogWriter(app.store, id, 'node-1')
  const two = openLogWriter(app.store, id, 'node-2')
  const follow = async (query: string) => {
    const lines: string[] = []
    for await (const line of readLines(await fetch(`${origin}/v1/tasks/t-1/log?follow&${query}`, { headers: app.headers }))) lines.push(line)
    return lines
  }
  const readings = [follow('node=node-2&raw'), follow('node=node-2&format=ndjson'), follow('raw'), follow('tail=0&node=node-3')]
  for (let index = 0; index < 50; index++) await (index % 10 === 9 ? two : one)(`line ${index}\n`)
  await endTask(app, id)
  const [filtered, ndjson, all, nothing] = await Promise.all(readings)
  const expected = ['line 9', 'line 19', 'line 29', 'line 39', 'line 49']
  t.same(filtered, expected)
  t.same(ndjson!.map((line) => (JSON.parse(line) as LogRecord).text), expected)
  t.equal(all!.length, 50)
  t.same(nothing, [])
})

t.test('a client that does not read holds a page or two in memory, and gets everything once it reads', async (t) => {
  const app = await startTestApi(t, { limits: { logPageBytes: 256 * 1024 } })
  const id = await createTask(app.store, 't-1')
  const write = openLogWriter(app.store, id)
  const text = `${'z'.repeat(1023)}\n`.repeat(1024)
  for (let chunk = 0; chunk < 40; chunk++) await write(text)
  let serverSide: Socket | undefined
  app.api.server.on('connection', (socket) => (serverSide = socket))
  const origin = new URL(await app.listen())
  const client = connect(Number(origin.port), origin.hostname)
  client.pause()
  client.write(`GET /v1/tasks/t-1/log?raw HTTP/1.1\r\nhost: x\r\nauthorization: ${app.headers.authorization}\r\n\r\n`)
  let sentBefore = -1
  const sent = await eventually(t, 'the server stops sending', () => {
    const now = serverSide?.bytesWritten ?? 0
    const isStill = now > 0 && now === sentBefore && serverSide!.writableLength > 0
    sentBefore = now
    return isStill && now
  }, { intervalMs: 200 })
  t.ok(sent < 40 * 1024 * 1024, `${sent} bytes were sent`)
  t.ok(serverSide!.writableLength < 3 * 1024 * 1024, `${serverSide!.writableLength} bytes wait`)
  let received = 0
  client.on('data', (data) => (received += data.length)).resume()
  await once(client, 'close')
  t.ok(received > 40 * 1024 * 1024, `${received} bytes were received`)
})

t.test('a log that has ended is sent and ended, also when it is empty', async (t) => {
  const app = await startTestApi(t)
  const id = await createTask(app.store, 't-1')
  await endTask(app, id)
  t.equal((await app.call('GET', '/v1/tasks/t-1/log?follow')).body, '')
  t.equal((await app.call('GET', '/v1/tasks/t-1/log?format=sse')).body, 'event: end\ndata: {"offset":0,"state":"ended","outcome":"succeeded"}\n\n')
  await createTask(app.store, 't-2')
  t.match((await app.call('GET', '/v1/tasks/t-2/log?format=sse&follow=false')).body, /^event: end\ndata: \{"offset":0,"state":"accepted"/)
  checkProblem(t, await app.call('GET', '/v1/tasks/t-9/log'), 'REQUEST_NOT_FOUND')
  checkProblem(t, await app.call('GET', '/v1/tasks/t-1/log?format=pdf'), 'REQUEST_SHAPE')
  checkProblem(t, await app.call('GET', '/v1/tasks/t-1/log?follow=perhaps'), 'REQUEST_SHAPE')
})
