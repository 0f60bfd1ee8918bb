import type { Plan } from '../plan/plan-schema.js'
import type { ActionGraph, GroupRollout } from './action-graph.js'
import { wavesOf } from './waves.js'

/** On how many nodes at once, unless the plan says: enough to keep a mirror busy without drowning it. */
const defaultMaxParallelNodes = 50

/** The limits of the rollout as the engine wants them. `groups` has those that say something of their own. */
export function buildRollout(plan: Plan): ActionGraph['rollout'] {
  const groups = plan.nodes.filter(({ rollout }) => rollout?.maxFailures !== undefined || rollout?.maxParallelNodes !== undefined).sort((a, b) => (a.name < b.name ? -1 : 1))
  const isSaidElsewhere = plan.nodes.some((group) => group.rollout?.maxFailures !== undefined || wavesOf(plan, group)?.entries.some((entry) => entry.maxFailures !== undefined))
  return {
    maxParallelNodes: plan.rollout?.maxParallelNodes ?? defaultMaxParallelNodes,
    maxFailures: plan.rollout?.maxFailures ?? (isSaidElsewhere ? null : 0),
    groups: Object.fromEntries(groups.map(({ name, rollout }): [string, GroupRollout] => [name, { maxFailures: rollout?.maxFailures ?? null, maxParallelNodes: rollout?.maxParallelNodes ?? null }])),
  }
}

/** The time limits of the plan, in milliseconds. */
export const buildLimits = ({ limits }: Plan): ActionGraph['limits'] => ({ queuedMs: toMs(limits?.queuedS), taskMs: toMs(limits?.taskS) })

const toMs = (seconds: number | undefined): number | null => (seconds === undefined ? null : seconds * 1000)
