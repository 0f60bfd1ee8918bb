import { Type } from '@sinclair/typebox'
import { taskId } from '@lichen/core'
import type { Api } from '../../schema/type-provider.js'
import { fillMissingBody } from '../../body/optional-body.js'
import type { Context } from '../../context.js'
import { problemAnswers } from '../../problem/problem-document.js'
import { Named, TaskParams } from '../../schema/fields.js'
import { askTask } from './ask-task.js'
import { ReasonBody, TaskSchema } from './task-schemas.js'

const NoFields = Type.Object({}, { additionalProperties: false, description: 'Nothing is needed.', examples: [{}] })

/** Registers POST /v1/tasks/{id}/pause and POST /v1/tasks/{id}/resume. */
export function registerPauseTask(app: Api, context: Context): void {
  app.post(
    '/tasks/:id/pause',
    {
      preValidation: fillMissingBody as never,
      schema: {
        operationId: 'pauseTask',
        tags: ['tasks'],
        summary: 'Pause a task',
        description: 'Nothing new is begun until it is resumed; what runs on nodes goes on to its end. Asking again is fine; 409 `TASK_ENDED` when the task has ended or is being cancelled.',
        params: TaskParams,
        body: ReasonBody('the switch in rack 4 is being replaced'),
        response: { 202: Named(TaskSchema), ...problemAnswers(400, 404, 409) },
      },
    },
    (request, reply) => {
      const { reason } = request.body
      return askTask(context, request, reply, taskId(request.params.id), (by) => ({ type: 'pause', by, reason }), { what: 'pause task', detail: reason })
    },
  )
  app.post(
    '/tasks/:id/resume',
    {
      preValidation: fillMissingBody as never,
      schema: {
        operationId: 'resumeTask',
        tags: ['tasks'],
        summary: 'Resume a paused task',
        description: 'It goes on where it was. 409 `TASK_NOT_PAUSED` when it is not paused.',
        params: TaskParams,
        body: NoFields,
        response: { 202: Named(TaskSchema), ...problemAnswers(400, 404, 409) },
      },
    },
    (request, reply) => askTask(context, request, reply, taskId(request.params.id), (by) => ({ type: 'resume', by }), { what: 'resume task', detail: '' }),
  )
}
