/**
 * One queue in memory with its consumers. Owns what waits and who receives; the verdicts are decided by `deliver`.
 * Invariants: (1) a consumer has at most `prefetch` messages at a time; (2) consumers with room take turns; (3) after a consumer's stop function
 * resolved none of its receivers runs.
 */
import type { Message, Verdict } from '../broker.js'

export interface QueuedMessage {
  readonly id: string
  readonly body: string
  /** How often it was given to a receiver. */
  deliveries: number
}

export interface Consumer {
  receive(message: Message): Promise<Verdict>
  /** Resolves after `ms`, or as soon as the consumer stops. */
  pause(ms: number): Promise<void>
}

interface RegisteredConsumer extends Consumer {
  readonly prefetch: number
  readonly running: Set<Promise<void>>
  readonly pauses: Set<() => void>
  isStopped: boolean
}

export interface MessageQueue {
  /** Messages that wait. */
  length(): number
  push(messages: readonly QueuedMessage[]): void
  addConsumer(prefetch: number, receive: (message: Message) => Promise<Verdict>): () => Promise<void>
  close(): Promise<void>
}

function buildConsumer(prefetch: number, receive: (message: Message) => Promise<Verdict>): RegisteredConsumer {
  const pauses = new Set<() => void>()
  const consumer: RegisteredConsumer = {
    prefetch, receive, pauses, running: new Set(), isStopped: false,
    pause(ms) {
      if (consumer.isStopped) return Promise.resolve()
      return new Promise((resolve) => {
        const end = (): void => {
          clearTimeout(timer)
          pauses.delete(end)
          resolve()
        }
        const timer = setTimeout(end, ms)
        pauses.add(end)
      })
    },
  }
  return consumer
}

/** An empty queue. `deliver` gives one message to a consumer and answers true when the message goes back. */
export function openMessageQueue(deliver: (consumer: Consumer, message: QueuedMessage) => Promise<boolean>): MessageQueue {
  let waiting: QueuedMessage[] = []
  // Index of the front: `shift` would cost the length of the queue each time.
  let front = 0
  let turn = 0
  let isPlanned = false
  const consumers: RegisteredConsumer[] = []

  function plan(): void {
    if (isPlanned) return
    isPlanned = true
    setImmediate(dispatch)
  }

  function dispatch(): void {
    isPlanned = false
    for (let consumer = nextConsumer(); consumer !== undefined && front < waiting.length; consumer = nextConsumer()) {
      const message = waiting[front] as QueuedMessage
      front += 1
      start(consumer, message)
    }
    if (front === waiting.length || front > 10_000) {
      waiting = waiting.slice(front)
      front = 0
    }
  }

  function start(consumer: RegisteredConsumer, message: QueuedMessage): void {
    const running: Promise<void> = deliver(consumer, message).then((goesBack) => {
      if (goesBack) putBack(message)
      consumer.running.delete(running)
      plan()
    })
    consumer.running.add(running)
  }

  function putBack(message: QueuedMessage): void {
    if (front > 0) waiting[(front -= 1)] = message
    else waiting.unshift(message)
  }

  function nextConsumer(): RegisteredConsumer | undefined {
    for (let tried = 0; tried < consumers.length; tried++) {
      const consumer = consumers[(turn + tried) % consumers.length]
      if (consumer === undefined || consumer.running.size >= consumer.prefetch) continue
      turn = (turn + tried + 1) % consumers.length
      return consumer
    }
    return undefined
  }

  async function stop(consumer: RegisteredConsumer): Promise<void> {
    consumer.isStopped = true
    const at = consumers.indexOf(consumer)
    if (at >= 0) consumers.splice(at, 1)
    for (const end of [...consumer.pauses]) end()
    await Promise.all(consumer.running)
  }

  return {
    length: () => waiting.length - front,
    push(messages) {
      for (const message of messages) waiting.push(message)
      plan()
    },
    addConsumer(prefetch, receive) {
      const consumer = buildConsumer(prefetch, receive)
      consumers.push(consumer)
      plan()
      return () => stop(consumer)
    },
    async close() {
      await Promise.all([...consumers].map(stop))
    },
  }
}
