/** What stands before a control plane of several nodes: a TCP load balancer, outside of the cluster. */
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'

export interface LoadBalancer {
  readonly port: number
  close(): Promise<void>
}

/** A backend that does not take the connection within this time is passed over. */
const connectMs = 1_000

/** Listens on an IPv4 address, at a free port unless one is given, and leads each connection to the first of these backends (`host:port`) that takes it, beginning with another one each time. */
export async function openLoadBalancer(address: string, backends: () => readonly string[], port = 0): Promise<LoadBalancer> {
  const open = new Set<Socket>()
  let next = 0
  const server = createServer({ allowHalfOpen: true }, (client) => {
    open.add(client)
    client.on('error', () => client.destroy()).on('close', () => open.delete(client))
    const list = backends()
    const first = next++
    lead(client, list.map((_, index) => list[(first + index) % list.length]!))
  })
  function lead(client: Socket, [backend, ...others]: readonly string[]): void {
    if (backend === undefined || client.destroyed) return void client.destroy()
    const [host, backendPort] = backend.split(':') as [string, string]
    const upstream = connect({ host, port: Number(backendPort), allowHalfOpen: true, timeout: connectMs })
    open.add(upstream)
    let isThrough = false
    const passOver = (): void => {
      upstream.destroy()
      if (isThrough) client.destroy()
      else lead(client, others)
    }
    upstream.once('timeout', () => !isThrough && passOver()).on('error', passOver).on('close', () => open.delete(upstream))
    upstream.once('connect', () => {
      isThrough = true
      upstream.setTimeout(0)
      client.pipe(upstream).pipe(client)
      client.once('close', () => upstream.destroy())
      upstream.once('close', () => client.destroy())
    })
  }
  await new Promise<void>((settle, fail) => server.once('error', fail).listen(port, address, settle))
  return {
    port: (server.address() as AddressInfo).port,
    close: () =>
      new Promise((settle) => {
        server.close(() => settle())
        for (const socket of open) socket.destroy()
      }),
  }
}
