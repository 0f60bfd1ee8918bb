/**
 * The action graph: what a plan means on these nodes, in full. It is data (JSON), stored with its task; its digest covers every byte, so
 * the same plan, catalog and nodes give the same digest. Values that planning must not know stand in it as references (secret/reference.ts).
 */
import type { ActionId, NodeId, TaskId } from '../ids.js'
import type { OutputType } from '../blueprint/compiled-blueprint.js'
import type { Command } from '../command/command-schema.js'
import type { Plan } from '../plan/plan-schema.js'
import type { SecretRequirement } from '../secret/reference.js'
import type { SecretVersions } from '../secret/versions.js'

/** What a task does with a plan. `operation`: what its blueprints declare for later, such as a restart in waves. */
export type TaskKind = 'apply' | 'check' | 'destroy' | 'operation'

/** `do`: check, do, verify. `check`: the check alone, with a diff of what would change. */
export type ActionMode = 'do' | 'check'

/** One vertex: ordered commands for one node, one unit of dispatch. */
export interface Action {
  readonly id: ActionId
  readonly component: string
  /** Name of the action in its blueprint, with the relation for a per-relation action (`grant:keystone.database`), the wave for a check of a wave (`healthy:wave-1`). */
  readonly name: string
  readonly node: NodeId
  /** Node group of its component; failures are counted by it. Empty for the actions that look after unchanged ones. */
  readonly group: string
  readonly mode: ActionMode
  /** Actions that must have succeeded, and gates that must be open, before. Sorted. */
  readonly after: readonly ActionId[]
  readonly commands: readonly Command[]
  /** Limit of one attempt, on the node's clock. */
  readonly timeoutMs: number
  /** Limit of the action from its first attempt on, pauses included; null for none beyond its attempts. */
  readonly limitMs: number | null
  readonly retry: { readonly attempts: number; readonly backoffMs: number }
  /** How many of the same action of its component (of a per-relation one: whomever they serve) may be begun and not ended at once; without it, as the rollout allows. */
  readonly maxParallel?: number
  /** Content key: SHA-256, lower-case hex, over the commands (references unresolved), the mode and the registration of the node. The same key, the same effect. */
  readonly key: string
  /** Where the key is the one that this action last succeeded with: it is not sent unless what it stands on has moved. Null: it runs. */
  readonly unchanged: Unchanged | null
  /** Of the action that looks after unchanged ones: what its commands check, in their order. Empty for all others. */
  readonly verifies: readonly Verification[]
  /**
   * Where its node was not in the group at the deployment's last apply: others of the component do not know the node unless they are told of it, and then their content
   * differs. So what it changes makes no unchanged action of another component on another node run.
   */
  readonly isAddition?: true
  /** Where it looks whether its node can be what it is to be, before anything else begins: one that fails keeps no other from looking, so that all that is wrong is told at once. */
  readonly isPreflight?: true
  /** Where it takes away what no longer belongs to the deployment. It always runs. */
  readonly isDeparture?: true
}

/** Why an action may be left out. */
export interface Unchanged {
  /** The task in which it succeeded. */
  readonly since: TaskId
  /** Its plain outputs of then; secret ones are kept under the scope of that task. */
  readonly outputs: Readonly<Record<string, string>>
  /** The action that checks whether its effect is still there (it comes `after` it); null when nothing of it can be checked, or checking was not wanted. */
  readonly check: ActionId | null
}

/** So many commands of a verifying action, from where the one before ended, are those of `action`. */
export interface Verification {
  readonly action: ActionId
  readonly commands: number
}

/**
 * A vertex without a node: it opens by itself when all that it comes after is settled and few enough of it failed, or, with `approve`, when then a person approves, or
 * nothing after it changes.
 * Barriers, waves, approvals and what waits for preflights are gates.
 */
export interface Gate {
  /** Shares the name space of actions, e.g. `etcd/wave-1`, `etcd/approval`. */
  readonly id: ActionId
  readonly component: string
  /** Actions and gates. Sorted. */
  readonly after: readonly ActionId[]
  readonly approve: boolean
  /** How many of the actions that it comes after may fail. */
  readonly maxFailures: number
  /** What it stands for, in words: `wave 1 of 3 of etcd (canary: node-1)`. */
  readonly meaning: string
  /** Where it only says what goes first, as between waves: what changed before it does not make an unchanged action after it run. */
  readonly isOrderOnly?: true
}

/** Limits that hold for the actions of one node group. */
export interface GroupRollout {
  /** How many actions of the group may fail before nothing new of it is started; null: as the whole plan. */
  readonly maxFailures: number | null
  /** On how many nodes of the group actions may run at once; null: as the whole plan. */
  readonly maxParallelNodes: number | null
}

/** What people get of a component, as far as planning knows it: `value` has references in place of the rest. */
export interface GraphOutput {
  readonly component: string
  readonly name: string
  readonly type: OutputType
  readonly description: string
  /** It says so, or it names a secret, or a secret output of an action. */
  readonly isSecret: boolean
  readonly value: unknown
  /** Actions that must have succeeded for it to be there. Sorted. */
  readonly needs: readonly ActionId[]
}

/** One component that leaves nodes. It has gone when all its actions have succeeded; until then each apply goes on with it. */
export interface Departure {
  readonly component: string
  /** The nodes that it leaves. */
  readonly nodes: readonly NodeId[]
  /** It leaves all its nodes at once, because the plan does not have it any more. */
  readonly isWhole: boolean
  /** All that takes it away, also in earlier tasks. Sorted. */
  readonly actions: readonly ActionId[]
  /** Those of them that succeeded in an earlier task: they are not in this graph. Sorted. */
  readonly done: readonly ActionId[]
}

/** What leaves as it was planned then: the part of an earlier plan that tells how to take it away. */
export interface FormerPlan {
  readonly plan: Plan
  readonly placement: Readonly<Record<string, readonly NodeId[]>>
  readonly departures: readonly Departure[]
}

/** What stays known of a node when it is no longer registered. */
export interface KnownNode {
  readonly hostname: string
  readonly address: string
  readonly labels: Readonly<Record<string, string>>
}

/** The components of the deployment's last apply, each with its group, and the nodes of the groups then. */
export interface EarlierPlacement {
  readonly on: Readonly<Record<string, string>>
  readonly placement: Readonly<Record<string, readonly NodeId[]>>
}

export interface ActionGraph {
  readonly kind: TaskKind
  readonly project: string
  readonly deployment: string
  /** In an order in which each action stands after those it depends on (also through gates); ties broken by id. */
  readonly actions: readonly Action[]
  /** In an order in which each gate stands after those it depends on; ties broken by id. */
  readonly gates: readonly Gate[]
  readonly secrets: readonly SecretRequirement[]
  /** Of the deployment from here on; absent: nothing of it was ever rotated. */
  readonly secretVersions?: SecretVersions
  /** Of an apply whose components have any, in order of component and name. */
  readonly outputs?: readonly GraphOutput[]
  /** Group name → nodes chosen. */
  readonly placement: Readonly<Record<string, readonly NodeId[]>>
  /** `maxFailures`: of the whole plan; null: only groups and waves limit them. */
  readonly rollout: { readonly maxParallelNodes: number; readonly maxFailures: number | null; readonly groups: Readonly<Record<string, GroupRollout>> }
  /** `queuedMs`: how long an action that could begin may wait for it; null: the limits of the engine alone. `taskMs`: from acceptance, or from a retry, to the end; null: none. */
  readonly limits: { readonly queuedMs: number | null; readonly taskMs: number | null }
  /** What leaves the deployment with this task, newest plan first; absent: nothing does. */
  readonly departures?: readonly FormerPlan[]
  /**
   * What was known when it was planned, for later tasks of the deployment and for a retry. Not in the digest: what commands make of it is in their keys. Graphs of old
   * versions have none.
   */
  readonly known?: { readonly nodes: Readonly<Record<string, KnownNode>>; readonly before: EarlierPlacement | null }
  /** SHA-256, lower-case hex, over the canonical JSON of everything above but `known`, where the key of an action stands for its commands. */
  readonly digest: string
}
