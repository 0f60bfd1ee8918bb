/**
 * The systematic pass on the scaled-out system, before the storm: API or an engine dies right before or right after a durable write on PostgreSQL or RabbitMQ, or a message
 * between engines, and is started again. The tasks of the pass are checked with all others at the end; here it is seen that every point was come by.
 */
import { durableWrites } from '@lichen/server'
import type { Load } from './load.js'
import { until } from './patience.js'
import type { PointResult } from './points.js'
import type { System } from './system.js'

/** What the API's process writes by itself or for a client; the rest is the engines'. */
const ofApi: readonly string[] = ['store.create', 'store.deleteOutbox', 'store.appendAudit', 'broker.publish']
/** Come by only at the first start, or when somebody changes nodes, gives secrets out or stops an engine politely: the pass on single servers has them (points.ts). */
const elsewhere: readonly string[] = ['store.putJoinToken', 'store.deleteJoinToken', 'store.admitNode', 'store.setNode', 'store.deleteNode', 'store.removeEngine', 'store.putSecretsIfAbsent', 'store.putSecret', 'store.putApiToken']

/** How long a point may take to come by, with plans being submitted all the time. */
const patienceMs = 60_000

const submitEveryMs = 1_500

/** What every point came to. `isFull`: all names, else those that only several engines have. */
export async function runClusterPoints(system: System, load: Pick<Load, 'submitOne'>, isFull: boolean, say: (line: string) => void, signal: AbortSignal): Promise<readonly PointResult[]> {
  const writes = durableWrites.filter((write) => (isFull ? !elsewhere.includes(write) : write.startsWith('mailbox.')))
  const results: PointResult[] = []
  for (const point of writes.flatMap((write) => [`${write}:before`, `${write}:after`])) {
    signal.throwIfAborted()
    const isOfApi = ofApi.some((write) => point.startsWith(`${write}:`))
    const { process } = isOfApi ? system.api : system.engines[0]!
    const killed = process.ownEnds.length
    await process.restartWith({ LICHEN_TEST_CRASH_AT: point })
    const end = Date.now() + patienceMs
    for (let tries = 1; process.ownEnds.length === killed && Date.now() < end; tries++) {
      // Answered some time: the load waits for all answers at the end.
      void load.submitOne()
      await until('it came by', submitEveryMs, () => process.ownEnds.length > killed, 50).catch(() => undefined)
      // Tasks and nodes are with the other engine, which was there first: they move.
      if (!isOfApi && tries % 6 === 0 && process.ownEnds.length === killed) await system.engines[1]!.process.kill()
    }
    const isReached = process.ownEnds.slice(killed).includes('SIGKILL')
    // Not to be killed by it at a later write of this pass.
    if (!isReached) await process.restartWith({})
    await until(`${process.name} is started again`, patienceMs, () => process.pid() !== undefined)
    say(`${isReached ? 'SIGKILL' : 'NOT REACHED:'} ${process.name} at ${point}`)
    results.push({ point: `cluster ${point}`, problems: isReached ? [] : ['it never came by'] })
  }
  return results
}
