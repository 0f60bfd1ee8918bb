import type { NodeId } from '@lichen/core'
import type { EngineMessage } from '@lichen/protocol'

/** The way to a node whose agent is connected: to this engine (`Session`), or to another one (`RemoteStream`). */
export interface NodeStream {
  readonly node: NodeId
  /** Different for every stream of every engine. */
  readonly id: string
  /** Attempts (`attemptKeyText`) that the node said it is running, when it connected. */
  readonly running: ReadonlySet<string>
  /** False when the stream is known to be closed: the message is dropped then. */
  send(message: NonNullable<EngineMessage['message']>): boolean
}
