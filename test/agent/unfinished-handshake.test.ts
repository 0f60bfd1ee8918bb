import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, type AddressInfo, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { clockOf } from '@lichen/core'
import { openAuthority, openSealer } from '@lichen/engine'
import { openSqliteStore } from '@lichen/store'
import t, { type Test } from 'tap'
import { openGrpcTransport } from '../../packages/agent/dist/link/grpc-transport.js'
import { eventually } from '../eventually.js'

/** A gateway that takes connections, reads, and says nothing: as one that is stopped, or a host that swaps. */
async function startSilent(t: Test): Promise<{ readonly address: string; readonly taken: Socket[] }> {
  const taken: Socket[] = []
  const server = createServer((socket) => void taken.push(socket.on('error', () => undefined).resume()))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.close()
    for (const socket of taken) socket.destroy()
  })
  return { address: `127.0.0.1:${(server.address() as AddressInfo).port}`, taken }
}

t.test('a stream that is given up while it shakes hands, or before, leaves no connection and makes no new one', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'lichen-handshake-'))
  const store = await openSqliteStore({ path: join(directory, 'lichen.db') })
  t.teardown(async () => {
    await store.close()
    rmSync(directory, { recursive: true })
  })
  const authority = await openAuthority({ store, sealer: openSealer(Buffer.alloc(32, 1)), now: Date.now })
  const silent = await startSilent(t)
  const transport = openGrpcTransport(clockOf(globalThis), () => Promise.reject(new Error('no key is asked for')))
  const identity = { nodeId: 'n1', caCertificatePem: authority.caCertificatePem } as Parameters<typeof transport.openStream>[1]
  const open = () => transport.openStream(silent.address, identity, { onMessage: () => t.fail('nothing is said'), onDrain: () => undefined, onEnd: () => t.fail('it has not ended by itself') })

  const stream = open()
  await eventually(t, 'the handshake has begun', () => (silent.taken[0]?.bytesRead ?? 0) > 0)
  stream.cancel()
  await eventually(t, 'the connection is closed', () => silent.taken[0]?.closed === true)

  open().cancel()
  const another = open()
  await eventually(t, 'one more has come after the one that was given up at once', () => silent.taken.some((socket, index) => index > 0 && socket.bytesRead > 0 && !socket.closed))
  another.cancel()
  await eventually(t, 'all are closed', () => silent.taken.every((socket) => socket.closed))
  const count = silent.taken.length
  await new Promise((resolve) => setTimeout(resolve, 1_500))
  t.equal(silent.taken.length, count, 'and none is made any more')
})
