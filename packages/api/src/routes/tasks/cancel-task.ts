import { taskId } from '@lichen/core'
import type { Api } from '../../schema/type-provider.js'
import { fillMissingBody } from '../../body/optional-body.js'
import type { Context } from '../../context.js'
import { problemAnswers } from '../../problem/problem-document.js'
import { Named, TaskParams } from '../../schema/fields.js'
import { askTask } from './ask-task.js'
import { ReasonBody, TaskSchema } from './task-schemas.js'

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
        description: 'Nothing new is sent; what runs on nodes is asked to stop. The task ends when every attempt has an outcome. Asking again is fine; 409 `TASK_ENDED` when the task has ended.',
        params: TaskParams,
        body: ReasonBody('wrong version'),
        response: { 202: Named(TaskSchema), ...problemAnswers(400, 404, 409) },
      },
    },
    (request, reply) => {
      const { reason } = request.body
      return askTask(context, request, reply, taskId(request.params.id), (by) => ({ type: 'cancel', by, reason }), { what: 'cancel task', detail: reason })
    },
  )
}
