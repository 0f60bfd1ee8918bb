/**
 * The mailboxes of one process. Owns the names that are open.
 * Invariants: (1) a receiver runs in a later turn of the event loop, never inside `send`; (2) messages come in the order sent; (3) a body is copied, so that
 * sender and receiver own theirs.
 */
import { LichenError } from '@lichen/core'
import type { Mailbox, PeerMessage } from '../broker.js'
import { checkMailboxBody, checkMailboxName } from '../mailbox-limits.js'
import type { BrokerLog } from '../topology.js'

type Receive = (message: PeerMessage) => void

export interface Mailboxes {
  /** @throws BROKER_MAILBOX_TAKEN when a mailbox of this name is open */
  open(name: string, receive: Receive): Mailbox
  close(): void
}

/** No mailboxes yet. */
export function openMailboxes(log: BrokerLog): Mailboxes {
  const receivers = new Map<string, Receive>()

  function deliver(to: string, receive: Receive, message: PeerMessage): void {
    // One that was closed meanwhile, also if another one has its name now.
    if (receivers.get(to) !== receive) return
    try {
      receive(message)
    } catch (error) {
      log.error({ err: error, from: message.from, mailbox: to }, 'a message of a mailbox could not be dealt with')
    }
  }

  function post(from: string, to: string, body: Uint8Array): boolean {
    const receive = receivers.get(to)
    if (receive === undefined) return false
    const message = { from, body: body.slice() }
    setImmediate(() => deliver(to, receive, message))
    return true
  }

  return {
    open(name, receive) {
      checkMailboxName(name)
      if (receivers.has(name)) throw new LichenError('BROKER_MAILBOX_TAKEN', `the mailbox "${name}" is open already; each engine needs a name of its own`)
      // A function of its own, because one receiver may serve several mailboxes.
      const own: Receive = (message) => receive(message)
      receivers.set(name, own)
      const check = (body: Uint8Array): void => {
        checkMailboxBody(body)
        if (receivers.get(name) !== own) throw new LichenError('BROKER_UNAVAILABLE', 'the mailbox is closed')
      }
      return {
        async send(to, body) {
          check(body)
          return post(name, to, body)
        },
        async broadcast(body) {
          check(body)
          for (const to of receivers.keys()) if (to !== name) post(name, to, body)
        },
        async close() {
          if (receivers.get(name) === own) receivers.delete(name)
        },
      }
    },
    close: () => receivers.clear(),
  }
}
