/** A blueprint with everything that can be compiled once: parameter validators, rules, outputs, commands. Made by parseBlueprint. */
import type { CommandKind } from '../command/command-schema.js'
import type { SecretDeclaration } from '../secret/versions.js'
import type { CompiledValue } from './compiled-value.js'
import type { CompiledExpression } from './expression.js'

/** Fills in defaults and reports what does not fit. `path` is dotted, without a leading dot. */
export type ValueValidator = (value: Record<string, unknown>) => { readonly value: Record<string, unknown>; readonly problems: readonly { readonly path: string; readonly message: string }[] }

export interface CompiledCommand {
  readonly name: CompiledValue
  readonly kind: CommandKind
  readonly when: CompiledExpression | undefined
  readonly forEach: CompiledExpression | undefined
  readonly timeoutMs: number
  readonly spec: CompiledValue
}

export interface CompiledAction {
  readonly name: string
  readonly phase: 'preflight' | 'apply' | 'check' | 'leave' | 'remove' | 'operation'
  /** The operation that it belongs to; null outside of phase `operation`. */
  readonly operation: string | null
  readonly on: 'each' | 'first' | 'relation'
  /** Actions of the same phase before it. */
  readonly after: readonly string[]
  /** Relations whose providers must be complete before it; null: all. */
  readonly needs: readonly string[] | null
  /** Relations of which only what prepares the provider for this component must be done before it. */
  readonly prepared: readonly string[]
  readonly timeoutMs: number | null
  /** Limit over all attempts, from the first on; null: none. */
  readonly limitMs: number | null
  /** A check that is made after each wave, too. */
  readonly isGate: boolean
  /** How many of it in a component may be begun and not ended at once; null: as the rollout says. */
  readonly maxParallel: number | null
  /** Of an action of the phase `leave`: one node after the other. */
  readonly isSerial: boolean
  /** Of a per-relation removal: it concerns the nodes of the relation alone, so some of them may leave without the others. */
  readonly isPerNode: boolean
  /** Of a per-relation action: on every node of the component, not on the first alone. */
  readonly isOnEveryNode: boolean
  readonly retry: { readonly attempts: number; readonly backoffMs: number }
  readonly commands: readonly CompiledCommand[]
}

export interface CompiledRequirement {
  readonly interface: string
  readonly isOptional: boolean
  readonly with: CompiledValue
}

/** What kind of value an output is. */
export type OutputType = 'string' | 'integer' | 'boolean' | 'list'

export interface CompiledOutput {
  readonly name: string
  readonly type: OutputType
  readonly value: CompiledExpression
}

export interface CompiledProvision {
  readonly interface: string
  readonly validateInputs: ValueValidator
  readonly secrets: readonly SecretDeclaration[]
  readonly outputs: readonly CompiledOutput[]
  readonly action: string | undefined
  readonly removeAction: string | undefined
}

export interface CompiledOperation {
  readonly validateParameters: ValueValidator
  /** Where the plan has none; undefined: all nodes at once. */
  readonly waves: readonly { readonly nodes?: number | string; readonly approve?: boolean }[] | undefined
}

export interface CompiledBlueprint {
  readonly validateParameters: ValueValidator
  readonly rules: readonly { readonly expression: CompiledExpression; readonly message: string; readonly path: string }[]
  /** Names without the component. */
  readonly secrets: readonly SecretDeclaration[]
  readonly requires: ReadonlyMap<string, CompiledRequirement>
  readonly provides: ReadonlyMap<string, CompiledProvision>
  /** What people get of it. */
  readonly outputs: readonly CompiledOutput[]
  readonly operations: ReadonlyMap<string, CompiledOperation>
  /** In file order. */
  readonly actions: readonly CompiledAction[]
}
