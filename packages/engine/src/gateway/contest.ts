/**
 * Two agents show the certificate of one node. A node that crashed and came back is told from a copy of it by its first stream: that one is dead, or it is heard again
 * within the time of some heartbeats, and then one of the two machines is a copy.
 */
import { type Clock, LichenError } from '@lichen/core'
import type { Session } from './session.js'

// A heartbeat that is late by half its interval is still one.
const patience = 1.5

/** AGENT_CLONED when the older stream is alive; undefined when it is silent for one and a half heartbeats. */
export async function contest(older: Session, clock: Clock, heartbeatIntervalMs: number): Promise<LichenError | undefined> {
  const since = clock.elapsed()
  await new Promise<void>((resolve) => clock.after(heartbeatIntervalMs * patience, resolve))
  if (older.heardAt <= since) return undefined
  return clonedError(older.node)
}

/** What the agent is told that is not let in. */
export const clonedError = (node: string): LichenError =>
  new LichenError('AGENT_CLONED', `another agent of node ${node} is connected and alive: one of the two machines is a copy of the other; delete the data directory of the agent on the copy, and join it under a name of its own`)
