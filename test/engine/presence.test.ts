import t from 'tap'
import { type Clock, nodeId } from '@lichen/core'
import { buildOrder, buildSignedOrders, type EngineMessage, type StreamOpened } from '@lichen/protocol'
import { buildPresence } from '../../packages/engine/dist/peers/presence.js'
import { makeCommand, makeOrder } from '../agent/gateway.js'

type Command = NonNullable<EngineMessage['message']>

function makeClock(): Clock & { turn(ms: number): void } {
  let now = 0
  const never = { cancel: () => undefined }
  return { now: () => now, elapsed: () => now, after: () => never, every: () => never, soon: () => undefined, turn: (ms) => void (now += ms) }
}

const opened: StreamOpened = { nodeId: 'node-1', sessionId: 'session-1', instance: 'agent-1', running: [] }
const order: Command = { $case: 'order', value: buildSignedOrders([buildOrder(makeOrder({ commands: [makeCommand('note', { text: 'x' })] }))], { keyId: 'k', sign: () => Buffer.alloc(64) })[0]! }

t.test('a session that is told of again is another stream: what was sent before the telling may be lost, and is sent once more', async (t) => {
  const presence = buildPresence({ clock: makeClock(), send: () => undefined })
  const first = presence.open('engine-2', opened)
  t.same(presence.forget('engine-2'), ['node-1'])
  const second = presence.open('engine-2', opened)
  t.not(second.id, first.id, 'who remembers what went out on the first sends it again')
  t.equal(second.sessionId, 'session-1', 'the other engine knows it by the same name')
  t.equal(presence.close('engine-2', nodeId('node-1'), 'session-1'), 'node-1')
})

t.test('a command that nobody answers is given again every two seconds, for a minute', async (t) => {
  const clock = makeClock()
  let sent = 0
  const stream = buildPresence({ clock, send: () => (sent += 1) }).open('engine-2', opened)
  stream.send(order)
  for (let second = 0; second < 600; second++) {
    clock.turn(1_000)
    stream.repeat()
  }
  t.ok(sent > 25 && sent < 35, `it was sent ${sent} times in ten minutes`)
})
