/** Brings the package cache, which listens on the loopback address, to another address of the host. */
import { connect, createServer, type Socket } from 'node:net'

export interface Forwarder {
  readonly port: number
  close(): Promise<void>
}

/**
 * Listens on `host`:`port` (0 is any) and joins each connection to the port of the loopback address that `startTarget` gives. It is
 * asked again when that port refuses, so that a cache that was killed is started by the next request.
 * @throws EADDRINUSE (from Node.js) when something else has the port.
 */
export function openForwarder(host: string, port: number, startTarget: () => Promise<number>): Promise<Forwarder> {
  let target: Promise<number> | undefined
  const sockets = new Set<Socket>()
  const track = (socket: Socket): void => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
  }
  const join = async (client: Socket, isRetry: boolean): Promise<void> => {
    const upstream = connect(await (target ??= startTarget()), '127.0.0.1')
    track(upstream)
    let isConnected = false
    upstream.on('error', () => {
      target = undefined
      if (isConnected || isRetry || client.destroyed) client.destroy()
      else join(client, true).catch(() => client.destroy())
    })
    upstream.once('connect', () => {
      isConnected = true
      client.pipe(upstream).pipe(client)
    })
    client.once('close', () => upstream.destroy())
  }
  const server = createServer({ pauseOnConnect: true }, (client) => {
    track(client)
    client.on('error', () => client.destroy())
    join(client, false).catch(() => {
      target = undefined
      client.destroy()
    })
  })
  return new Promise((settle, fail) => {
    server.once('error', fail)
    server.listen(port, host, () => {
      const address = server.address()
      settle({
        port: typeof address === 'object' && address ? address.port : port,
        close: () => {
          for (const socket of sockets) socket.destroy()
          return new Promise((done) => server.close(() => done()))
        },
      })
    })
  })
}
