/** The node's own address: the source address of its way to the gateway. */
import { createSocket } from 'node:dgram'
import { lookup } from 'node:dns/promises'
import { isIPv6 } from 'node:net'

/**
 * The local address that the kernel would use towards this host. A connected UDP socket asks the routing table; nothing is sent. 127.0.0.1 when
 * there is no way to it.
 */
export async function findAddress(host: string): Promise<string> {
  try {
    const { address } = await lookup(host)
    return await sourceAddress(address)
  } catch {
    return '127.0.0.1'
  }
}

function sourceAddress(target: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = createSocket(isIPv6(target) ? 'udp6' : 'udp4')
    const fail = (error: Error): void => {
      socket.close()
      reject(error)
    }
    socket.once('error', fail)
    // Any port does: the discard port says what is meant.
    socket.connect(9, target, () => {
      const { address } = socket.address()
      socket.close()
      resolve(address)
    })
  })
}
