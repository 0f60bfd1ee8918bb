/**
 * A blueprint as its author writes it in `catalog/<name>/blueprint.yaml`. Strings inside commands are Liquid templates; `when`, `forEach`,
 * `rules` and `outputs` are CEL expressions. Both see the same context, documented in docs/blueprints.md:
 * `params`, `node` (id, address, hostname, labels, facts), `nodes` (all of the component's group), `before`, `staying`, `leaving`, `component`, `deployment`, `secrets`,
 * `uses.<relation>` (typed outputs of the provider), in an action of an operation `operation` (name, params), and in a per-relation action `relation` (inputs, consumer, nodes, secrets).
 */
import { Type, type Static } from '@sinclair/typebox'
import { commandSchemas, type CommandKind } from '../command/command-schema.js'
import { WaveSchema } from '../plan/plan-schema.js'
import type { CompiledBlueprint } from './compiled-blueprint.js'

const strict = { additionalProperties: false } as const
const Identifier = Type.String({ pattern: '^[A-Za-z][A-Za-z0-9]*$' })
const Expression = Type.String({ minLength: 1, description: 'A CEL expression.' })
const JsonSchema = Type.Record(Type.String(), Type.Unknown(), { description: 'A JSON Schema (2020-12).' })

const SecretsSchema = Type.Record(Identifier, Type.Object({ length: Type.Optional(Type.Integer({ minimum: 8, maximum: 256 })), rotate: Type.Optional(Type.Boolean()) }, strict), {
  description: 'Secrets generated once for each component (or relation) and kept encrypted. Default length: 32. `rotate: false`: keeps its value, because something is encrypted with it.',
  additionalProperties: false,
})

/** What every typed output says, of a provision and of the blueprint itself. */
const typedValue = {
  type: Type.Union([Type.Literal('string'), Type.Literal('integer'), Type.Literal('boolean'), Type.Literal('list')]),
  value: Expression,
  description: Type.Optional(Type.String()),
}

const RawSpec = Type.Optional(Type.Record(Type.String(), Type.Unknown()))

/** One command: common fields and exactly one key that is its kind. Checked in full once its templates are rendered. */
export const BlueprintCommandSchema = Type.Object(
  {
    name: Type.String({ minLength: 1, maxLength: 200 }),
    when: Type.Optional(Expression),
    forEach: Type.Optional(Type.String({ description: 'CEL expression that gives a list: the command is repeated with `item` and `index`.' })),
    timeoutS: Type.Optional(Type.Integer({ minimum: 1, maximum: 86_400 })),
    ...(Object.fromEntries(Object.keys(commandSchemas).map((kind) => [kind, RawSpec])) as Record<CommandKind, typeof RawSpec>),
  },
  strict,
)

export const BlueprintActionSchema = Type.Object(
  {
    /** In which tasks it takes part. Default by name: `preflight`, `check`, `leave` and `remove` are their own phase, any other name is `apply`. `preflight`: looks whether a node can be what it is to be, before an apply begins. */
    phase: Type.Optional(Type.Union([Type.Literal('preflight'), Type.Literal('apply'), Type.Literal('check'), Type.Literal('leave'), Type.Literal('remove'), Type.Literal('operation')])),
    /** Of an action of phase `operation`: the operation that it belongs to. */
    operation: Type.Optional(Identifier),
    /** `each`: on every node of the group (default). `first`: on the first only. `relation`: on the first node, once for each consumer (named by `provides.*.action`). */
    on: Type.Optional(Type.Union([Type.Literal('each'), Type.Literal('first'), Type.Literal('relation')])),
    /** Actions of the same component and phase that must succeed before it: node by node where both run on `each`, else on all their nodes. Default: the action (not per relation) written before it. */
    after: Type.Optional(Type.Array(Identifier)),
    /** Relations whose provider must be complete before it. Default: all; of a preflight: none. `[]` lets it run beside the provider (e.g. installing packages). */
    needs: Type.Optional(Type.Array(Identifier)),
    /** Relations of which it waits, in an apply, for what prepares the provider for this component alone (the provision's `action`), and not for the whole provider. A provision without one is waited for as by `needs`. */
    prepared: Type.Optional(Type.Array(Identifier)),
    timeoutS: Type.Optional(Type.Integer({ minimum: 1, maximum: 604_800, description: 'Limit of one attempt. Default: the sum of its commands.' })),
    limitS: Type.Optional(Type.Integer({ minimum: 1, maximum: 604_800, description: 'Limit of the action from its first attempt on, further attempts and the pauses between them included. Default: none.' })),
    /** A check that holds while only a part of the nodes is done: it is made after each wave, too, and the next wave waits for it. */
    gate: Type.Optional(Type.Boolean()),
    /** On how many nodes (or, per relation, for how many consumers) it runs at once, whatever the rollout allows. Default: as the rollout says. */
    maxParallel: Type.Optional(Type.Integer({ minimum: 1, maximum: 10_000 })),
    /** Of an action of the phase `leave`: one node after the other. The next one begins when its component has left the one before. */
    serial: Type.Optional(Type.Boolean()),
    /** Of a `removeAction`: it takes away what belongs to the nodes in `relation.nodes` and nothing else, so it is made also when the consumer leaves some of its nodes. */
    perNode: Type.Optional(Type.Boolean()),
    /** Of a per-relation action: it is made on every node of the group, not on the first alone. */
    everyNode: Type.Optional(Type.Boolean()),
    retry: Type.Optional(
      Type.Object({ attempts: Type.Integer({ minimum: 1, maximum: 100 }), backoffS: Type.Optional(Type.Number({ minimum: 0, maximum: 3600 })) }, strict),
    ),
    commands: Type.Array(BlueprintCommandSchema, { minItems: 1 }),
  },
  strict,
)

export const BlueprintSchema = Type.Object(
  {
    apiVersion: Type.Literal('lichen.dev/v1'),
    kind: Type.Literal('Blueprint'),
    name: Type.String({ pattern: '^[a-z0-9][-a-z0-9]*$' }),
    version: Type.String({ description: 'Semantic version.' }),
    summary: Type.String(),
    parameters: Type.Optional(JsonSchema),
    rules: Type.Optional(Type.Array(Type.Object({ expression: Expression, message: Type.String(), path: Type.Optional(Type.String()) }, strict))),
    secrets: Type.Optional(SecretsSchema),
    /** What it takes of each node for itself, e.g. `kubelet`: no other component that claims the same may be there, of this deployment or of another one. */
    claims: Type.Optional(Type.Array(Type.String({ pattern: '^[a-z][a-z0-9-]*$' }))),
    requires: Type.Optional(
      Type.Record(
        Identifier,
        Type.Object(
          {
            interface: Type.String(),
            optional: Type.Optional(Type.Boolean()),
            /** What it tells the provider; strings are templates over this component's `params`, `component`, `deployment`. */
            with: Type.Optional(Type.Record(Identifier, Type.Unknown(), strict)),
          },
          strict,
        ),
        strict,
      ),
    ),
    provides: Type.Optional(
      Type.Record(
        Identifier,
        Type.Object(
          {
            interface: Type.String(),
            inputs: Type.Optional(JsonSchema),
            /** Generated for each relation. */
            secrets: Type.Optional(SecretsSchema),
            /** Typed outputs: CEL over the provider's context plus `relation`. */
            outputs: Type.Record(Identifier, Type.Object(typedValue, strict), strict),
            /** An action with `on: relation` that prepares the provider for this consumer. */
            action: Type.Optional(Identifier),
            /** The action that takes the consumer's part away again. */
            removeAction: Type.Optional(Identifier),
          },
          strict,
        ),
        strict,
      ),
    ),
    /** What people get of it: CEL over the context of the component's first node. */
    outputs: Type.Optional(
      Type.Record(Identifier, Type.Object({ ...typedValue, secret: Type.Optional(Type.Boolean({ description: 'Shown to who asks for it by name, never in a list.' })) }, strict), strict),
    ),
    operations: Type.Optional(
      Type.Record(
        Identifier,
        Type.Object(
          {
            summary: Type.String({ minLength: 1, maxLength: 200 }),
            parameters: Type.Optional(JsonSchema),
            /** In which the nodes are gone over when the rollout of the plan has none. Default: all at once. */
            waves: Type.Optional(Type.Array(Type.Pick(WaveSchema, ['nodes', 'approve'], strict), { minItems: 1, maxItems: 100 })),
          },
          strict,
        ),
        { ...strict, description: 'What can be done with the component once it is there: names → summary, parameters and waves of what its actions of phase `operation` do.' },
      ),
    ),
    actions: Type.Record(Identifier, BlueprintActionSchema, strict),
  },
  { $id: 'Blueprint', additionalProperties: false },
)

/** A blueprint that has the right shape; `checkBlueprint` says whether it makes sense. */
export type BlueprintDocument = Static<typeof BlueprintSchema>
export type BlueprintAction = Static<typeof BlueprintActionSchema>

/** A blueprint with its templates: relative file name → text. `digest` covers both, so a changed template is a changed blueprint. */
export interface Blueprint {
  readonly document: BlueprintDocument
  readonly templates: Readonly<Record<string, string>>
  readonly digest: string
  readonly compiled: CompiledBlueprint
}

/** Every blueprint known, all versions. Built by `buildCatalog`. */
export interface Catalog {
  /** The highest version of `name` that satisfies the semver `range`; undefined when there is none. */
  find(name: string, range: string): Blueprint | undefined
  list(): readonly Blueprint[]
}
