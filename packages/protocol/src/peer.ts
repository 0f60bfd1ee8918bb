/** Messages between engines as bytes. */
import { PeerBatch, type PeerMessage } from './generated/lichen/v1/peer.js'

export type { PeerMessage, StreamOpened } from './generated/lichen/v1/peer.js'

/** The messages as one body of a mailbox. */
export const encodePeerBatch = (messages: readonly PeerMessage[]): Buffer => Buffer.from(PeerBatch.encode({ messages: [...messages] }).finish())

/** The messages of a body, in order; undefined when it is none of ours. */
export function decodePeerBatch(body: Uint8Array): readonly PeerMessage[] | undefined {
  try {
    return PeerBatch.decode(body).messages
  } catch {
    return undefined
  }
}
