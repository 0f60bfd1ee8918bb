/**
 * One demo at a time on one lab: the second would clean up under the feet of the first. The lock is a listening socket in Linux's abstract
 * namespace, which the kernel gives back however its owner ends.
 */
import { createServer } from 'node:net'
import { createHash } from 'node:crypto'

export interface DemoLock {
  close(): Promise<void>
}

/** The lock for the lab in this directory; undefined when another process has it. */
export function openDemoLock(directory: string): Promise<DemoLock | undefined> {
  const name = `\0lichen-demo-${createHash('sha256').update(directory).digest('hex').slice(0, 16)}`
  return new Promise((resolve, reject) => {
    const server = createServer((socket) => socket.destroy())
    server.once('error', (error: NodeJS.ErrnoException) => (error.code === 'EADDRINUSE' ? resolve(undefined) : reject(error)))
    server.listen(name, () => {
      server.unref()
      resolve({ close: () => new Promise((done) => server.close(() => done())) })
    })
  })
}
