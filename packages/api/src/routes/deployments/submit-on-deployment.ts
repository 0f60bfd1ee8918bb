/** A task on a deployment as it was last applied: an operation, a rotation of secrets. Checked in full and recorded durably, as a plan that is sent. */
import { createHash } from 'node:crypto'
import { type Static } from '@sinclair/typebox'
import { digestOf, LichenError, type ActionGraph, type OperationRequest, type RotationRequest, type TaskId } from '@lichen/core'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { callerOf } from '../../auth/authenticate.js'
import type { Context } from '../../context.js'
import { readAppliedPlan, type AppliedPlan } from '../../planning/deployment-operation.js'
import { answerEarlier, recordTask } from '../tasks/submit-task.js'
import type { DeploymentParams } from './deployment-params.js'

/** What is to be done. `graph`: as an engine would build it now. */
export interface Asked {
  readonly kind: 'operation' | 'apply'
  readonly request: { readonly operation: OperationRequest } | { readonly rotation: RotationRequest }
  /** For the audit. */
  readonly what: string
  graph(): Promise<ActionGraph>
}

export interface DeploymentRequest {
  readonly params: Static<typeof DeploymentParams>
  readonly body: { readonly previewDigest?: string | undefined }
  /** The Idempotency-Key. */
  readonly key: string | undefined
  ask(applied: AppliedPlan): Asked
}

/**
 * Records the task and answers it; a repetition gets the first one.
 * @throws OPERATION_NO_DEPLOYMENT, OPERATION_DESTROYED, PREVIEW_MOVED, and what building the graph throws
 */
export async function submitOnDeployment(context: Context, request: FastifyRequest, reply: FastifyReply, { params, body, key: givenKey, ask }: DeploymentRequest, makeTaskId: () => TaskId): Promise<FastifyReply> {
  const { project, deployment } = params
  const { name: by, tokenId } = callerOf(request)
  const requestDigest = createHash('sha256').update(digestOf({ project, deployment, body })).digest('hex')
  const key = givenKey === undefined ? undefined : `${tokenId} ${givenKey}`
  // Whatever has changed since must not turn a repetition into a refusal.
  const earlier = key === undefined ? undefined : await context.store.tasks.findIdempotencyKey(key)
  if (earlier?.requestDigest === requestDigest) return answerEarlier(context, reply, earlier.id)
  const applied = await readAppliedPlan(context, project, deployment)
  const asked = ask(applied)
  const { digest } = await asked.graph()
  const { previewDigest } = body
  if (previewDigest !== undefined && digest !== previewDigest) throw new LichenError('PREVIEW_MOVED', `previewDigest ${previewDigest}: the same preview now has the digest ${digest}; the plan, the catalog, the nodes or their facts have changed`)
  const { kind } = asked
  const event = { type: 'taskAccepted' as const, kind, project, deployment, planDigest: digestOf(applied.plan), ...asked.request, by, ...(previewDigest === undefined ? {} : { previewDigest }) }
  const task = { id: makeTaskId(), kind, project, deployment, plan: applied.text, at: context.now(), requestDigest, event, ...(key === undefined ? {} : { idempotencyKey: key }) }
  return recordTask(context, request, reply, task, asked.what)
}
