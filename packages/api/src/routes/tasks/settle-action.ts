import { Type } from '@sinclair/typebox'
import { actionId, taskId } from '@lichen/core'
import type { Api } from '../../schema/type-provider.js'
import type { Context } from '../../context.js'
import { problemAnswers } from '../../problem/problem-document.js'
import { ActionIdText, Choice, Named, TaskParams } from '../../schema/fields.js'
import { askTask } from './ask-task.js'
import { settleAnswers, TaskSchema } from './task-schemas.js'

const Body = Type.Object(
  {
    action: ActionIdText('Id of the action whose outcome is unknown.', 'keystone/migrate@node-2'),
    answer: Choice(settleAnswers, '`succeeded`: its effect is there, go on. `failed`: it is not; what comes after is skipped. `runAgain`: it may run once more.'),
    // Whoever looks later wants to know on what grounds.
    reason: Type.String({ minLength: 1, maxLength: 1000, description: 'How you know: kept with the task.', examples: ['the schema version in the database is 42'] }),
  },
  { additionalProperties: false, examples: [{ action: 'keystone/migrate@node-2', answer: 'succeeded', reason: 'the schema version in the database is 42' }] },
)

/** Registers POST /v1/tasks/{id}/settle. */
export function registerSettleAction(app: Api, context: Context): void {
  app.post(
    '/tasks/:id/settle',
    {
      schema: {
        operationId: 'settleAction',
        tags: ['tasks'],
        summary: 'Say what became of an action whose outcome is unknown',
        description: 'An action that was interrupted and cannot be checked is `unknown`: nobody but a person can tell whether its effect happened, and what comes after it waits for the answer. 409 `TASK_NOT_UNKNOWN` when somebody has answered already.',
        params: TaskParams,
        body: Body,
        response: { 202: Named(TaskSchema), ...problemAnswers(400, 404, 409) },
      },
    },
    (request, reply) => {
      const { action, answer, reason } = request.body
      return askTask(context, request, reply, taskId(request.params.id), (by) => ({ type: 'settle', by, action: actionId(action), answer, reason }), { what: `settle action as ${answer}`, detail: `${action}; ${reason}` })
    },
  )
}
