import { Type } from '@sinclair/typebox'
import { LichenError, taskId, type TaskId } from '@lichen/core'
import type { TaskSummary } from '@lichen/store'
import type { Api } from '../../schema/type-provider.js'
import { fillMissingBody } from '../../body/optional-body.js'
import { callerOf } from '../../auth/authenticate.js'
import type { Context } from '../../context.js'
import { problemAnswers } from '../../problem/problem-document.js'
import { Named, TaskParams } from '../../schema/fields.js'
import { appendRequest } from './append-request.js'
import { TaskSchema, toTaskAnswer } from './task-schemas.js'

const Body = Type.Object({ reason: Type.String({ maxLength: 1000, default: '', description: 'Why, for those who look later.' }) }, { additionalProperties: false, examples: [{ reason: 'wrong version' }] })

/** Registers POST /v1/tasks/{id}/cancel. */
export function registerCancelTask(app: Api, context: Context): void {
  app.post(
    '/tasks/:id/cancel',
    {
      preValidation: fillMissingBody as never,
      schema: {
        operationId: 'cancelTask',
        tags: ['tasks'],
        summary: 'Cancel a task',
        description: 'Nothing new is sent; what runs on nodes is asked to stop. The task ends when every attempt has an outcome. Asking again is fine; 409 when the task has ended.',
        params: TaskParams,
        body: Body,
        response: { 202: Named(TaskSchema), ...problemAnswers(400, 404, 409) },
      },
    },
    async (request, reply) => {
      const id = taskId(request.params.id)
      const { reason } = request.body
      const summary = await cancel(context, id, callerOf(request).name, reason)
      await context.audit.append(request, 'cancel task', id, reason)
      return reply.code(202).header('location', `/v1/tasks/${id}`).send(toTaskAnswer(summary))
    },
  )
}

function cancel(context: Context, id: TaskId, by: string, reason: string): Promise<TaskSummary> {
  return appendRequest(context, id, async (summary) => {
    if (summary.state === 'ended') throw new LichenError('REQUEST_CONFLICT', `task ${id} has ended (${summary.outcome}): there is nothing to cancel`)
    if (summary.state === 'cancelling') return undefined
    return {
      event: { type: 'cancelRequested', by, reason },
      summary: { state: 'cancelling', outcome: null, reason: `cancel requested by ${by}${reason === '' ? '' : `: ${reason}`}`, counts: summary.counts },
    }
  })
}
