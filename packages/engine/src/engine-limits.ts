/** Limits and intervals of an engine. Every choice says what breaks when it is halved or doubled. */
import { defaultTaskLimits, type TaskLimits } from '@lichen/core'

export interface EngineLimits {
  readonly task: TaskLimits
  /** How long a lease lasts without being renewed: how long a dead engine's tasks stand still. Renewed three times as often. */
  readonly leaseTtlMs: number
  /** How long an engine counts as running without renewing its row. */
  readonly engineTtlMs: number
  /** How often tasks that nobody drives are looked for. */
  readonly sweepMs: number
  /** Tasks driven at once; the rest waits in the store. */
  readonly maxTasks: number
  /** Bells in hand at once. */
  readonly prefetch: number
  /** How often agents say that they are alive, while they are few. */
  readonly heartbeatIntervalMs: number
  /** Heartbeats of all nodes together, at all engines: when there are more nodes, each says them less often. */
  readonly heartbeatsPerSecond: number
  /** How long a stream that was asked may take to show that it is alive, when another agent shows the certificate of its node. */
  readonly proofOfLifeMs: number
  /** Silence after which a node is recorded as lost, in heartbeats. */
  readonly lostAfterHeartbeats: number
  /** How long a connection to the gateway may say nothing before it is destroyed. */
  readonly silenceMs: number
  /** How often the registered nodes are read again, to see who was cordoned, labelled or deleted. */
  readonly nodesRefreshMs: number
  /** Log bytes of one node that may be on their way to the store. */
  readonly logWindowBytes: number
  /** Longest wait of a log chunk for others to be stored with. */
  readonly logFlushMs: number
  /** Life of a node's certificate; agents renew at two thirds. */
  readonly nodeCertificateLifeMs: number
}

/** The limits of production. */
export const defaultEngineLimits: EngineLimits = {
  task: defaultTaskLimits,
  // With the sweep, tasks of a dead engine go on within four seconds. Half loses leases in a long pause of garbage collection or of a slow disk (which costs a
  // take-over and nothing else); twice leaves a dead engine's tasks standing for as long as people begin to look for the cause.
  leaseTtlMs: 3_000,
  engineTtlMs: 10_000,
  // One indexed query that finds nothing, twice a second for each engine.
  sweepMs: 500,
  // A waiting task costs some KiB for each action in memory: more tasks at once finish none of them sooner.
  maxTasks: 1_000,
  prefetch: 100,
  // A stream that breaks is noticed at once: only a node that vanishes without a word counts as lost after half a minute.
  heartbeatIntervalMs: 10_000,
  // From 2,500 nodes on they grow rarer; 5,000 nodes say one every 20 s. Heartbeats are the larger part of what an idle fleet costs: with twice as many the gateway of 5,000 takes more than 5 % of a core.
  // Half as many leave a node that vanished `ready` for two minutes there.
  heartbeatsPerSecond: 250,
  // A node that lost its power waits for so long before it is let in again. Half of it takes a node for dead that is busy, and lets its copy in.
  proofOfLifeMs: 5_000,
  lostAfterHeartbeats: 3,
  // Above the interval of the agents' HTTP/2 pings (20 s, packages/agent/src/identity/join.ts). Less cuts off agents that are busy; more leaves a node whose path is dead `ready` after the time in which it
  // should be lost.
  silenceMs: 25_000,
  nodesRefreshMs: 5_000,
  // Covers 80 ms of the way to the store and back at 50 MB/s. Times 5,000 nodes it would be 20 GB, but they share one store that is slower than that.
  logWindowBytes: 4 * 1024 * 1024,
  logFlushMs: 5,
  nodeCertificateLifeMs: 24 * 3_600_000,
}

/** Limits as a caller gives them: any part. */
export type PartialEngineLimits = Partial<Omit<EngineLimits, 'task'>> & { readonly task?: Partial<TaskLimits> }

/** The default limits with these changes. */
export const buildEngineLimits = ({ task, ...rest }: PartialEngineLimits = {}): EngineLimits => ({ ...defaultEngineLimits, ...rest, task: { ...defaultTaskLimits, ...task } })
