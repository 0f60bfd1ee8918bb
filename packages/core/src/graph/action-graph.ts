/**
 * The action graph: what a plan means on these nodes, in full. It is data (JSON), stored with its task; its digest covers every byte, so
 * the same plan, catalog and nodes give the same digest. Values that planning must not know stand in it as references (secret/reference.ts).
 */
import type { ActionId, NodeId } from '../ids.js'
import type { Command } from '../command/command-schema.js'
import type { SecretRequirement } from '../secret/reference.js'

/** What a task does with a plan. */
export type TaskKind = 'apply' | 'check' | 'destroy'

/** `do`: check, do, verify. `check`: the check alone, with a diff of what would change. */
export type ActionMode = 'do' | 'check'

/** One vertex: ordered commands for one node, one unit of dispatch. */
export interface Action {
  readonly id: ActionId
  readonly component: string
  /** Name of the action in its blueprint, with the relation for a per-relation action (`grant:keystone.database`). */
  readonly name: string
  readonly node: NodeId
  readonly mode: ActionMode
  /** Actions that must have succeeded before. Sorted. */
  readonly after: readonly ActionId[]
  readonly commands: readonly Command[]
  /** Limit of one attempt, on the node's clock. */
  readonly timeoutMs: number
  readonly retry: { readonly attempts: number; readonly backoffMs: number }
}

export interface ActionGraph {
  readonly kind: TaskKind
  readonly project: string
  readonly deployment: string
  /** In an order in which each action stands after those it depends on; ties broken by id. */
  readonly actions: readonly Action[]
  readonly secrets: readonly SecretRequirement[]
  /** Group name → nodes chosen. */
  readonly placement: Readonly<Record<string, readonly NodeId[]>>
  readonly rollout: { readonly maxParallelNodes: number; readonly maxFailures: number }
  /** SHA-256, lower-case hex, over the canonical JSON of everything above. */
  readonly digest: string
}
