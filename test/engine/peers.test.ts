// Engines among themselves over a broker that loses what it likes: commands are repeated until the node answers, and presence follows the streams.
import { openEmbeddedBroker, type Broker } from '@lichen/broker'
import { type Clock, clockOf, LichenError, nodeId, type NodeId } from '@lichen/core'
import type { AgentMessage, EngineMessage } from '@lichen/protocol'
import type { Session } from '@lichen/engine'
import t, { type Test } from 'tap'
import { joinPeers, type PeerListener, type Peers } from '../../packages/engine/src/peers/peers.js'
import { eventually } from '../eventually.js'

const silent = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined }
type Command = NonNullable<EngineMessage['message']>
type Report = NonNullable<AgentMessage['message']>

const key = { taskId: 't-1', actionId: 'a/run@n1', attempt: 1 }
const cancel: Command = { $case: 'cancel', value: { cancel: Buffer.from(''), keyId: 'k', signature: Buffer.from('') } }

interface Side {
  readonly peers: Peers
  readonly sessions: Map<NodeId, Session>
  readonly commands: Command[]
  readonly reports: Report[]
  readonly moved: string[]
  readonly contested: string[]
}

function makeSession(node: string, id: string, instance = 'i'): Session {
  return { node: nodeId(node), id, registration: 'r', instance, running: new Set(), runningKeys: [], heardAt: 0, send: () => true, releaseLogBytes: () => undefined, close: () => undefined }
}

async function startSide(t: Test, engine: string, broker: Broker, clock: Clock = clockOf(globalThis), listener: Partial<PeerListener> = {}): Promise<Side> {
  const side = { sessions: new Map<NodeId, Session>(), commands: [] as Command[], reports: [] as Report[], moved: [] as string[], contested: [] as string[] }
  const peers = await joinPeers({
    engine, broker, clock, log: silent, sessions: { find: (node) => side.sessions.get(node), list: () => side.sessions.values() },
    listener: {
      moved: (node, isOpen) => void side.moved.push(`${node} ${isOpen ? 'open' : 'closed'}`),
      openedElsewhere: () => undefined,
      contested: (session) => void side.contested.push(session.id),
      command: (_session, _engine, command) => void side.commands.push(command),
      report: (_node, report) => void side.reports.push(report),
      ...listener,
    },
  })
  t.teardown(() => peers.stop())
  return { ...side, peers }
}

t.test('an engine that starts learns who is connected where, and hears when that changes', async (t) => {
  const broker = openEmbeddedBroker()
  const first = await startSide(t, 'one', broker)
  const session = makeSession('n1', 's1')
  first.sessions.set(session.node, session)
  const second = await startSide(t, 'two', broker)
  const stream = await eventually(t, 'the stream is known', () => second.peers.find(nodeId('n1')))
  t.match(stream.id, /^s1, /)
  first.peers.closed(session)
  await eventually(t, 'it is gone', () => second.peers.find(nodeId('n1')) === undefined)
  t.same(second.moved, ['n1 open', 'n1 closed'])
})

t.test('a command and its answer pass between engines', async (t) => {
  const broker = openEmbeddedBroker()
  const gateway = await startSide(t, 'gateway', broker)
  const owner = await startSide(t, 'owner', broker)
  const session = makeSession('n1', 's1')
  gateway.sessions.set(session.node, session)
  gateway.peers.opened(session)
  const stream = await eventually(t, 'the stream is known', () => owner.peers.find(nodeId('n1')))
  stream.send({ $case: 'resultAck', value: { key } })
  await eventually(t, 'the command came', () => gateway.commands.length === 1)
  t.equal(await gateway.peers.forward('owner', session, { $case: 'accepted', value: { key } }), true)
  await eventually(t, 'the report came', () => owner.reports.length === 1)
  t.equal(await gateway.peers.forward('nobody', session, { $case: 'accepted', value: { key } }), false, 'an engine that is not there is said not to be')
})

t.test('a command for a stream that is another one by now goes nowhere', async (t) => {
  const broker = openEmbeddedBroker()
  const gateway = await startSide(t, 'gateway', broker)
  const owner = await startSide(t, 'owner', broker)
  const old = makeSession('n1', 's1')
  gateway.sessions.set(old.node, old)
  gateway.peers.opened(old)
  const stream = await eventually(t, 'the stream is known', () => owner.peers.find(nodeId('n1')))
  const newer = makeSession('n1', 's2')
  gateway.sessions.set(newer.node, newer)
  stream.send(cancel)
  gateway.peers.opened(newer)
  await eventually(t, 'the newer one is known', () => owner.peers.find(nodeId('n1'))?.id.startsWith('s2, '))
  t.same(gateway.commands, [])
})

t.test('commands that were lost are given again until the node answers', async (t) => {
  const broker = openEmbeddedBroker()
  let losing = true
  let lost = 0
  const lossy: Broker = { ...broker, openMailbox: async (name, receive, reopened) => {
    const mailbox = await broker.openMailbox(name, receive, reopened)
    return { ...mailbox, send: (to, body) => (losing && to === 'gateway' ? Promise.resolve(++lost > 0) : mailbox.send(to, body)) }
  } }
  const gateway = await startSide(t, 'gateway', broker)
  const owner = await startSide(t, 'owner', lossy)
  const session = makeSession('n1', 's1')
  gateway.sessions.set(session.node, session)
  gateway.peers.opened(session)
  const stream = await eventually(t, 'the stream is known', () => owner.peers.find(nodeId('n1')))
  const { encodeCancel } = await import('@lichen/protocol')
  stream.send({ $case: 'cancel', value: { cancel: encodeCancel({ key, nodeId: 'n1', epoch: 1, reason: '' }), keyId: 'k', signature: Buffer.from('') } })
  await eventually(t, 'it was lost', () => lost > 0)
  losing = false
  await eventually(t, 'it came after all', () => gateway.commands.some((command) => command.$case === 'cancel'), { timeoutMs: 10_000 })
  await gateway.peers.forward('owner', session, { $case: 'refused', value: { key, code: 'X', message: '' } })
  await eventually(t, 'the answer came', () => owner.reports.length === 1)
})

t.test('the streams of an engine that is gone are gone with it', async (t) => {
  const broker = openEmbeddedBroker()
  const owner = await startSide(t, 'owner', broker)
  const gateway = await startSide(t, 'gateway', broker)
  const session = makeSession('n1', 's1')
  gateway.sessions.set(session.node, session)
  gateway.peers.opened(session)
  const stream = await eventually(t, 'the stream is known', () => owner.peers.find(nodeId('n1')))
  await gateway.peers.stop()
  stream.send({ $case: 'resultAck', value: { key } })
  await eventually(t, 'nobody took the message', () => owner.peers.find(nodeId('n1')) === undefined)
  owner.peers.keepOnly(new Set(['owner']))
})

t.test('an engine that starts while the broker is away joins the others once it is back', async (t) => {
  const broker = openEmbeddedBroker()
  const gateway = await startSide(t, 'gateway', broker)
  const session = makeSession('n1', 's1')
  gateway.sessions.set(session.node, session)
  let tries = 0
  const away: Broker = { ...broker, openMailbox: (...input) => (++tries < 3 ? Promise.reject(new LichenError('BROKER_UNAVAILABLE', 'it is away')) : broker.openMailbox(...input)) }
  const owner = await startSide(t, 'owner', away)
  t.equal(tries, 1, 'the start waits for one attempt alone')
  await eventually(t, 'the stream is known', () => owner.peers.find(nodeId('n1')))
})

t.test('an engine whose name another process had when the broker came back joins the others once that one is gone (seed 50171)', async (t) => {
  const broker = openEmbeddedBroker()
  const gateway = await startSide(t, 'gateway', broker)
  const session = makeSession('n1', 's1')
  gateway.sessions.set(session.node, session)
  const namesake = await broker.openMailbox('owner', () => undefined)
  let tries = 0
  const away: Broker = { ...broker, openMailbox: (...input) => (++tries < 2 ? Promise.reject(new LichenError('BROKER_UNAVAILABLE', 'it is away')) : broker.openMailbox(...input)) }
  const owner = await startSide(t, 'owner', away)
  await eventually(t, 'it found its name taken, and tries again', () => tries > 2)
  t.equal(owner.peers.find(nodeId('n1')), undefined)
  await namesake.close()
  await eventually(t, 'the stream is known', () => owner.peers.find(nodeId('n1')))
  await t.rejects(startSide(t, 'owner', broker), { code: 'BROKER_MAILBOX_TAKEN' }, 'one that finds it taken when it starts does not start')
})
