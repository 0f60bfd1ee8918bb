/** An operation on a deployment: previewed, or recorded as a task. It is checked in full first, as a plan is. */
import { Type, type Static } from '@sinclair/typebox'
import { countGraph, nodeId, type OperationRequest, type TaskId } from '@lichen/core'
import type { Api } from '../../schema/type-provider.js'
import type { Context } from '../../context.js'
import { buildOperationGraph, readAppliedPlan, type AppliedPlan } from '../../planning/deployment-operation.js'
import { buildTaskIds } from '../../planning/task-id.js'
import { problemAnswers } from '../../problem/problem-document.js'
import { DigestText, NodeIdText } from '../../schema/fields.js'
import { acceptedAnswer, SubmitHeaders } from '../tasks/submit-task.js'
import { DeploymentParams } from './deployment-params.js'
import { submitOnDeployment } from './submit-on-deployment.js'

const Body = Type.Object(
  {
    operation: Type.String({ minLength: 1, maxLength: 100, description: 'Name of the operation.', examples: ['reboot'] }),
    components: Type.Optional(Type.Array(Type.String(), { minItems: 1, maxItems: 10_000, uniqueItems: true, description: 'Only these. Default: every component that has the operation.' })),
    nodes: Type.Optional(Type.Array(NodeIdText, { minItems: 1, maxItems: 10_000, uniqueItems: true, description: 'Only these. Default: all nodes of the components.' })),
    parameters: Type.Optional(Type.Record(Type.String(), Type.Unknown(), { description: 'Checked against the JSON Schema of the operation, which fills in defaults.' })),
    previewDigest: Type.Optional(DigestText('Digest of a preview: the task is refused when the preview would be another one now.')),
  },
  { additionalProperties: false, examples: [{ operation: 'reboot', nodes: ['node-7'] }] },
)

/** Registers POST /v1/deployments/{project}/{deployment}/operations, and its preview. */
export function registerRunOperation(app: Api, context: Context): void {
  const makeTaskId = buildTaskIds(context.now)
  const common = { tags: ['deployments'], params: DeploymentParams }
  app.post(
    '/deployments/:project/:deployment/operations',
    {
      schema: {
        ...common,
        operationId: 'runOperation',
        summary: 'Run an operation on a deployment',
        description: 'A task of kind `operation`, with the plan and on the nodes of the newest apply of the deployment. `202` means: recorded durably, will be carried out; follow it at `Location`.',
        body: Body,
        headers: SubmitHeaders,
        response: { 202: acceptedAnswer, ...problemAnswers(400, 404, 409, 422) },
      },
    },
    async (request, reply) => {
      const ask = (applied: AppliedPlan) => {
        const operation = toOperation(request.body, applied.task)
        return { kind: 'operation' as const, request: { operation }, what: `run ${operation.name}`, graph: () => buildOperationGraph(context, applied.plan, operation) }
      }
      return (await submitOnDeployment(context, request, reply, { params: request.params, body: request.body, key: request.headers['idempotency-key'], ask }, makeTaskId)) as never
    },
  )
  app.post(
    '/deployments/:project/:deployment/operations/preview',
    {
      serializerCompiler: () => (graph) => JSON.stringify(graph),
      schema: {
        ...common,
        operationId: 'previewOperation',
        summary: 'Preview an operation: every action and command, and nothing happens',
        body: Type.Omit(Body, ['previewDigest'], { additionalProperties: false }),
        response: { 200: { description: 'The action graph and its numbers.', content: { 'application/json': { schema: Type.Ref('Preview#') } } }, ...problemAnswers(400, 404, 409, 422) },
      },
    },
    async (request) => {
      const applied = await readAppliedPlan(context, request.params.project, request.params.deployment)
      const graph = await buildOperationGraph(context, applied.plan, toOperation(request.body, applied.task))
      return { counts: countGraph(graph), ...graph } as never
    },
  )
}

const toOperation = ({ operation, components, nodes, parameters }: Static<typeof Body>, base: TaskId): OperationRequest => ({ name: operation, base, components: components ?? null, nodes: nodes?.map(nodeId) ?? null, parameters: parameters ?? {} })
