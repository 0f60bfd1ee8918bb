/**
 * Where agents' connections come in. Owns the listening socket, what waits before the handshake, the count of those in it, and the end of those that say nothing any more. When thousands come back at once, serving all of them side by
 * side would end every handshake at about the same moment, late, and many agents would have given up by then: what they cost would be for nothing, and they would come again. So they go through
 * one after the other, some at a time, and the others wait unread, which costs next to nothing.
 *
 * 1. At most `throughAtOnce` connections are between being let through and their first call, or the end of `placeMs`: who says nothing holds up nobody for longer.
 * 2. First come, first served.
 * 3. One that waited for longer than agents do is closed unread: its agent has gone.
 * 4. One that came through and from which not a byte has come for `silenceMs` is destroyed, whatever the system believes of its path: agents say at least their heartbeats. It is counted in looks at
 *    all connections, each after what had come by then was read: a process that stood still does not take the living for silent. Asking each of thousands costs more than listening to all.
 */
import { createServer, type Socket } from 'node:net'
import type { Clock, Timer } from '@lichen/core'

export interface DoorwayParts {
  readonly host: string
  /** 0 lets the system choose. */
  readonly port: number
  readonly clock: Clock
  /** Takes the connection: TLS and all that follows. */
  readonly letThrough: (socket: Socket) => void
  /** How long a connection may say nothing. */
  readonly silenceMs: number
}

export interface Doorway {
  readonly port: number
  /** The connection from there (`address:port`) has made its first call: another may come through. */
  arrived(peer: string): void
  /** Listens no more, and destroys every connection: those that were let through and shake hands have nobody else who would. */
  stop(): void
}

// A handshake takes some 4 ms of a core, and over a long way three times 100 ms: half as many would let only 200 through each second there, twice as many would take a second of a core side by side.
export const throughAtOnce = 128
// For a way that takes 500 ms for a message and its answer. Half as much lets more than `throughAtOnce` through when the machine is slow, twice as much lets silent peers hold up the others.
const placeMs = 2_000
// As long as agents wait for a Welcome (packages/agent/src/link/link.ts).
const waitingLimitMs = 30_000
const backlog = 4_096
// Looks at all connections before one is silent for too long: it is destroyed up to a tenth later.
const looksUntilSilent = 10

/** A doorway that listens. Rejects with the error of the system when it cannot. */
export function openDoorway({ host, port, clock, letThrough, silenceMs }: DoorwayParts): Promise<Doorway> {
  const waiting: { readonly socket: Socket; readonly since: number }[] = []
  const places = new Map<string, Timer>()
  const inside = new Map<Socket, { heardBytes: number; silentLooks: number }>()

  function free(peer: string): void {
    const place = places.get(peer)
    if (place === undefined) return
    place.cancel()
    places.delete(peer)
    letNext()
  }

  function letNext(): void {
    while (places.size < throughAtOnce) {
      const next = waiting.shift()
      if (next === undefined) return
      const { socket, since } = next
      if (socket.destroyed) continue
      if (clock.elapsed() - since > waitingLimitMs) socket.destroy()
      else enter(socket)
    }
  }

  function enter(socket: Socket): void {
    const peer = peerOf(socket)
    places.set(peer, clock.after(placeMs, () => free(peer)))
    inside.set(socket, { heardBytes: 0, silentLooks: 0 })
    socket.once('close', () => {
      inside.delete(socket)
      free(peer)
    })
    letThrough(socket)
  }

  function look(): void {
    for (const [socket, sign] of inside) {
      const { bytesRead } = socket
      if (bytesRead !== sign.heardBytes) {
        sign.heardBytes = bytesRead
        sign.silentLooks = 0
      } else if (++sign.silentLooks >= looksUntilSilent) socket.destroy()
    }
  }
  const looking = clock.every(silenceMs / looksUntilSilent, look)

  const server = createServer({ pauseOnConnect: true, noDelay: true }, (socket) => {
    // Until TLS has it nobody else listens, and an 'error' without a listener ends the process.
    socket.on('error', () => undefined)
    waiting.push({ socket, since: clock.elapsed() })
    letNext()
  })
  return new Promise((resolve, reject) => {
    server.once('error', (error) => {
      looking.cancel()
      reject(error)
    })
    server.listen({ host, port, backlog }, () => {
      server.removeAllListeners('error')
      // Out of file descriptors, or an accept that was taken back: the next one may work.
      server.on('error', () => undefined)
      resolve({
        port: (server.address() as { port: number }).port,
        arrived: free,
        stop() {
          looking.cancel()
          server.close()
          for (const socket of [...waiting.splice(0).map((entry) => entry.socket), ...inside.keys()]) socket.destroy()
          for (const place of places.values()) place.cancel()
          places.clear()
        },
      })
    })
  })
}

/** As `getPeer` of a call says it. */
const peerOf = (socket: Socket): string => `${socket.remoteAddress}:${socket.remotePort}`
