import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { Link, type LinkEvents } from '../../packages/agent/dist/link/link.js'
import { eventually } from '../eventually.js'
import { clock, makeDirectory, quiet, startGateway } from './agent.js'
import { makeCommand, TestGateway } from './gateway.js'
import { parseAgentConfig } from '../../packages/agent/dist/agent-config.js'
import { startAgent } from '@lichen/agent'

async function startTwo(t: Test): Promise<[TestGateway, TestGateway]> {
  const first = await startGateway(t, { certificateLifeMs: 6000 })
  const second = await TestGateway.startBeside(first, { certificateLifeMs: 6000 })
  t.teardown(() => second.stop())
  for (const gateway of [first, second]) gateway.gateways = [gateway.address, ...[first, second].filter((other) => other !== gateway).map((other) => other.address)]
  return [first, second]
}

t.test('an agent that was told of one gateway learns of the others, and goes to one of them at once when its own dies', async (t) => {
  const gateways = await startTwo(t)
  const directory = makeDirectory(t)
  const options = { gateway: gateways[0].address, token: gateways[0].token, name: 'node-1', dataDirectory: directory, clock, log: quiet }
  const agent = await startAgent(options)
  t.teardown(() => agent.stop())
  const own = await eventually(t, 'it is at one of them', () => gateways.find((gateway) => gateway.hellos.length > 0))
  const other = gateways.find((gateway) => gateway !== own)!
  t.equal((JSON.parse(readFileSync(join(directory, 'identity.json'), 'utf8')) as { gateways: string[] }).gateways.length, 2, 'it keeps what it learnt')
  own.stop()
  await eventually(t, 'it is at the other', () => agent.state === 'connected' && other.hellos.length === 1, { timeoutMs: 5000 })
  other.nodeId = 'node-1'
  const key = other.order({ commands: [makeCommand('note', { text: 'here' })] })
  await eventually(t, 'the result', () => other.resultOf(key))
  await eventually(t, 'its certificate is renewed there too', () => own.renewals + other.renewals > 0)
  await eventually(t, 'and it is back with the new one', () => other.hellos.length >= 2)
  t.equal(other.hellos[0]?.instance, other.hellos[1]?.instance)
  await agent.stop()
  const count = other.hellos.length
  const again = await startAgent({ ...options, gateway: own.address })
  t.teardown(() => again.stop())
  await eventually(t, 'it finds the living one, though its configuration names the dead', () => other.hellos.length > count)
  t.not(other.hellos.at(-1)?.instance, other.hellos[0]?.instance, 'each process has an instance of its own')
})

t.test('a node joins through whichever gateway answers', async (t) => {
  const [first, second] = await startTwo(t)
  first.stop()
  const agent = await startAgent({ gateway: [first.address, second.address], token: second.token, name: 'node-1', dataDirectory: makeDirectory(t), clock, log: quiet })
  t.teardown(() => agent.stop())
  await eventually(t, 'it is there', () => second.hellos.length === 1)
})

/** A link over streams that are opened and ended by hand, on a clock that stands still. */
function makeLink(gateways: string[], random: number) {
  const opened: string[] = []
  const waits: number[] = []
  let ends: (reason: string) => void = () => {}
  let now = 0
  let timers: { at: number; call: () => void }[] = []
  const stillClock = {
    now: () => now, elapsed: () => now, soon: (call: () => void) => call(), every: () => ({ cancel: () => {} }),
    after: (delayMs: number, call: () => void) => {
      const timer = { at: now + delayMs, call }
      timers.push(timer)
      return { cancel: () => void (timers = timers.filter((other) => other !== timer)) }
    },
  }
  const events: LinkEvents = {
    listGateways: () => gateways, buildHello: () => ({}) as never, buildHeartbeat: () => '', onWelcome: () => {}, onMessage: () => {}, onWritable: () => {},
    openStream: (gateway, stream) => {
      opened.push(gateway)
      ends = (reason) => stream.onEnd(reason)
      return { send: () => true, cancel: () => {} }
    },
  }
  const link = new Link(events, { clock: stillClock, random: () => random, log: quiet })
  const fail = (): void => {
    ends('gone')
    const [next] = timers
    waits.push(next!.at - now)
    now = next!.at
    timers = timers.slice(1)
    next!.call()
  }
  return { link, opened, waits, fail, passTime: () => ((now = timers[0]!.at), timers.shift()!.call()) }
}

t.test('gateways are begun with by chance, each is tried once quickly, and then with a growing wait', async (t) => {
  const { link, opened, waits, fail } = makeLink(['a', 'b', 'c'], 0.5)
  link.start()
  for (let times = 0; times < 6; times++) fail()
  t.same(opened, ['b', 'c', 'a', 'b', 'c', 'a', 'b'])
  t.same(waits.slice(0, 2), [50, 50])
  t.ok(waits[2]! >= 125 && waits[5]! > 2 * waits[2]!, String(waits))
  t.equal(makeLinkStart(0), 'a')
  t.equal(makeLinkStart(0.99), 'c')
})

function makeLinkStart(random: number): string | undefined {
  const { link, opened } = makeLink(['a', 'b', 'c'], random)
  link.start()
  return opened[0]
}

t.test('a gateway that takes the connection and says nothing is given up sooner while there are others', async (t) => {
  const { link, opened, passTime } = makeLink(['a', 'b'], 0)
  link.start()
  passTime()
  t.match(link.lastError, /no Welcome within 2500 ms/)
  passTime()
  passTime()
  t.match(link.lastError, /no Welcome within 30000 ms/)
  t.same(opened, ['a', 'b'])
})

t.test('the configuration takes one gateway or a list', async (t) => {
  t.same(parseAgentConfig('gateway: a:1', 'x').gateway, 'a:1')
  t.same(parseAgentConfig('gateway: [a:1, "[::1]:2"]', 'x').gateway, ['a:1', '[::1]:2'])
  for (const text of ['gateway: []', 'gateway: [a]', 'gateway: a:1\nspoolLimitBytes: 5']) t.throws(() => parseAgentConfig(text, 'x'), { code: 'AGENT_CONFIG' })
})
