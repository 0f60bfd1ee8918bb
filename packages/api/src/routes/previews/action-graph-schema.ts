import { Type } from '@sinclair/typebox'
import { Choice } from '../../schema/fields.js'

const SpecSchema = Type.Unsafe<unknown>({ type: 'object', additionalProperties: true, description: 'What the command does, by its kind. Secrets and outputs of earlier actions stand here as references: `⟦secret:NAME⟧`, `⟦output:ACTION#NAME⟧`.' })

/** An action graph as answers carry it. */
export const ActionGraphSchema = Type.Object(
  {
    kind: Choice(['apply', 'check', 'destroy'], 'What the task does.'),
    project: Type.String(),
    deployment: Type.String(),
    actions: Type.Array(
      Type.Object({
        id: Type.String(),
        component: Type.String(),
        name: Type.String(),
        node: Type.String(),
        mode: Choice(['do', 'check'], 'How its commands run.'),
        after: Type.Array(Type.String()),
        commands: Type.Array(Type.Object({ name: Type.String(), kind: Type.String(), timeoutMs: Type.Integer(), spec: SpecSchema })),
        timeoutMs: Type.Integer(),
        retry: Type.Object({ attempts: Type.Integer(), backoffMs: Type.Number() }),
      }),
      { description: 'Each action after those it depends on.' },
    ),
    secrets: Type.Array(Type.Object({ name: Type.String(), length: Type.Integer() }), { description: 'Secrets that are generated once for the deployment; their names alone.' }),
    placement: Type.Record(Type.String(), Type.Array(Type.String()), { description: 'Node group → nodes chosen.' }),
    rollout: Type.Object({ maxParallelNodes: Type.Integer(), maxFailures: Type.Integer() }),
    digest: Type.String({ description: 'SHA-256 over all of it: name it as `previewDigest` when submitting.' }),
  },
  { $id: 'ActionGraph', description: 'What a plan means on these nodes, in full.' },
)
