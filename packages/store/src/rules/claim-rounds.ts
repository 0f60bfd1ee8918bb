import type { TaskId } from '@lichen/core'
import type { EngineIdentity } from '../ports/task-store.js'

/** A wish for a lease. */
export interface Claim {
  readonly task: TaskId
  readonly engine: EngineIdentity
  readonly now: number
  readonly until: number
}

/** Claims in rounds, none of which has two of one task: within a group the first one wins, as if they came one after the other. */
export function buildRounds(claims: readonly Claim[]): Claim[][] {
  const rounds: Claim[][] = []
  const seen = new Map<string, number>()
  for (const claim of claims) {
    const round = seen.get(claim.task) ?? 0
    seen.set(claim.task, round + 1)
    const members = rounds[round]
    if (members) members.push(claim)
    else rounds.push([claim])
  }
  return rounds
}
