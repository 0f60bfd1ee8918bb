// The streams of one node that come, end and overlap, at one engine and at two: which of them is taken for the node's, and where its orders go.
import t from 'tap'
import { heartbeatIntervalMs, startWorld } from './world.js'

t.test('a stream that ends while it is found out whether its node is a copy never becomes the stream of the node (seed 50345)', async (t) => {
  const { clock, connect, order, waitFor, warnings } = await startWorld(t, ['one', 'two'])
  // Its node crashes, and nobody tells the engine. It comes back, and its agent dies before it is let in.
  connect('one', 'before the crash')
  const second = connect('one', 'after it')
  await clock.turn(heartbeatIntervalMs / 2)
  second.emit('cancelled')
  const third = connect('two', 'after the death of the agent')
  for (let turn = 0; turn < 4; turn++) {
    await clock.turn(heartbeatIntervalMs)
    third.heartbeat()
  }
  await order('t-1')
  await waitFor('the order goes to where the node is', () => third.orders.length === 1)
  t.same(second.orders, [])
  t.notOk(third.isOver)
  t.same(warnings, [], 'nobody is called a copy')
})

t.test('while two streams of a node wait for the same silent one, the later of them stays in the end', async (t) => {
  const { clock, connect, order, waitFor } = await startWorld(t, ['one'])
  const first = connect('one', 'first')
  const second = connect('one', 'second')
  await clock.turn(heartbeatIntervalMs)
  const third = connect('one', 'third')
  await clock.turn(heartbeatIntervalMs * 8)
  t.ok(first.isOver && second.isOver)
  await order('t-1')
  await waitFor('the order goes to the latest', () => third.orders.length === 1)
})

t.test('a stream that waited is given up when its process has opened another one meanwhile', async (t) => {
  const { clock, connect, order, waitFor } = await startWorld(t, ['one'])
  const first = connect('one', 'first')
  const dead = connect('one', 'second')
  await clock.turn(heartbeatIntervalMs)
  first.emit('cancelled')
  const alive = connect('one', 'second')
  await clock.turn(heartbeatIntervalMs * 8)
  t.ok(dead.isOver)
  t.notOk(alive.isOver, 'the newer one is left alone')
  await order('t-1')
  await waitFor('the order goes there', () => alive.orders.length === 1)
})

t.test('the end of a stream that another one has replaced takes nothing from the newer one, at the same engine', async (t) => {
  const { connect, order, waitFor } = await startWorld(t, ['one'])
  const older = connect('one', 'same')
  const newer = connect('one', 'same')
  older.emit('cancelled')
  t.ok(older.isOver)
  await order('t-1')
  await waitFor('the order goes to the newer one', () => newer.orders.length === 1)
})

t.test('the end of a stale stream takes nothing from a newer one at another engine, and what went out on it goes out there', async (t) => {
  const { clock, connect, order, store, waitFor } = await startWorld(t, ['one', 'two'])
  const stale = connect('one', 'same process')
  await order('t-1')
  await waitFor('the order went out on what nobody reads any more', () => stale.orders.length === 1)
  // The agent found its stream dead and is at another gateway; the first engine finds out later. It is told, and closes its own.
  const since = clock.elapsed()
  const newer = connect('two', 'same process')
  await waitFor('the order went out again', () => newer.orders.length === 1)
  t.ok(clock.elapsed() - since < heartbeatIntervalMs, `at once: after ${clock.elapsed() - since} ms`)
  t.ok(stale.isOver)
  await waitFor('the record says where the node is', async () => (await store.nodes.listNodes()).some(({ state, engine }) => state === 'ready' && engine === 'two'))
})

t.test('a node that refuses an order of an engine that lost the task says nothing of the attempt, which goes on', async (t) => {
  const { clock, connect, order, readEvents, waitFor } = await startWorld(t, ['one'])
  const call = connect('one', 'agent')
  await order('t-1')
  await waitFor('the order', () => call.orders.length === 1)
  const [key] = call.orders
  call.refuse(key!, 'ORDER_STALE_EPOCH')
  await clock.turn(1_000)
  t.equal((await readEvents('t-1')).at(-1)?.event.type, 'actionSent', 'it is still out')
  call.result(key!)
  await waitFor('its result ends the task', async () => (await readEvents('t-1')).at(-1)?.event.type === 'taskEnded')
  t.match((await readEvents('t-1')).filter(({ event }) => event.type === 'actionEnded'), [{ event: { attempt: 1, result: { outcome: 'succeeded' } } }])
  await order('t-2')
  await waitFor('another order', () => call.orders.length === 2)
  call.refuse(call.orders[1]!, 'ORDER_UNSIGNED')
  await waitFor('any other refusal ends the attempt', async () => (await readEvents('t-2')).some(({ event }) => event.type === 'actionEnded' && event.result.failure?.code === 'ORDER_UNSIGNED'))
})
