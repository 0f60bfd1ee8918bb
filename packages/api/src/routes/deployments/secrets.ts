/** The generated secrets of a deployment: named, and given new values by an apply of the plan that it has. Values are never told here. */
import { Type, type Static } from '@sinclair/typebox'
import { countGraph, type ActionGraph, type RotationRequest, type TaskId } from '@lichen/core'
import type { Api } from '../../schema/type-provider.js'
import type { Context } from '../../context.js'
import { buildGraphNow } from '../../planning/checked-plan.js'
import { readAppliedPlan, readSecrets, type AppliedPlan } from '../../planning/deployment-operation.js'
import { rejectPlan } from '../../planning/plan-input.js'
import { buildTaskIds } from '../../planning/task-id.js'
import { problemAnswers } from '../../problem/problem-document.js'
import { DigestText, Named } from '../../schema/fields.js'
import { acceptedAnswer, SubmitHeaders } from '../tasks/submit-task.js'
import { DeploymentParams } from './deployment-params.js'
import { submitOnDeployment } from './submit-on-deployment.js'

const Body = Type.Object(
  {
    secrets: Type.Optional(Type.Array(Type.String({ minLength: 1, maxLength: 300 }), { minItems: 1, maxItems: 10_000, uniqueItems: true, description: 'Only these. Default: all that can be rotated.' })),
    previewDigest: Type.Optional(DigestText('Digest of a preview: the task is refused when the preview would be another one now.')),
  },
  { additionalProperties: false, examples: [{ secrets: ['keystone.adminPassword'] }] },
)

export const SecretsSchema = Type.Object(
  {
    items: Type.Array(
      Type.Object({
        name: Type.String({ examples: ['keystone.adminPassword', 'database.keystone.database.password'], description: 'COMPONENT.NAME, or PROVIDER.CONSUMER.RELATION.NAME of one that two components share.' }),
        version: Type.Integer({ description: 'How often it was rotated, and one more.' }),
        canRotate: Type.Boolean(),
      }),
      { description: 'In order of their names.' },
    ),
  },
  { $id: 'DeploymentSecrets', description: 'Generated secrets of a deployment, without their values.' },
)

/** Registers GET /v1/deployments/{project}/{deployment}/secrets, POST …/secrets/rotate, and its preview. */
export function registerSecrets(app: Api, context: Context): void {
  const makeTaskId = buildTaskIds(context.now)
  const common = { tags: ['deployments'], params: DeploymentParams }
  app.get(
    '/deployments/:project/:deployment/secrets',
    { schema: { ...common, operationId: 'listSecrets', summary: 'List the generated secrets of a deployment, without their values', response: { 200: Named(SecretsSchema), ...problemAnswers(400, 404, 409, 422) } } },
    async (request) => {
      const { plan } = await readAppliedPlan(context, request.params.project, request.params.deployment)
      return { items: (await readSecrets(context, plan)).map(({ name, version, isFixed }) => ({ name, version, canRotate: !isFixed })) }
    },
  )
  app.post(
    '/deployments/:project/:deployment/secrets/rotate',
    {
      schema: {
        ...common,
        operationId: 'rotateSecrets',
        summary: 'Give secrets of a deployment new values',
        description: 'A task of kind `apply` with the plan of the newest apply of the deployment. Whatever names one of the secrets runs again, with a new value. `202` means: recorded durably, will be carried out; follow it at `Location`.',
        body: Body,
        headers: SubmitHeaders,
        response: { 202: acceptedAnswer, ...problemAnswers(400, 404, 409, 422) },
      },
    },
    async (request, reply) => {
      const ask = (applied: AppliedPlan) => {
        const rotation = toRotation(request.body, applied.task)
        return { kind: 'apply' as const, request: { rotation }, what: 'rotate secrets', graph: () => buildRotationGraph(context, applied, rotation) }
      }
      return (await submitOnDeployment(context, request, reply, { params: request.params, body: request.body, key: request.headers['idempotency-key'], ask }, makeTaskId)) as never
    },
  )
  app.post(
    '/deployments/:project/:deployment/secrets/rotate/preview',
    {
      serializerCompiler: () => (graph) => JSON.stringify(graph),
      schema: {
        ...common,
        operationId: 'previewRotation',
        summary: 'Preview a rotation of secrets: every action and command, and nothing happens',
        body: Type.Omit(Body, ['previewDigest'], { additionalProperties: false }),
        response: { 200: { description: 'The action graph and its numbers.', content: { 'application/json': { schema: Type.Ref('Preview#') } } }, ...problemAnswers(400, 404, 409, 422) },
      },
    },
    async (request) => {
      const applied = await readAppliedPlan(context, request.params.project, request.params.deployment)
      const graph = await buildRotationGraph(context, applied, toRotation(request.body, applied.task))
      return { counts: countGraph(graph), ...graph } as never
    },
  )
}

const toRotation = ({ secrets }: Static<typeof Body>, base: TaskId): RotationRequest => ({ base, secrets: secrets ?? null })

async function buildRotationGraph(context: Context, { plan }: AppliedPlan, rotation: RotationRequest): Promise<ActionGraph> {
  const graph = await buildGraphNow(context, plan, 'apply', rotation)
  if (!graph.ok) throw rejectPlan(graph.problems)
  return graph.value
}
