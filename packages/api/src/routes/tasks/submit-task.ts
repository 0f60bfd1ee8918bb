/** POST /v1/tasks: checks the plan in full, records the task durably, and only then says so. */
import { createHash } from 'node:crypto'
import { Type } from '@sinclair/typebox'
import { digestOf, type TaskId } from '@lichen/core'
import type { NewTask } from '@lichen/store'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Api } from '../../schema/type-provider.js'
import { callerOf } from '../../auth/authenticate.js'
import type { Context } from '../../context.js'
import { checkPreview, findPlanProblems, nameDeployment } from '../../planning/checked-plan.js'
import { rejectPlan } from '../../planning/plan-input.js'
import { buildTaskIds } from '../../planning/task-id.js'
import { problemAnswers } from '../../problem/problem-document.js'
import { Named } from '../../schema/fields.js'
import { planBody } from '../../schema/plan-body.js'
import { planRoute } from '../plan-route.js'
import { readTaskRequest, TaskRequestQuery, TaskRequestSchema, type TaskRequest } from './task-request.js'
import { buildAcceptedTask, TaskSchema, toTaskAnswer, type TaskAnswer } from './task-schemas.js'

export const SubmitHeaders = Type.Object({
  'idempotency-key': Type.Optional(
    Type.String({ pattern: '^[\\x21-\\x7e]{1,200}$', description: 'Any text of your own: a repeated request with the same key and body answers the first task and makes no second one. Remembered for a day.' }),
  ),
})

/** The answer when a task is recorded. */
export const acceptedAnswer = {
  description: 'Accepted.',
  headers: {
    location: { schema: Type.String({ description: 'Path of the task.' }) },
    'idempotent-replayed': { schema: Type.String({ description: '`true` when the Idempotency-Key was used before: this is the task of then.' }) },
  },
  content: { 'application/json': { schema: Named(TaskSchema) } },
} as const

interface Submission extends TaskRequest {
  readonly project: string
  readonly deployment: string
  readonly planDigest: string
  readonly requestDigest: string
  readonly key: string | undefined
}

/** Registers POST /v1/tasks. */
export function registerSubmitTask(app: Api, context: Context): void {
  const makeTaskId = buildTaskIds(context.now)
  app.post(
    '/tasks',
    {
      ...planRoute(app, context),
      schema: {
        operationId: 'submitTask',
        tags: ['tasks'],
        summary: 'Submit a task: apply, check or destroy a deployment plan',
        description: 'The plan is checked in full first. `202` means: recorded durably, will be carried out; follow it at `Location`.',
        body: planBody(TaskRequestSchema, 'The request as JSON, or a plan by itself as JSON or YAML (then `?kind=` says what to do with it).'),
        querystring: TaskRequestQuery,
        headers: SubmitHeaders,
        response: {
          202: acceptedAnswer,
          ...problemAnswers(400, 404, 409, 413, 415, 422),
        },
      },
    },
    async (request, reply) => {
      const submission = describeSubmission(await readTaskRequest(context.store, request.body, request.query), callerOf(request).tokenId, request.headers['idempotency-key'])
      const earlier = await checkSubmission(context, submission)
      if (earlier !== undefined) return answerEarlier(context, reply, earlier)
      return submit(context, request, reply, submission, makeTaskId())
    },
  )
}

function describeSubmission(request: TaskRequest, tokenId: string, key: string | undefined): Submission {
  const planDigest = digestOf(request.plan)
  const requestDigest = createHash('sha256').update(JSON.stringify([request.kind, planDigest, request.previewDigest ?? null])).digest('hex')
  // Keys of different clients are different keys.
  return { ...request, ...nameDeployment(request.plan), planDigest, requestDigest, key: key === undefined ? undefined : `${tokenId} ${key}` }
}

/**
 * The earlier task when this submission repeats one, as far as that is known without writing. What a first submission changed (the preview has
 * moved, a node has left) must not turn its repetition into a refusal.
 */
async function checkSubmission(context: Context, submission: Submission): Promise<TaskId | undefined> {
  try {
    const problems = await findPlanProblems(context, submission.plan, submission.kind)
    if (problems.length > 0) throw rejectPlan(problems)
    if (submission.previewDigest !== undefined) await checkPreview(context, submission.plan, submission.kind, submission.previewDigest)
    return undefined
  } catch (error) {
    const earlier = submission.key === undefined ? undefined : await context.store.tasks.findIdempotencyKey(submission.key)
    if (earlier?.requestDigest === submission.requestDigest) return earlier.id
    throw error
  }
}

async function submit(context: Context, request: FastifyRequest, reply: FastifyReply, submission: Submission, id: TaskId): Promise<FastifyReply> {
  const { kind, project, deployment, planText, planDigest, previewDigest, requestDigest, key } = submission
  const at = context.now()
  const event = { type: 'taskAccepted' as const, kind, project, deployment, planDigest, by: callerOf(request).name, ...(previewDigest === undefined ? {} : { previewDigest }) }
  return recordTask(context, request, reply, { id, kind, project, deployment, plan: planText, at, requestDigest, event, ...(key === undefined ? {} : { idempotencyKey: key }) }, `submit ${kind}`)
}

/** Records the task, unless its Idempotency-Key has one, and answers it. `what`: for the audit. */
export async function recordTask(context: Context, request: FastifyRequest, reply: FastifyReply, task: NewTask, what: string): Promise<FastifyReply> {
  const { id, kind, project, deployment, at } = task
  const created = await context.store.tasks.create(task)
  context.announcer.ring()
  if (!created.isNew) return answerEarlier(context, reply, created.id)
  context.metrics.tasksAccepted.inc({ kind })
  context.audit.appendLater(request, what, id, `deployment ${project}/${deployment}`)
  return answer(reply, buildAcceptedTask({ id, kind, project, deployment, at }), false)
}

/** Answers the task that an Idempotency-Key made before. */
export const answerEarlier = async (context: Context, reply: FastifyReply, id: TaskId): Promise<FastifyReply> => answer(reply, await readAccepted(context, id), true)

async function readAccepted(context: Context, id: TaskId): Promise<TaskAnswer> {
  const summary = await context.store.tasks.readSummary(id)
  if (summary === undefined) throw new Error(`the Idempotency-Key names task ${id}, which is not there`)
  return toTaskAnswer(summary)
}

function answer(reply: FastifyReply, task: TaskAnswer, isReplayed: boolean): FastifyReply {
  if (isReplayed) reply.header('idempotent-replayed', 'true')
  return reply.code(202).header('location', `/v1/tasks/${task.id}`).send(task)
}
