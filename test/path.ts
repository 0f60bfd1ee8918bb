/** A path between two ends of TCP connections that a test can break as networks do: what is sent vanishes, and nobody is told. */
import { connect, createServer, type Socket } from 'node:net'
import type { Test } from 'tap'

export interface Path {
  /** `host:port` of this end. */
  readonly address: string
  /** From now on not a byte passes on the connections that are open, and none of them closes. */
  freeze(): void
}

/** A path to `host:port`; it is taken away with the test. */
export async function openPath(t: Test, to: string): Promise<Path> {
  const pairs = new Set<readonly [Socket, Socket]>()
  const server = createServer({ allowHalfOpen: true }, (near) => {
    const far = connect({ host: to.slice(0, to.lastIndexOf(':')), port: Number(to.slice(to.lastIndexOf(':') + 1)), allowHalfOpen: true })
    const pair = [near, far] as const
    pairs.add(pair)
    near.pipe(far).on('error', () => near.destroy())
    far.pipe(near).on('error', () => far.destroy())
    near.on('close', () => pairs.delete(pair))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => {
    server.close()
    for (const socket of [...pairs].flat()) socket.destroy()
  })
  return {
    address: `127.0.0.1:${(server.address() as { port: number }).port}`,
    freeze() {
      for (const [near, far] of pairs) {
        near.unpipe(far).pause()
        far.unpipe(near).pause()
      }
    },
  }
}
