/** An operation on a deployment: previewed, or recorded as a task. It is checked in full first, as a plan is. */
import { createHash } from 'node:crypto'
import { Type, type Static } from '@sinclair/typebox'
import { countGraph, digestOf, LichenError, nodeId, type OperationRequest, type TaskId } from '@lichen/core'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Api } from '../../schema/type-provider.js'
import { callerOf } from '../../auth/authenticate.js'
import type { Context } from '../../context.js'
import { buildOperationGraph, readAppliedPlan } from '../../planning/deployment-operation.js'
import { buildTaskIds } from '../../planning/task-id.js'
import { problemAnswers } from '../../problem/problem-document.js'
import { DigestText, NodeIdText } from '../../schema/fields.js'
import { acceptedAnswer, answerEarlier, recordTask, SubmitHeaders } from '../tasks/submit-task.js'
import { DeploymentParams } from './deployment-params.js'

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

type Params = Static<typeof DeploymentParams>

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
    async (request, reply) => (await run(context, request, reply, request.params, request.body, request.headers['idempotency-key'], makeTaskId)) as never,
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

async function run(context: Context, request: FastifyRequest, reply: FastifyReply, { project, deployment }: Params, body: Static<typeof Body>, givenKey: string | undefined, makeTaskId: () => TaskId): Promise<FastifyReply> {
  const { name: by, tokenId } = callerOf(request)
  const requestDigest = createHash('sha256').update(digestOf({ project, deployment, body })).digest('hex')
  const key = givenKey === undefined ? undefined : `${tokenId} ${givenKey}`
  // Whatever has changed since must not turn a repetition into a refusal.
  const earlier = key === undefined ? undefined : await context.store.tasks.findIdempotencyKey(key)
  if (earlier?.requestDigest === requestDigest) return answerEarlier(context, reply, earlier.id)
  const applied = await readAppliedPlan(context, project, deployment)
  const operation = toOperation(body, applied.task)
  const { digest } = await buildOperationGraph(context, applied.plan, operation)
  const { previewDigest } = body
  if (previewDigest !== undefined && digest !== previewDigest) throw new LichenError('PREVIEW_MOVED', `previewDigest ${previewDigest}: the same preview now has the digest ${digest}; the plan, the catalog, the nodes or their facts have changed`)
  const event = { type: 'taskAccepted' as const, kind: 'operation' as const, project, deployment, planDigest: digestOf(applied.plan), operation, by, ...(previewDigest === undefined ? {} : { previewDigest }) }
  const task = { id: makeTaskId(), kind: 'operation' as const, project, deployment, plan: applied.text, at: context.now(), requestDigest, event, ...(key === undefined ? {} : { idempotencyKey: key }) }
  return recordTask(context, request, reply, task, `run ${operation.name}`)
}
