/**
 * Two agents show the certificate of one node. A node that crashed and came back is told from a copy of it by its first stream: that one is dead, or it answers, and then one
 * of the two machines is a copy.
 */
import { type Clock, LichenError } from '@lichen/core'
import type { Session } from './session.js'

/** AGENT_CLONED when the older stream is alive; undefined when nothing is heard on it for so long after it was asked. */
export async function contest(older: Session, clock: Clock, proofOfLifeMs: number): Promise<LichenError | undefined> {
  const since = clock.elapsed()
  older.send({ $case: 'ping', value: {} })
  await new Promise<void>((resolve) => clock.after(proofOfLifeMs, resolve))
  if (older.heardAt <= since) return undefined
  return clonedError(older.node)
}

/** What the agent is told that is not let in. */
export const clonedError = (node: string): LichenError =>
  new LichenError('AGENT_CLONED', `another agent of node ${node} is connected and alive: one of the two machines is a copy of the other; delete the data directory of the agent on the copy, and join it under a name of its own`)
