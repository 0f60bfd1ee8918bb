import { connect, type Socket } from 'node:net'
import { type Clock, clockOf } from '@lichen/core'
import t, { type Test } from 'tap'
import { type Doorway, openDoorway, throughAtOnce } from '../../packages/engine/src/gateway/doorway.js'
import { eventually } from '../eventually.js'

/** A doorway on loopback whose time passes when told to, and what it let through so far: local ports of the clients. */
async function startDoorway(t: Test): Promise<{ readonly doorway: Doorway; readonly through: Socket[]; passMs(ms: number): void }> {
  const through: Socket[] = []
  const timers = new Set<{ readonly at: number; readonly callback: () => void }>()
  let time = 0
  const clock: Clock = {
    ...clockOf(globalThis),
    elapsed: () => time,
    after(delayMs, callback) {
      const timer = { at: time + delayMs, callback }
      timers.add(timer)
      return { cancel: () => void timers.delete(timer) }
    },
    every(intervalMs, callback) {
      const again = (): void => {
        timer = clock.after(intervalMs, again)
        callback()
      }
      let timer = clock.after(intervalMs, again)
      return { cancel: () => timer.cancel() }
    },
  }
  const doorway = await openDoorway({ host: '127.0.0.1', port: 0, clock, silenceMs, letThrough: (socket) => void through.push(socket) })
  t.teardown(() => {
    doorway.stop()
    for (const socket of through) socket.destroy()
  })
  return {
    doorway, through,
    passMs(ms) {
      time += ms
      for (const timer of [...timers]) {
        if (timer.at > time) continue
        timers.delete(timer)
        timer.callback()
      }
    },
  }
}

/** Connects one client after the other, so that they are in this order at the door. */
async function connectAll(t: Test, { port }: Doorway, count: number): Promise<Socket[]> {
  const clients: Socket[] = []
  for (let index = 0; index < count; index++) {
    const client = connect(port, '127.0.0.1').on('error', () => undefined)
    t.teardown(() => void client.destroy())
    await new Promise((resolve) => client.once('connect', resolve))
    clients.push(client)
  }
  return clients
}

const silenceMs = 25_000
const peerOf = (client: Socket): string => `127.0.0.1:${client.localPort}`

t.test('so many go through at once; the next comes through when one has made its call, has closed, or has said nothing for long', async (t) => {
  const { doorway, through, passMs } = await startDoorway(t)
  const clients = await connectAll(t, doorway, throughAtOnce + 4)
  await eventually(t, 'all places are taken', () => through.length === throughAtOnce)
  const portsThrough = (): (number | undefined)[] => through.slice(throughAtOnce).map((socket) => socket.remotePort)
  doorway.arrived(peerOf(clients[5]!))
  await eventually(t, 'one more', () => through.length === throughAtOnce + 1)
  doorway.arrived(peerOf(clients[5]!))
  doorway.arrived('192.0.2.1:1')
  t.equal(through.length, throughAtOnce + 1, 'a second call, or one of somebody unknown, makes no place')
  through[7]!.destroy()
  await eventually(t, 'one more for the one that closed', () => through.length === throughAtOnce + 2)
  passMs(2_000)
  await eventually(t, 'the rest, for those that say nothing', () => through.length === throughAtOnce + 4)
  t.strictSame(portsThrough(), clients.slice(throughAtOnce).map((client) => client.localPort), 'in the order in which they came')
})

t.test('who waited for longer than agents do is closed and takes no place', async (t) => {
  const { doorway, through, passMs } = await startDoorway(t)
  const clients = await connectAll(t, doorway, throughAtOnce + 1)
  await eventually(t, 'all places are taken', () => through.length === throughAtOnce)
  const late = clients.at(-1)!
  const closed = new Promise((resolve) => late.once('close', resolve))
  late.resume()
  passMs(31_000)
  await closed
  t.equal(through.length, throughAtOnce)
  const [next] = await connectAll(t, doorway, 1)
  await eventually(t, 'a new one comes through', () => through.at(-1)!.remotePort === next!.localPort)
})

t.test('a connection that says nothing for long is destroyed; one that says a little now and then stays', async (t) => {
  const { doorway, through, passMs } = await startDoorway(t)
  const [silent, talking] = await connectAll(t, doorway, 2)
  await eventually(t, 'both are through', () => through.length === 2)
  const [ofSilent, ofTalking] = [silent!, talking!].map((client) => through.find((socket) => socket.remotePort === client.localPort)!) as [Socket, Socket]
  for (const socket of through) socket.resume()
  for (let look = 1; look <= 24; look++) {
    if (look % 9 === 0) {
      const before = ofTalking.bytesRead
      talking!.write('x')
      await eventually(t, 'it is heard', () => ofTalking.bytesRead > before)
    }
    t.equal(ofSilent.destroyed, look > 10, `look ${look}`)
    passMs(silenceMs / 10)
  }
  t.notOk(ofTalking.destroyed)
})

t.test('a process that stood still does not take the living for silent', async (t) => {
  const { doorway, through, passMs } = await startDoorway(t)
  await connectAll(t, doorway, 1)
  await eventually(t, 'it is through', () => through.length === 1)
  passMs(silenceMs * 100)
  t.notOk(through[0]!.destroyed, 'one look at the end of it, whatever the clock says')
})

t.test('stopping closes what waits', async (t) => {
  const { doorway } = await startDoorway(t)
  const clients = await connectAll(t, doorway, throughAtOnce + 1)
  const closed = new Promise((resolve) => clients.at(-1)!.resume().once('close', resolve))
  await eventually(t, 'it is closed', async () => {
    doorway.stop()
    return (await Promise.race([closed.then(() => true), new Promise((resolve) => setImmediate(resolve, false))])) === true
  })
  t.pass()
})
