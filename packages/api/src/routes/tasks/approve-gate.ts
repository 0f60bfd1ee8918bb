import { Type } from '@sinclair/typebox'
import { actionId, taskId } from '@lichen/core'
import type { Api } from '../../schema/type-provider.js'
import { fillMissingBody } from '../../body/optional-body.js'
import type { Context } from '../../context.js'
import { problemAnswers } from '../../problem/problem-document.js'
import { ActionIdText, Named, TaskParams } from '../../schema/fields.js'
import { askTask } from './ask-task.js'
import { ReasonField, TaskSchema } from './task-schemas.js'

const Body = Type.Object(
  {
    gate: Type.Optional(ActionIdText('Id of the gate, as `gates` of the task has it. May be left out when only one waits.', 'etcd/approval')),
    reason: ReasonField('the canary looks good'),
  },
  { additionalProperties: false, examples: [{ gate: 'etcd/approval', reason: 'the canary looks good' }] },
)

/** Registers POST /v1/tasks/{id}/approve. */
export function registerApproveGate(app: Api, context: Context): void {
  app.post(
    '/tasks/:id/approve',
    {
      preValidation: fillMissingBody as never,
      schema: {
        operationId: 'approveGate',
        tags: ['tasks'],
        summary: 'Approve what a task waits to begin',
        description: 'Opens a gate that waits for a person (`approve: true` on a component or a wave of the plan). An approval is never given in advance: 409 `TASK_GATE_NOT_WAITING` before the gate waits, and when it is open already.',
        params: TaskParams,
        body: Body,
        response: { 202: Named(TaskSchema), ...problemAnswers(400, 404, 409) },
      },
    },
    (request, reply) => {
      const { gate, reason } = request.body
      const asked = gate === undefined ? {} : { gate: actionId(gate) }
      return askTask(context, request, reply, taskId(request.params.id), (by) => ({ type: 'approve', by, reason, ...asked }), { what: 'approve gate', detail: [gate, reason].filter(Boolean).join('; ') })
    },
  )
}
