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

export interface Broker {
  /** Resolves when every message is confirmed by the broker and was routed to a queue. @throws BROKER_UNAVAILABLE */
  publish(queue: QueueName, messages: readonly { readonly id: string; readonly body: string }[]): Promise<void>
  /** Calls `receive` for each message, at most `prefetch` at a time, across reconnections, until the returned function is called (it waits for running receivers). */
  consume(queue: QueueName, prefetch: number, receive: (message: Message) => Promise<Verdict>): Promise<() => Promise<void>>
  /** Oldest first; they stay where they are. */
  listDeadLetters(limit: number): Promise<readonly DeadLetter[]>
  /** Puts the dead letter back on its queue; false when it is not there any more. */
  replayDeadLetter(id: string): Promise<boolean>
  /** True while publishing would work now. */
  isConnected(): boolean
  close(): Promise<void>
}
