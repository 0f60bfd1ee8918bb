/**
 * A wire between a store and its PostgreSQL that loses what it is told to lose: answers to commits, which no other means loses on purpose at the right moment. It reads just enough of the protocol
 * (https://www.postgresql.org/docs/current/protocol-message-formats.html) to see that the server has committed a write: a CommandComplete of a write or of COMMIT, then ReadyForQuery outside of a transaction.
 */
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import type { Test } from 'tap'

export interface LossyWire {
  /** As the URL of the server, through the wire. */
  readonly url: string
  /** While true, the connection over which the server confirms a write is cut in the place of the confirmation. */
  losesAnswers: boolean
  /** How many confirmations were lost. */
  readonly lost: number
}

const readyOutside = Buffer.from([0x5a, 0, 0, 0, 5, 0x49])
const written = /C\0\0\0.(COMMIT|UPDATE [1-9]|INSERT 0 [1-9]|DELETE [1-9])/s

const confirmsWrite = (bytes: Buffer): boolean => bytes.subarray(-readyOutside.length).equals(readyOutside) && written.test(bytes.toString('latin1'))

/** An open wire to the server of `url`. */
export async function startLossyWire(t: Test, url: string): Promise<LossyWire> {
  const target = new URL(url)
  const sockets = new Set<Socket>()
  let lost = 0
  const server = createServer((client) => {
    const upstream = connect(Number(target.port), target.hostname)
    for (const socket of [client, upstream]) {
      sockets.add(socket)
      socket.on('error', () => undefined)
      socket.on('close', () => {
        sockets.delete(socket)
        client.destroy()
        upstream.destroy()
      })
    }
    client.on('data', (bytes) => upstream.write(bytes))
    upstream.on('data', (bytes) => {
      if (!wire.losesAnswers || !confirmsWrite(bytes)) return void client.write(bytes)
      lost += 1
      client.destroy()
    })
  })
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  const through = new URL(url)
  through.port = String((server.address() as AddressInfo).port)
  const wire = {
    url: through.href,
    losesAnswers: false,
    get lost() {
      return lost
    },
  }
  return wire
}
