/**
 * A node's stream that ends at another engine. Mailboxes lose messages, so it owns the memory of orders and cancels that were not answered yet and gives them again;
 * the node's journal makes a second one harmless.
 */
import type { Clock, NodeId } from '@lichen/core'
import { type AttemptKey, attemptKeyText, decodeCancel, decodeOrder, type EngineMessage } from '@lichen/protocol'
import type { NodeStream } from '../gateway/node-stream.js'

type Command = NonNullable<EngineMessage['message']>

export interface RemoteStreamParts {
  readonly engine: string
  readonly node: NodeId
  /** Of the session at the other engine. */
  readonly sessionId: string
  /** How manieth stream that was told of here: the same session told of again may have missed what was sent in between. */
  readonly number: number
  readonly running: ReadonlySet<string>
  readonly clock: Clock
  /** Puts the command on its way to the engine. */
  readonly send: (engine: string, stream: RemoteStream, command: Command) => void
}

// Twice the slowest way there and back that is still healthy. Halved it doubles commands under load, doubled a lost one waits longer than people do.
const repeatAfterMs = 2_000
// What nobody answered so often is not wanted there: the task was lost, and its new engine's orders are answered. A node that comes back late has a new stream, and gets it anew.
const giveUpAfterMs = 60_000

/** See the file header. */
export class RemoteStream implements NodeStream {
  readonly #parts: RemoteStreamParts
  readonly #unanswered = new Map<string, { readonly command: Command; readonly since: number; sentAt: number }>()

  constructor(parts: RemoteStreamParts) {
    this.#parts = parts
  }

  get node(): NodeId {
    return this.#parts.node
  }

  get id(): string {
    return `${this.#parts.sessionId}, told ${this.#parts.number}`
  }

  get sessionId(): string {
    return this.#parts.sessionId
  }

  get engine(): string {
    return this.#parts.engine
  }

  get running(): ReadonlySet<string> {
    return this.#parts.running
  }

  send(command: Command): boolean {
    const key = answeredKey(command)
    const now = this.#parts.clock.elapsed()
    if (key !== undefined) this.#unanswered.set(key, { command, since: now, sentAt: now })
    this.#parts.send(this.engine, this, command)
    return true
  }

  /** The node answered: `accepted` settles the order, anything else the cancel, too. */
  settle(key: AttemptKey, isEnd: boolean): void {
    this.#unanswered.delete(`order ${attemptKeyText(key)}`)
    if (isEnd) this.#unanswered.delete(`cancel ${attemptKeyText(key)}`)
  }

  /** Gives what has waited for an answer too long once more. */
  repeat(): void {
    const now = this.#parts.clock.elapsed()
    for (const [key, waiting] of this.#unanswered) {
      if (now - waiting.since > giveUpAfterMs) this.#unanswered.delete(key)
      if (now - waiting.sentAt < repeatAfterMs) continue
      waiting.sentAt = now
      this.#parts.send(this.engine, this, waiting.command)
    }
  }
}

function answeredKey(command: Command): string | undefined {
  const key = command.$case === 'order' ? decodeOrder(command.value.order).key : command.$case === 'cancel' ? decodeCancel(command.value.cancel).key : undefined
  return key && `${command.$case} ${attemptKeyText(key)}`
}
