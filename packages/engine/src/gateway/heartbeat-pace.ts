/** How often nodes say that they are alive: the more there are, the less often, so that all of them together cost the engines and the store no more than so many heartbeats a second. */
import type { EngineLimits } from '../engine-limits.js'

/** The interval for each of so many nodes, ms. */
export const heartbeatIntervalOf = (nodes: number, { heartbeatIntervalMs, heartbeatsPerSecond }: Pick<EngineLimits, 'heartbeatIntervalMs' | 'heartbeatsPerSecond'>): number =>
  Math.max(heartbeatIntervalMs, Math.ceil((nodes / heartbeatsPerSecond) * 1000))

/** Whether an agent that was told one interval is to be told the other: not for each node that comes or goes. */
export const isOtherPace = (toldMs: number, wantedMs: number): boolean => Math.abs(wantedMs - toldMs) > toldMs / 5
