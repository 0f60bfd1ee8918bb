/**
 * The deployment plan as users write it: one TypeBox schema gives the type, the validation and the OpenAPI document.
 */
import { Type, type Static } from '@sinclair/typebox'

/** A DNS label: what components, groups, plans and nodes may be called (RFC 1123, at most 63 characters). */
export const namePattern = '^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$'
const Name = (description: string) => Type.String({ pattern: namePattern, description })
const Labels = (description: string) => Type.Record(Type.String({ pattern: '^[A-Za-z0-9][-A-Za-z0-9_./]{0,62}$' }), Type.String({ maxLength: 253 }), { description, additionalProperties: false })

const Share = (description: string) => Type.Union([Type.Integer({ minimum: 1, maximum: 10_000 }), Type.String({ pattern: '^([1-9][0-9]?|100)%$' })], { description })

export const WaveSchema = Type.Object(
  {
    nodes: Type.Optional(Share('How many nodes of the group: a number, or a percentage as text (`25%`, rounded up). Absent: all that are left, or with `by` all that are left of one value.')),
    approve: Type.Optional(Type.Boolean({ description: 'A person must approve before the wave after this one begins.' })),
    maxFailures: Type.Optional(Type.Integer({ minimum: 0, description: 'How many actions of this wave may fail and the next one still begins. Default: 0.' })),
  },
  { additionalProperties: false },
)

const waves = {
  waves: Type.Optional(Type.Array(WaveSchema, { minItems: 1, maxItems: 100, description: 'Each component goes over the nodes of its group in waves: the next one begins when the actions and checks of the one before are complete. The last entry repeats until no node is left; a first one with `nodes: 1` is a canary.' })),
  by: Type.Optional(Type.String({ pattern: '^[A-Za-z0-9][-A-Za-z0-9_./]{0,62}$', description: 'A node label that names failure domains (zone, rack): no wave has nodes of two values of it.' })),
}

export const GroupRolloutSchema = Type.Object(
  {
    maxParallelNodes: Type.Optional(Type.Integer({ minimum: 1, maximum: 10_000, description: 'On how many nodes of this group actions may run at once.' })),
    maxFailures: Type.Optional(Type.Integer({ minimum: 0, description: 'How many actions of this group may fail before nothing new of it is started.' })),
    ...waves,
  },
  { additionalProperties: false },
)

export const NodeGroupSchema = Type.Object(
  {
    name: Name('Name of the group, used by `on`.'),
    select: Type.Optional(Labels('Labels that a node must carry to be chosen; none means any node.')),
    count: Type.Optional(Type.Integer({ minimum: 1, maximum: 10_000, description: 'How many nodes to choose. Absent: every node that matches (at least one).' })),
    rollout: Type.Optional(GroupRolloutSchema),
  },
  { additionalProperties: false },
)

export const ComponentSchema = Type.Object(
  {
    name: Name('Name of the component.'),
    blueprint: Type.String({ pattern: '^[a-z0-9][-a-z0-9]*(@.{1,64})?$', description: 'Blueprint and semver range, e.g. `keystone@^1`.' }),
    on: Name('The node group it runs on.'),
    with: Type.Optional(Type.Record(Type.String(), Type.Unknown(), { description: 'Parameters, checked against the JSON Schema of the blueprint.' })),
    uses: Type.Optional(Type.Record(Type.String(), Name('A component.'), { description: 'Relations: name of the requirement → component that provides it.' })),
    after: Type.Optional(Type.Array(Name('A component.'), { description: 'Components that must be complete first, beyond those of `uses`.' })),
    approve: Type.Optional(Type.Boolean({ description: 'A person must approve before anything of this component begins.' })),
  },
  { additionalProperties: false },
)

export const RolloutSchema = Type.Object(
  {
    maxParallelNodes: Type.Optional(Type.Integer({ minimum: 1, maximum: 10_000, description: 'On how many nodes actions may run at once. Default: 50.' })),
    maxFailures: Type.Optional(Type.Integer({ minimum: 0, description: 'How many actions may fail before nothing new is started. Default: 0; when groups or waves say how many, only they do.' })),
    ...waves,
    trustUnchanged: Type.Optional(Type.Boolean({ description: 'Do not look whether the effects of unchanged actions are still there. Default: each node is asked once.' })),
  },
  { additionalProperties: false },
)

export const LimitsSchema = Type.Object(
  {
    queuedS: Type.Optional(Type.Integer({ minimum: 1, maximum: 31_536_000, description: 'How long an action that could begin may wait until it does, whatever it waits for (its node, its turn). Default: ten minutes for a node out of reach, else no limit.' })),
    taskS: Type.Optional(Type.Integer({ minimum: 1, maximum: 31_536_000, description: 'How long the task may take in all; then it is cancelled and ends `timedOut`. Default: no limit.' })),
  },
  { additionalProperties: false },
)

export const PlanSchema = Type.Object(
  {
    apiVersion: Type.Literal('lichen.dev/v1'),
    kind: Type.Literal('DeploymentPlan'),
    metadata: Type.Object(
      {
        name: Name('Name of the deployment; with the project it says which deployment a plan belongs to.'),
        project: Type.Optional(Name('Project. Default: `default`.')),
        labels: Type.Optional(Labels('Labels of the deployment, for lists and searches.')),
      },
      { additionalProperties: false },
    ),
    nodes: Type.Array(NodeGroupSchema, { minItems: 1, maxItems: 1000 }),
    components: Type.Array(ComponentSchema, { minItems: 1, maxItems: 10_000 }),
    rollout: Type.Optional(RolloutSchema),
    limits: Type.Optional(LimitsSchema),
  },
  { $id: 'DeploymentPlan', additionalProperties: false },
)

/** A deployment plan that has the right shape; its meaning is checked by `checkPlan`. */
export type Plan = Static<typeof PlanSchema>
export type NodeGroup = Static<typeof NodeGroupSchema>
export type Component = Static<typeof ComponentSchema>

/** Largest plan accepted, in bytes of its text. Ten thousand components fit in 2 MiB; more is a mistake or an attack. */
export const maxPlanSizeBytes = 4 * 1024 * 1024
