/**
 * Which nodes are connected to which other engine, as those engines tell. Owns the remote streams. Told late or wrong it costs time and nothing else: a command that
 * does not arrive is sent again or expires, and nodes check what they get.
 * Invariants: (1) a node has at most one remote stream, the one told of last; (2) an engine that is gone has none.
 */
import { type NodeId, nodeId } from '@lichen/core'
import { attemptKeyText, type StreamOpened } from '@lichen/protocol'
import { RemoteStream, type RemoteStreamParts } from './remote-stream.js'

export interface Presence {
  find(node: NodeId): RemoteStream | undefined
  list(): Iterable<RemoteStream>
  /** The stream that took the place of any other of its node. */
  open(engine: string, opened: StreamOpened): RemoteStream
  /** The node whose stream is gone by this; undefined when it was not the one that is known. */
  close(engine: string, node: NodeId, id: string): NodeId | undefined
  /** Forgets the streams of the engine, and gives back their nodes. */
  forget(engine: string): readonly NodeId[]
  engines(): ReadonlySet<string>
}

/** Nobody is connected anywhere else. */
export function buildPresence(parts: Pick<RemoteStreamParts, 'clock' | 'send'>): Presence {
  const streams = new Map<NodeId, RemoteStream>()
  let told = 0
  return {
    find: (node) => streams.get(node),
    list: () => streams.values(),
    open(engine, opened) {
      const stream = new RemoteStream({ ...parts, engine, node: nodeId(opened.nodeId), sessionId: opened.sessionId, number: (told += 1), running: new Set(opened.running.map(attemptKeyText)) })
      streams.set(stream.node, stream)
      return stream
    },
    close(engine, node, id) {
      const known = streams.get(node)
      if (known === undefined || known.engine !== engine || known.sessionId !== id) return undefined
      streams.delete(node)
      return node
    },
    forget(engine) {
      const gone = [...streams.values()].filter((stream) => stream.engine === engine).map((stream) => stream.node)
      for (const node of gone) streams.delete(node)
      return gone
    },
    engines: () => new Set([...streams.values()].map((stream) => stream.engine)),
  }
}
