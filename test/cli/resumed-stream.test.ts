import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import t, { type Test } from 'tap'
import { CliFailure, openClient, readResumed, submitTask, type StreamRequest } from '@lichen/cli'

interface Line {
  readonly offset: number
}

/** A server of the other side: answers each connection with what `answer` does. */
async function startPeer(t: Test, answer: (from: number, response: ServerResponse, request: IncomingMessage, call: number) => void, port = 0): Promise<{ url: string; server: Server; calls: () => number }> {
  let calls = 0
  const server = createServer((request, response) => answer(Number(new URL(request.url!, 'http://x').searchParams.get('offset')), response, request, ++calls))
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve))
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, server, calls: () => calls }
}

const request = (isEnded: (position: number) => Promise<boolean>, rest: Partial<StreamRequest<Line>> = {}): StreamRequest<Line> => ({ path: '/log', query: { follow: true }, positionName: 'offset', position: 0, positionAfter: (line) => line.offset, isEnded, ...rest })
const openFor = (url: string) => openClient({ url, token: 'secret', urlFrom: 'test' })

async function collect(lines: AsyncGenerator<Line>): Promise<number[]> {
  const offsets: number[] = []
  for await (const line of lines) offsets.push(line.offset)
  return offsets
}

t.test('a connection cut in the middle of a record is resumed behind the last whole one: nothing twice, nothing missing', async (t) => {
  const peer = await startPeer(t, (from, response, _request, call) => {
    for (let offset = from + 1; offset <= Math.min(10, from + 3); offset++) response.write(`${JSON.stringify({ offset })}\n\n`)
    if (call <= 3) response.write('{"offset":', () => response.destroy())
    else response.end()
  })
  const states: string[] = []
  const lines = readResumed<Line>(openFor(peer.url), request(async (position) => position >= 10, { onConnection: (state) => states.push(state) }))
  t.same(await collect(lines), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
  t.same(states.slice(0, 2), ['lost', 'back'])
})

t.test('a server that ends the stream politely before the end is asked again', async (t) => {
  const peer = await startPeer(t, (from, response) => response.end(`${JSON.stringify({ offset: from + 1 })}\n`))
  t.same(await collect(readResumed<Line>(openFor(peer.url), request(async (position) => position === 3))), [1, 2, 3])
  t.equal(peer.calls(), 3)
})

t.test('a server that is away longer than the patience is a failure with exit code 3', async (t) => {
  const peer = await startPeer(t, (_from, response) => response.destroy())
  const lines = readResumed<Line>(openFor(peer.url), request(async () => false, { patienceMs: 300 }))
  await t.rejects(collect(lines), { name: CliFailure.name, exitCode: 3 })
  t.ok(peer.calls() > 1, 'it was tried again before')
})

t.test('a refusal is not tried again: 401 is exit code 4, 404 is exit code 2', async (t) => {
  for (const [status, exitCode] of [[401, 4], [404, 2]] as const) {
    const peer = await startPeer(t, (_from, response) => response.writeHead(status, { 'content-type': 'application/problem+json' }).end(JSON.stringify({ title: 'no', detail: 'no', code: 'REQUEST_NOT_FOUND', problems: [] })))
    await t.rejects(collect(readResumed<Line>(openFor(peer.url), request(async () => true))), { exitCode, message: 'no' })
    t.equal(peer.calls(), 1)
  }
})

t.test('503 is tried again, because the server says that it comes back', async (t) => {
  const peer = await startPeer(t, (_from, response, _request, call) => (call === 1 ? response.writeHead(503).end() : response.end('{"offset":1}\n')))
  t.same(await collect(readResumed<Line>(openFor(peer.url), request(async () => true))), [1])
})

t.test('a signal ends the stream at once, also while it waits for data', async (t) => {
  const controller = new AbortController()
  const peer = await startPeer(t, (_from, response) => void response.write('{"offset":1}\n'))
  const offsets: number[] = []
  for await (const line of readResumed<Line>(openFor(peer.url), request(async () => false, { signal: controller.signal }))) {
    offsets.push(line.offset)
    controller.abort()
  }
  t.same(offsets, [1])
})

t.test('the token goes into the Authorization header and multi-byte text survives any cut', async (t) => {
  const bytes = Buffer.from('{"offset":1,"text":"Flechte: ∆ 🌱"}\n')
  const texts: string[] = []
  const peer = await startPeer(t, (_from, response, request) => {
    t.equal(request.headers.authorization, 'Bearer secret')
    for (const byte of bytes) response.write(Buffer.from([byte]))
    response.end()
  })
  for await (const line of readResumed<Line & { text: string }>(openFor(peer.url), request(async () => true) as never)) texts.push(line.text)
  t.same(texts, ['Flechte: ∆ 🌱'])
})

t.test('a peer that vanished without closing its connection is noticed by its silence; signs of life keep it', async (t) => {
  const peer = await startPeer(t, (from, response, _request, call) => {
    response.write(`${JSON.stringify({ offset: from + 1 })}\n`)
    if (call === 1) return
    const life = setInterval(() => response.write('\n'), 50)
    setTimeout(() => response.end(`${JSON.stringify({ offset: from + 2 })}\n`), 600)
    response.on('close', () => clearInterval(life))
  })
  t.same(await collect(readResumed<Line>(openFor(peer.url), request(async (position) => position === 3, { silenceMs: 250 }))), [1, 2, 3])
  t.equal(peer.calls(), 2)
})

t.test('a submission whose answer was lost is sent again with the same Idempotency-Key, so that one task comes of it', async (t) => {
  const keys: (string | undefined)[] = []
  const peer = await startPeer(t, (_from, response, request, call) => {
    keys.push(request.headers['idempotency-key'] as string | undefined)
    request.resume()
    if (call === 1) response.destroy()
    else if (call === 2) response.writeHead(503, { 'retry-after': '1' }).end()
    else response.writeHead(202, { 'content-type': 'application/json' }).end('{"id":"t-1"}')
  })
  t.match(await submitTask(openFor(peer.url), { kind: 'apply', plan: 'x' }), { id: 't-1' })
  t.equal(keys.length, 3)
  t.match(keys[0], /^[0-9a-f-]{36}$/)
  t.same(new Set(keys).size, 1)
})
