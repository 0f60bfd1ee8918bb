/**
 * The deployment plan as users write it: one TypeBox schema gives the type, the validation and the OpenAPI document.
 */
import { Type, type Static } from '@sinclair/typebox'

/** A DNS label: what components, groups, plans and nodes may be called (RFC 1123, at most 63 characters). */
export const namePattern = '^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$'
const Name = (description: string) => Type.String({ pattern: namePattern, description })
const Labels = (description: string) => Type.Record(Type.String({ pattern: '^[A-Za-z0-9][-A-Za-z0-9_./]{0,62}$' }), Type.String({ maxLength: 253 }), { description, additionalProperties: false })

export const NodeGroupSchema = Type.Object(
  {
    name: Name('Name of the group, used by `on`.'),
    select: Type.Optional(Labels('Labels that a node must carry to be chosen; none means any node.')),
    count: Type.Optional(Type.Integer({ minimum: 1, maximum: 10_000, description: 'How many nodes to choose. Absent: every node that matches (at least one).' })),
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
  },
  { additionalProperties: false },
)

export const RolloutSchema = Type.Object(
  {
    maxParallelNodes: Type.Optional(Type.Integer({ minimum: 1, maximum: 10_000, description: 'On how many nodes actions may run at once. Default: 50.' })),
    maxFailures: Type.Optional(Type.Integer({ minimum: 0, description: 'How many actions may fail before nothing new is started. Default: 0.' })),
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
  },
  { $id: 'DeploymentPlan', additionalProperties: false },
)

/** A deployment plan that has the right shape; its meaning is checked by `checkPlan`. */
export type Plan = Static<typeof PlanSchema>
export type NodeGroup = Static<typeof NodeGroupSchema>
export type Component = Static<typeof ComponentSchema>

/** Largest plan accepted, in bytes of its text. Ten thousand components fit in 2 MiB; more is a mistake or an attack. */
export const maxPlanSizeBytes = 4 * 1024 * 1024
