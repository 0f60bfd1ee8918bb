/**
 * Port: the bell. Messages say "look at this task"; the store is the truth, so a message may be lost, doubled or late without harm.
 * Queues are declared in topology.ts; both adapters pass one contract test (test/broker/contract.ts).
 */

/** Names of the queues. `tasks`: for one of the engines. */
export type QueueName = 'tasks'

export interface Message {
  /** JSON text. */
  readonly body: string
  /** Unique for each announcement; for logs and dead letters only, never for correctness. */
  readonly id: string
  /** True when the broker delivers it not for the first time. */
  readonly isRedelivered: boolean
}

/** What the consumer decided. `ack` only after a durable record. `retry`: again later, up to the delivery limit. `dead`: keep it among the dead letters with the reason. */
export type Verdict = { readonly verdict: 'ack' } | { readonly verdict: 'retry' } | { readonly verdict: 'dead'; readonly reason: string }

export interface DeadLetter {
  readonly id: string
  readonly queue: QueueName
  readonly body: string
  readonly reason: string
  readonly diedAt: number
}

/** A message from another engine. `from`: the name of its mailbox. */
export interface PeerMessage {
  readonly from: string
  readonly body: Uint8Array
}

/**
 * The way engines talk to each other: at most once, in the order sent by one sender while no connection breaks, gone when the addressee is away. Whoever needs an
 * answer asks again; nothing of it is kept by the broker.
 */
export interface Mailbox {
  /** True when the broker took the message for an open mailbox of this name; false when there is none. Bodies up to 16 MiB. @throws BROKER_UNAVAILABLE */
  send(to: string, body: Uint8Array): Promise<boolean>
  /** To every other open mailbox. Resolves when the broker has taken it. @throws BROKER_UNAVAILABLE */
  broadcast(body: Uint8Array): Promise<void>
  /** Closes it; nothing is received any more. */
  close(): Promise<void>
}

export interface Broker {
  /** Resolves when every message is confirmed by the broker and was routed to a queue. @throws BROKER_UNAVAILABLE */
  publish(queue: QueueName, messages: readonly { readonly id: string; readonly body: string }[]): Promise<void>
  /** Calls `receive` for each message, at most `prefetch` at a time, across reconnections, until the returned function is called (it waits for running receivers). */
  consume(queue: QueueName, prefetch: number, receive: (message: Message) => Promise<Verdict>): Promise<() => Promise<void>>
  /**
   * Opens the mailbox of this name and calls `receive` for each message, across reconnections; `reopened` is called after each of those, because what was sent in between is lost.
   * The name is checked at opening only, and a process that does not answer for three seconds counts as gone; one that lost its connection comes back without being
   * asked. So two of one name are possible for a time: each then gets what is sent to the name. Whoever must be the only one asks the store.
   * @throws BROKER_UNAVAILABLE, and BROKER_MAILBOX_TAKEN when another process has a mailbox of this name open
   */
  openMailbox(name: string, receive: (message: PeerMessage) => void, reopened?: () => void): Promise<Mailbox>
  /** Oldest first; they stay where they are. */
  listDeadLetters(limit: number): Promise<readonly DeadLetter[]>
  /** The dead letter with this id, the oldest if several have it; it stays where it is. */
  readDeadLetter(id: string): Promise<DeadLetter | undefined>
  /** Puts the dead letter back on its queue; false when it is not there any more. */
  replayDeadLetter(id: string): Promise<boolean>
  /** True while publishing would work now. */
  isConnected(): boolean
  close(): Promise<void>
}
