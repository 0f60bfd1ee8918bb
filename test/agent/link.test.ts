import { statSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { eventually } from '../eventually.js'
import { openPath } from '../path.js'
import { Backoff } from '../../packages/agent/dist/link/backoff.js'
import { startGateway, startTestAgent } from './agent.js'
import { makeCommand } from './gateway.js'

t.test('an agent that loses its gateway goes on working and reports when it is back', async (t) => {
  const gateway = await startGateway(t)
  const agent = await startTestAgent(t, gateway)
  const path = join(agent.directory, 'go')
  const key = gateway.order({ commands: [makeCommand('run', { shell: `echo before; while [ ! -e ${path} ]; do sleep 0.02; done; echo after; touch ${path}.done`, uncheckable: true })] })
  await eventually(t, 'it runs', () => gateway.logOf(key).includes('before'))
  const { port } = gateway
  gateway.stop()
  await eventually(t, 'the agent has seen it', () => agent.state === 'connecting')
  t.ok(agent.lastError)
  ;(await import('node:fs')).writeFileSync(path, '')
  await eventually(t, 'the work is done meanwhile', () => statSync(`${path}.done`, { throwIfNoEntry: false }) && agent.attempts === 0)
  t.equal(gateway.resultOf(key), undefined)
  await gateway.listen(port)
  t.match(await eventually(t, 'the result', () => gateway.resultOf(key)), { result: { outcome: 'succeeded' } })
  t.match(gateway.logOf(key), /\nbefore\nafter\n=== \[1\/1\] succeeded/)
})

t.test('what is not acknowledged is sent again on every stream, until it is', async (t) => {
  const gateway = await startGateway(t, { acknowledges: false })
  await startTestAgent(t, gateway)
  const key = gateway.order({ commands: [makeCommand('note', { text: 'hello' })] })
  const { port } = gateway
  for (let times = 1; times <= 2; times++) {
    await eventually(t, 'the result', () => gateway.results.length === times)
    t.equal(gateway.chunks.length, times)
    gateway.stop()
    await gateway.listen(port)
  }
  gateway.acknowledges = true
  await eventually(t, 'the result', () => gateway.results.length >= 3, { timeoutMs: 20_000 })
  const count = gateway.results.length
  gateway.stop()
  await gateway.listen(port)
  await eventually(t, 'a new stream', () => gateway.streams.length > 0, { timeoutMs: 20_000 })
  const next = gateway.order({ commands: [makeCommand('note', { text: 'next' })] })
  await eventually(t, 'the next result', () => gateway.resultOf(next))
  t.equal(gateway.results.length, count + 1, 'acknowledged, and not sent any more')
  t.match(gateway.logOf(key), /^=== \[1\/1\] a note \(note\)\nhello\n=== \[1\/1\] succeeded, unchanged\n$/)
})

t.test('heartbeats come at the interval of the welcome', async (t) => {
  const gateway = await startGateway(t, { heartbeatIntervalMs: 100 })
  await startTestAgent(t, gateway)
  await eventually(t, 'heartbeats', () => gateway.heartbeats.length >= 3)
  t.equal(gateway.heartbeats[0], '', 'facts that did not change are not repeated')
})

t.test('a gateway that asks for another pace gets it on the same stream', async (t) => {
  const gateway = await startGateway(t, { heartbeatIntervalMs: 3_600_000 })
  const agent = await startTestAgent(t, gateway)
  await eventually(t, 'it is connected', () => agent.state === 'connected' && gateway.hellos.length === 1)
  gateway.send({ $case: 'pace', value: { heartbeatIntervalMs: 100 } })
  await eventually(t, 'heartbeats', () => gateway.heartbeats.length >= 3)
  gateway.send({ $case: 'pace', value: { heartbeatIntervalMs: 3_600_000 } })
  gateway.send({ $case: 'ping', value: {} })
  const before = gateway.heartbeats.length
  await eventually(t, 'the ping after it is answered', () => gateway.heartbeats.length > before)
  const answered = gateway.heartbeats.length
  await new Promise((resolve) => setTimeout(resolve, 500))
  t.equal(gateway.heartbeats.length, answered, 'and nothing else comes for a while')
  t.equal(gateway.hellos.length, 1)
})

t.test('an agent notices within half a minute that its gateway does not answer any more, though nothing closes', { timeout: 60_000 }, async (t) => {
  const gateway = await startGateway(t, { heartbeatIntervalMs: 1_000 })
  const path = await openPath(t, gateway.address)
  const agent = await startTestAgent(t, gateway, { gateway: path.address })
  await eventually(t, 'heartbeats', () => gateway.heartbeats.length >= 2)
  path.freeze()
  await eventually(t, 'it has given the stream up', () => agent.state === 'connecting', { timeoutMs: 32_000 })
  t.match(agent.lastError, /dropped|UNAVAILABLE|ping|keepalive/i)
})

t.test('a ping is answered by a heartbeat at once', async (t) => {
  const gateway = await startGateway(t, { heartbeatIntervalMs: 3_600_000 })
  const agent = await startTestAgent(t, gateway)
  await eventually(t, 'it is connected', () => agent.state === 'connected' && gateway.hellos.length === 1)
  gateway.send({ $case: 'ping', value: {} })
  await eventually(t, 'a heartbeat', () => gateway.heartbeats.length === 1)
})

t.test('no more log is under way than the window allows, and a result comes after its log', async (t) => {
  const gateway = await startGateway(t, { acknowledges: false, logWindowBytes: 256 * 1024 })
  await startTestAgent(t, gateway)
  const key = gateway.order({ commands: [makeCommand('run', { argv: ['seq', '1', '500000'], uncheckable: true })] })
  await eventually(t, 'a full window', () => gateway.unackedBytes > 180 * 1024)
  const other = gateway.order({ commands: [makeCommand('note', { text: 'x' })] })
  await eventually(t, 'the other is accepted or answered', () => gateway.resultOf(other) ?? gateway.chunks.some((chunk) => chunk.keyText.includes(other.actionId)))
  t.ok(gateway.unackedBytes <= 256 * 1024, `${gateway.unackedBytes}`)
  t.equal(gateway.resultOf(key), undefined)
  gateway.acknowledges = true
  gateway.unackedBytes = 0
  for (const keyText of new Set(gateway.chunks.map((chunk) => chunk.keyText))) {
    const [taskId, attempt, actionId] = keyText.split(' ') as [string, string, string]
    gateway.send({ $case: 'logAck', value: { key: { taskId, actionId, attempt: Number(attempt) }, position: gateway.logBytes.get(keyText)! } })
  }
  await eventually(t, 'the result', () => gateway.resultOf(key))
  const numbers = gateway.logOf(key).split('\n').filter((line) => /^\d+$/.test(line))
  t.equal(numbers.length, 500_000)
  t.ok(numbers.every((line, index) => line === String(index + 1)), 'every line, once, in order')
})

t.test('the wait between tries doubles with jitter and begins anew only after a good connection', async (t) => {
  const backoff = new Backoff({ firstMs: 100, maxMs: 1000, goodAfterMs: 5000, random: () => 1 })
  t.same([0, 0, 0, 0, 0, 4999].map((lasted) => backoff.next(lasted)), [100, 200, 400, 800, 1000, 1000])
  t.equal(backoff.next(5000), 100)
  const low = new Backoff({ firstMs: 100, maxMs: 1000, goodAfterMs: 5000, random: () => 0 })
  t.same([low.next(0), low.next(0)], [50, 100], 'never below half')
})
