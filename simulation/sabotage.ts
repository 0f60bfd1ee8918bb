/**
 * Proof that the simulator can fail: each protection of the system, turned off in the adapters that are handed to it. The code of the system is the same with and without.
 * `test/simulation/sabotage.test.ts` sees to it that an invariant that the protection is for breaks then, and that the same faults break none with the protection.
 */
import type { Deployment } from './deployment.js'
import type { Fault, FaultKind, PlanFaults } from './faults.js'
import type { InvariantNumber } from './invariants.js'

/** One protection. */
export interface Protection {
  /** One of these invariants breaks without it. */
  readonly breaks: readonly InvariantNumber[]
  /** Faults that it protects from. Default: all kinds. */
  readonly faults?: readonly FaultKind[] | PlanFaults
}

/** Engines that stand still or are cut off while the store is slow: their leases are taken over while something of theirs is on its way. */
const lostLeases: PlanFaults = (random, { engines }) => [
  { kind: 'slowstore', target: 'store', moment: { atMs: random.between(0, 1_500) }, forMs: 40_000, detail: random.between(0.3, 0.9) },
  ...Array.from({ length: 3 }, (): Fault => ({ kind: random.chance(0.6) ? 'stop' : 'partition', target: `engine-${random.integer(1, engines)}`, moment: { atMs: random.between(1_000, 12_000) }, forMs: random.between(3_000, 7_000), detail: random.next() })),
]

/** The same, and what engines tell each other is late or lost. */
const lateOrders: PlanFaults = (random, { engines }) => [
  { kind: 'messages', target: 'broker', moment: { atMs: 0 }, forMs: 40_000, detail: 1 },
  { kind: 'slowstore', target: 'store', moment: { atMs: random.between(0, 1_500) }, forMs: 40_000, detail: random.between(0, 0.5) },
  ...Array.from({ length: 4 }, (): Fault => ({ kind: random.chance(0.5) ? 'stop' : 'partition', target: random.pick([`engine-${random.integer(1, engines)}`, 'broker']), moment: { atMs: random.between(500, 12_000) }, forMs: random.between(2_500, 7_000), detail: random.next() })),
]

/** Every protection that can be turned off. */
export const sabotages = {
  /** Disks say that the journal is on them, and it is not. */
  fsync: { breaks: [5, 2, 4], faults: ['node', 'torn'] },
  /** The same of log lines alone: the engine has lines that the node has not, after a power cut. */
  'spool sync': { breaks: [8], faults: ['node', 'torn'] },
  /** The store takes events of engines that lost their lease. */
  'fencing in the store': { breaks: [9], faults: lostLeases },
  /** Agents take orders of engines that lost their lease. */
  'fencing on nodes': { breaks: [9], faults: lateOrders },
  /** Agents find nothing in their journal when they start. */
  dedup: { breaks: [2, 4, 5] },
  /** Tasks are recorded without a bell, and nobody sweeps. */
  outbox: { breaks: [6] },
  /** The store gives one lease to several engines. */
  lease: { breaks: [16] },
  /** The store gives tasks of one deployment to engines at the same time. */
  turns: { breaks: [18] },
  /** Checks see an effect that is not there. */
  'check says there': { breaks: [11] },
  /** Checks do not see an effect that is there. */
  'check says missing': { breaks: [4] },
} as const satisfies Record<string, Protection>

export type Sabotage = keyof typeof sabotages

/** Turns the protection off, before the deployment is started. */
export function turnOff(deployment: Deployment, sabotage: Sabotage): void {
  const { tasks } = deployment.around.database
  const nodes = [...deployment.nodes.values()]
  switch (sabotage) {
    case 'fsync':
      for (const node of nodes) node.disk.weather.forgetsSyncs = /\/journal/
      return
    case 'spool sync':
      for (const node of nodes) node.disk.weather.forgetsSyncs = /\/spool/
      return
    case 'fencing in the store':
      tasks.sabotage.ignoresEpochs = true
      return
    case 'fencing on nodes':
      for (const node of nodes) node.trustsEveryEpoch = true
      return
    case 'dedup':
      for (const node of nodes) node.disk.weather.hides = /journal\.log$/
      return
    case 'turns':
      tasks.sabotage.ignoresTurns = true
      return
    case 'outbox':
      tasks.sabotage.forgetsBells = true
      return
    case 'lease':
      tasks.sabotage.sharesLeases = true
      return
    case 'check says there':
      for (const node of nodes) node.programs.checks = 'always there'
      return
    case 'check says missing':
      for (const node of nodes) node.programs.checks = 'never there'
      return
  }
}
